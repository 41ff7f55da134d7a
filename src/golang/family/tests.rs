use super::*;
use std::collections::HashSet;
use std::process::Command;

#[test]
fn read_is_as_the_abi_says() {
    let read = family_of("net.(*conn).Read", Some(26)).unwrap();
    assert_eq!(read.receiver, Some((0, Receiver::Conn)));
    assert_eq!(read.buffer, Some(Buffer { ptr: 1, len: 2 }));
    assert_eq!(
        (read.n, read.err, read.err_data()),
        (Some(0), Some(1), Some(2))
    );
    assert_eq!(family_of("net.(*conn).Raed", Some(26)), None);
    let splice = |minor| family_of("internal/poll.Splice", Some(minor)).unwrap().err;
    assert_eq!((splice(22), splice(23)), (Some(4), Some(2)));
}

#[test]
fn no_name_twice_and_the_preset_is_known() {
    let mut seen = HashSet::new();
    for (name, family) in table::TABLE {
        assert!(seen.insert(name), "{name} twice");
        assert!(family.err.is_none_or(|e| e <= 7), "{name}");
    }
    for name in preset_conn() {
        assert!(seen.contains(name), "{name}");
    }
}

/// Register slots of a Go type, written as in the sources.
fn words(ty: &str) -> u8 {
    match ty {
        "error" | "Addr" | "net.Addr" | "syscall.Sockaddr" | "Sockaddr" | "string" | "Conn"
        | "net.Conn" | "Listener" | "net.Listener" | "PacketConn" | "io.Writer" | "io.Reader" => 2,
        "netip.AddrPort" => 4,
        _ if ty.starts_with("[]") => 3,
        _ => 1,
    }
}

/// `(n int, addr *UDPAddr, err error)` → types in order.
fn result_types(text: &str) -> Vec<String> {
    let text = text.trim();
    let Some(inner) = text.strip_prefix('(').and_then(|t| t.strip_suffix(')')) else {
        return if text.is_empty() {
            vec![]
        } else {
            vec![text.to_owned()]
        };
    };
    let parts: Vec<&str> = inner.split(',').map(str::trim).collect();
    let named = parts.iter().any(|p| p.contains(' '));
    let mut types = Vec::new();
    let mut last = String::new();
    for part in parts.iter().rev() {
        if let Some((_, ty)) = part.split_once(' ') {
            last = ty.to_owned();
            types.push(last.clone());
        } else {
            types.push(if named {
                last.clone()
            } else {
                (*part).to_owned()
            });
        }
    }
    types.reverse();
    types
}

/// The oracle is Go's own documentation of the machine's toolchain.
#[test]
fn result_registers_are_those_of_the_sources() {
    let mut checked = 0;
    for package in ["net", "internal/poll", "crypto/tls", "os", "syscall"] {
        let out = Command::new("go")
            .args(["list", "-f", "{{.Dir}} {{join .GoFiles \" \"}}", package])
            .env("CGO_ENABLED", "1")
            .output()
            .expect("go is needed: apt-get install golang, or https://go.dev/dl");
        let listed = String::from_utf8(out.stdout).unwrap();
        let mut names = listed.split_whitespace();
        let dir = names.next().unwrap();
        for file in names {
            let source = std::fs::read_to_string(format!("{dir}/{file}")).unwrap();
            for line in source.lines().filter(|l| l.starts_with("func ")) {
                checked += usize::from(check(package, line));
            }
        }
    }
    assert!(
        checked > 150,
        "only {checked} functions of the table were found"
    );
}

fn check(package: &str, line: &str) -> bool {
    let line = line.trim_start_matches("func ").split(" {").next().unwrap();
    let (receiver, rest) = match line.strip_prefix('(') {
        Some(rest) => {
            let (receiver, rest) = rest.split_once(") ").unwrap();
            (receiver.split_once(' ').map(|r| r.1), rest)
        }
        None => (None, line),
    };
    let Some((name, rest)) = rest.split_once('(') else {
        return false;
    };
    let full = match receiver {
        Some(ty) if ty.starts_with('*') => format!("{package}.({ty}).{name}"),
        Some(_) => return false,
        None => format!("{package}.{name}"),
    };
    let Some(family) = family_of(&full, Some(26)) else {
        return false;
    };
    // The end of the parameters: parentheses balance (parameters of type func).
    let mut depth = 1;
    let end = rest
        .char_indices()
        .find_map(|(i, c)| {
            depth += match c {
                '(' => 1,
                ')' => -1,
                _ => 0,
            };
            (depth == 0).then_some(i)
        })
        .unwrap();
    let (params, results) = (&rest[..end], &rest[end + 1..]);
    let mut at = 0;
    let mut err = None;
    for ty in result_types(results) {
        if ty == "error" {
            err = Some(at);
        }
        at += words(&ty);
    }
    assert_eq!(family.err, err, "{full}{results}");
    if let Some(buffer) = family.buffer {
        let first = params.split(',').next().unwrap();
        let place = u8::from(receiver.is_some());
        if receiver.is_some() {
            let is_bytes = params.contains("[]byte") || first.ends_with("string");
            assert!(is_bytes && buffer.ptr == place, "{full}({params})");
        } else {
            assert!(
                first.starts_with("fd ") || first.starts_with("s "),
                "{full}({params})"
            );
        }
    }
    true
}
