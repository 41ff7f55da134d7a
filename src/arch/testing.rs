//! For tests: the functions of a real Go program, by its symbol table.

use std::process::Command;

use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

/// A function's name and bytes, up to the next one's entry.
pub struct GoFunction {
    pub name: String,
    pub entry: u64,
    pub code: Vec<u8>,
}

/// The path of the machine's `go` command, which is a Go program.
pub fn go_command() -> String {
    let out = Command::new("go").args(["env", "GOROOT"]).output();
    let out = out.expect("no `go` on PATH: install Go, e.g. apt-get install golang-go");
    assert!(out.status.success(), "go env GOROOT fails");
    let root = String::from_utf8(out.stdout).expect("a path");
    format!("{}/bin/go", root.trim())
}

/// All functions of the `go` command.
pub fn go_functions() -> Vec<GoFunction> {
    let path = go_command();
    let data = std::fs::read(&path).unwrap_or_else(|e| panic!("cannot read {path}: {e}"));
    let file = object::File::parse(&*data).expect("an ELF file");
    let text = file.section_by_name(".text").expect("a .text");
    let code = text.data().expect("bytes of .text");
    let mut symbols: Vec<(u64, String)> = file
        .symbols()
        .filter(|s| s.kind() == SymbolKind::Text && s.section_index() == Some(text.index()))
        .filter_map(|s| Some((s.address(), s.name().ok()?.to_owned())))
        .filter(|(_, name)| name != "runtime.text" && name != "runtime.etext")
        .collect();
    symbols.sort();
    symbols.dedup_by_key(|s| s.0);
    let ends: Vec<u64> = symbols.iter().skip(1).map(|s| s.0).collect();
    let last = text.address() + text.size();
    let ends = ends.into_iter().chain([last]);
    let functions: Vec<GoFunction> = symbols
        .into_iter()
        .zip(ends)
        .map(|((entry, name), end)| {
            let from = (entry - text.address()) as usize;
            let to = (end - text.address()) as usize;
            let code = code.get(from..to).expect("inside .text").to_vec();
            GoFunction { name, entry, code }
        })
        .collect();
    assert!(functions.len() > 5_000, "{path} has no symbol table");
    functions
}
