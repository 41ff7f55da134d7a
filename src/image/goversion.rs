//! The version of Go that built a program, as the program states it.

use std::fmt;

/// A Go version. Release names, `devel` names and vendors' own names are all
/// seen: `go1.26.8`, `go1.21rc2`, `devel go1.24-1a2b3c4 Tue …`,
/// `go1.26.6-X:nogreenteagc`, `go1.23.1 X:nocoverageredesign`,
/// `go1.22-20231128-RC02 cl/586117301 +6111acc8e6 X:fieldtrack`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GoVersion {
    text: String,
    minor: Option<u32>,
    patch: Option<u32>,
    experiments: Vec<String>,
}

impl GoVersion {
    /// Reads a version text; anything is accepted, what it does not tell is `None`.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let numbers = text
            .split(|c: char| c.is_whitespace() || c == '-' || c == '+')
            .find_map(|word| word.strip_prefix("go1."))
            .unwrap_or_default();
        let (minor, rest) = leading_number(numbers);
        let patch = rest.strip_prefix('.').and_then(|r| leading_number(r).0);
        let experiments = text
            .split_once("X:")
            .map(|(_, list)| list.split_whitespace().next().unwrap_or_default())
            .unwrap_or_default();
        Self {
            text: text.to_owned(),
            minor,
            patch,
            experiments: experiments
                .split(',')
                .filter(|e| !e.is_empty())
                .map(str::to_owned)
                .collect(),
        }
    }

    /// As the program states it; `unknown` when it states nothing.
    pub fn text(&self) -> &str {
        if self.text.is_empty() {
            "unknown"
        } else {
            &self.text
        }
    }

    /// The 26 of `go1.26.8`.
    pub fn minor(&self) -> Option<u32> {
        self.minor
    }

    /// The 8 of `go1.26.8`; `None` for `go1.21`, `go1.21rc2` and vendors' dates.
    pub fn patch(&self) -> Option<u32> {
        self.patch
    }

    /// GOEXPERIMENT settings that differ from the version's default.
    pub fn experiments(&self) -> &[String] {
        &self.experiments
    }
}

impl fmt::Display for GoVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

fn leading_number(text: &str) -> (Option<u32>, &str) {
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    (digits.parse().ok(), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_grammar_seen() {
        let cases = [
            ("go1.26.8", Some(26), Some(8), vec![]),
            ("go1.21", Some(21), None, vec![]),
            ("go1.21rc2", Some(21), None, vec![]),
            (
                "go1.26.6-X:nogreenteagc",
                Some(26),
                Some(6),
                vec!["nogreenteagc"],
            ),
            (
                "go1.23.1 X:nocoverageredesign",
                Some(23),
                Some(1),
                vec!["nocoverageredesign"],
            ),
            (
                "go1.22-20231128-RC02 cl/586117301 +6111acc8e6 X:fieldtrack,boringcrypto",
                Some(22),
                None,
                vec!["fieldtrack", "boringcrypto"],
            ),
            ("go1.25-20250209 +abc", Some(25), None, vec![]),
            (
                "devel go1.24-1a2b3c4 Tue Oct 1 2024",
                Some(24),
                None,
                vec![],
            ),
            ("devel +1a2b3c4", None, None, vec![]),
            ("", None, None, vec![]),
            ("go2.1", None, None, vec![]),
            ("go1.99999999999", None, None, vec![]),
        ];
        for (text, minor, patch, experiments) in cases {
            let version = GoVersion::parse(text);
            assert_eq!(version.minor(), minor, "{text}");
            assert_eq!(version.patch(), patch, "{text}");
            assert_eq!(version.experiments(), experiments, "{text}");
        }
    }
}
