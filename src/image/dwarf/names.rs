//! Go's spelling of names: the package of a function, a type as `%T` prints it.

/// The import path of a function or variable as the linker names it:
/// `net/http.(*conn).serve` → `net/http`. Empty when there is none.
///
/// The path ends at the first `.` after the last `/` that stands before any
/// bracket (type arguments and receivers have slashes and dots of their own);
/// a `.` in the path's last element is escaped as `%2e`
/// (cmd/internal/objabi/path.go).
pub fn package_of(name: &str) -> &str {
    let plain = name.find(['[', '(']).unwrap_or(name.len());
    let head = name.get(..plain).unwrap_or(name);
    let slash = head.rfind('/').map_or(0, |at| at + 1);
    let Some(dot) = head.get(slash..).and_then(|rest| rest.find('.')) else {
        return "";
    };
    name.get(..slash + dot).unwrap_or("")
}

/// A type as Go prints it: package names instead of import paths, `%2e`
/// decoded, the compiler's `go.shape.` left out. Text in quotes (struct tags)
/// is kept as it is. `package` may know a package's name by its import path
/// where that is not the path's last element.
pub fn short_type_name(full: &str, package: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(full.len());
    let mut rest = full;
    while let Some(first) = rest.chars().next() {
        if first == '"' {
            let end = quoted(rest);
            let (tag, more) = rest.split_at(end);
            out.push_str(tag);
            rest = more;
        } else if is_path(first) {
            let end = rest.find(|c| !is_path(c)).unwrap_or(rest.len());
            let (word, more) = rest.split_at(end);
            push_word(&mut out, word, package);
            rest = more;
        } else {
            out.push(first);
            rest = rest.get(first.len_utf8()..).unwrap_or("");
        }
    }
    out
}

/// Bytes up to and with the closing quote of a Go string literal.
fn quoted(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn is_path(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '/' | '.' | '%' | '-' | '~' | '+' | '·' | '@')
}

fn push_word(out: &mut String, word: &str, package: &dyn Fn(&str) -> Option<String>) {
    // "..." of a variadic function, `<-` of a channel (its `-` alone).
    let word = match word.strip_prefix("...") {
        Some(rest) => {
            out.push_str("...");
            rest
        }
        None => word,
    };
    let word = word.strip_prefix("go.shape.").unwrap_or(word);
    let slash = word.rfind('/').map_or(0, |at| at + 1);
    let (dir, last) = word.split_at(slash);
    let Some(dot) = last.find('.') else {
        out.push_str(last);
        return;
    };
    let (name, ident) = last.split_at(dot);
    let path = word.get(..dir.len() + name.len()).unwrap_or(word);
    match package(path) {
        Some(known) => out.push_str(&known),
        None => out.push_str(&name.replace("%2e", ".")),
    }
    out.push_str(ident);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_ends_at_the_first_dot_of_the_last_element() {
        for (name, package) in [
            ("net/http.(*conn).serve", "net/http"),
            ("main.main", "main"),
            ("gopkg.in/yaml%2ev3.(*Node).Decode", "gopkg.in/yaml%2ev3"),
            ("slices.SortFunc[go.shape.*net/http.T]", "slices"),
            ("main.(*L[go.shape.string,a/b.C]).Put", "main"),
            ("example.com/a.b/c.F.func1", "example.com/a.b/c"),
            ("memeqbody", ""),
        ] {
            assert_eq!(package_of(name), package, "{name}");
        }
    }

    #[test]
    fn types_are_printed_with_package_names() {
        let package = |path: &str| (path == "gopkg.in/yaml%2ev3").then(|| String::from("yaml"));
        for (full, short) in [
            ("*net/http.Request", "*http.Request"),
            ("map[string]*net/url.URL", "map[string]*url.URL"),
            (
                "func(int, ...interface {}) error",
                "func(int, ...interface {}) error",
            ),
            ("<-chan internal/poll.FD", "<-chan poll.FD"),
            ("chan<- int", "chan<- int"),
            ("gopkg.in/yaml%2ev3.Node", "yaml.Node"),
            ("example.com/x%2ey.T", "x.y.T"),
            ("[]go.shape.int", "[]int"),
            (
                r#"struct { A int "json:\"a/b.c\"" }"#,
                r#"struct { A int "json:\"a/b.c\"" }"#,
            ),
            ("main.L[string,example.com/p.T]", "main.L[string,p.T]"),
            ("unsafe.Pointer", "unsafe.Pointer"),
        ] {
            assert_eq!(short_type_name(full, &package), short, "{full}");
        }
    }
}
