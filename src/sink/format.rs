//! How numbers are spelt for people: durations, sizes, counts, histograms.

use std::fmt;

/// Nanoseconds with at most four significant digits: `17ns`, `12.3µs`,
/// `1.204ms`, `2m3.1s`, `1h2m3s`. Filters read the same spelling.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Nanos(pub u64);

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str, u64); 3] = [
            (1_000, "µs", 1_000),
            (1_000_000, "ms", 1_000),
            (1_000_000_000, "s", 60),
        ];
        let ns = self.0;
        if ns < 1_000 {
            return write!(f, "{ns}ns");
        }
        for (unit, name, most) in UNITS {
            if let Some(number) = four_digits(ns, unit, most) {
                return write!(f, "{number}{name}");
            }
        }
        let tenths = ns / 100_000_000 + u64::from(ns % 100_000_000 >= 50_000_000);
        if tenths < 36_000 {
            let (minutes, tenths) = (tenths / 600, tenths % 600);
            write!(f, "{minutes}m{}", tenths / 10)?;
            if !tenths.is_multiple_of(10) {
                write!(f, ".{}", tenths % 10)?;
            }
            return f.write_str("s");
        }
        let seconds = ns / 1_000_000_000 + u64::from(ns % 1_000_000_000 >= 500_000_000);
        let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
        write!(f, "{hours}h{minutes}m{}s", seconds % 60)
    }
}

/// `value / unit` in four digits, rounded, without trailing zeros; `None` when
/// that is `most` or more.
fn four_digits(value: u64, unit: u64, most: u64) -> Option<String> {
    let (value, unit, most) = (u128::from(value), u128::from(unit), u128::from(most));
    for (decimals, scale, below) in [(3, 1000, 10), (2, 100, 100), (1, 10, most)] {
        let rounded = (value * scale + unit / 2) / unit;
        if rounded < below.min(most) * scale {
            let (whole, part) = (rounded / scale, rounded % scale);
            let text = format!("{whole}.{part:0decimals$}");
            return Some(text.trim_end_matches('0').trim_end_matches('.').to_owned());
        }
    }
    None
}

/// A number of bytes: `64 B`, `1.5 KiB`, `3.25 GiB`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 5] = [
            (1 << 10, "KiB"),
            (1 << 20, "MiB"),
            (1 << 30, "GiB"),
            (1 << 40, "TiB"),
            (1 << 50, "PiB"),
        ];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        for (unit, name) in UNITS {
            if let Some(number) = four_digits(self.0, unit, 1024) {
                return write!(f, "{number} {name}");
            }
        }
        write!(f, "{} PiB", self.0 >> 50)
    }
}

/// A count with its thousands apart: `1,234,567`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Count(pub u64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut text = String::with_capacity(digits.len() * 2);
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

/// A histogram one line high: a bar per bucket, the tallest full; `·` where
/// there is nothing.
pub fn bars(buckets: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = u128::from(buckets.iter().copied().max().unwrap_or(0).max(1));
    buckets
        .iter()
        .map(|&count| match count {
            0 => '·',
            count => {
                let height = (u128::from(count) * 8).div_ceil(most);
                BARS[usize::try_from(height - 1).unwrap_or(7).min(7)]
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::{ExprKind, Literal, parse};

    #[test]
    fn durations() {
        for (ns, text) in [
            (0, "0ns"),
            (999, "999ns"),
            (1_000, "1µs"),
            (12_300, "12.3µs"),
            (12_345, "12.35µs"),
            (999_940, "999.9µs"),
            (999_960, "1ms"),
            (1_204_000, "1.204ms"),
            (9_999_600, "10ms"),
            (1_500_000_000, "1.5s"),
            (59_994_000_000, "59.99s"),
            (59_996_000_000, "1m0s"),
            (123_100_000_000, "2m3.1s"),
            (3_599_960_000_000, "1h0m0s"),
            (3_723_400_000_000, "1h2m3s"),
            (u64::MAX, "5124095h34m34s"),
        ] {
            assert_eq!(Nanos(ns).to_string(), text, "{ns}");
        }
    }

    #[test]
    fn a_filter_reads_the_durations_that_are_printed() {
        let mut ns = 1;
        while ns < i64::MAX as u64 / 3 {
            let text = Nanos(ns).to_string();
            let ExprKind::Literal(Literal::Duration(read)) = parse(&text).unwrap().kind else {
                panic!("{text}");
            };
            let off = read.abs_diff(ns) as f64 / ns as f64;
            assert!(off < 0.001, "{ns} is printed as {text}");
            ns = ns * 7 / 3 + 1;
        }
    }

    #[test]
    fn sizes_and_counts() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (1_048_575, "1 MiB"),
            (3_489_660_928, "3.25 GiB"),
            (u64::MAX, "16383 PiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text, "{bytes}");
        }
        assert_eq!(Count(7).to_string(), "7");
        assert_eq!(Count(1_234_567).to_string(), "1,234,567");
        assert_eq!(format!("{:>6}", Count(999)), "   999");
    }

    #[test]
    fn bars_are_relative_to_the_tallest() {
        assert_eq!(bars(&[0, 1, 50, 100]), "·▁▄█");
        assert_eq!(bars(&[u64::MAX, 1]), "█▁");
        assert_eq!(bars(&[0, 0]), "··");
    }
}
