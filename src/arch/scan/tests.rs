use super::*;
use crate::arch::testing::{go_command, go_functions};
use std::collections::BTreeMap;
use std::process::Command;
use std::time::Instant;

fn scan(code: &[u8]) -> Scan {
    Disassembler::new().unwrap().scan_function(code, 0x1000)
}

#[test]
fn a_checked_function() {
    let code = [
        0x49, 0x3b, 0x66, 0x10, 0x76, 0x08, // cmp rsp,[r14+16]; jbe 0x100e
        0x55, 0x48, 0x89, 0xe5, // push rbp; mov rbp,rsp
        0x5d, 0xc3, // pop rbp; ret
        0x90, 0x90, // nop; nop
        0xe8, 0xed, 0x0f, 0, 0, // call 0x2000
        0xeb, 0xeb, // jmp 0x1000
        0xcc, 0xcc,
    ];
    let s = scan(&code);
    assert_eq!(s.site, 0x1006);
    assert_eq!(s.site_len, 1);
    assert_eq!(s.rets, [0x100b]);
    assert_eq!(s.branch_targets, [0x1000, 0x100e]);
    assert_eq!(s.calls, [0x2000]);
    assert!(s.tail_jumps.is_empty());
    assert!(!s.reenters_site());
    assert_eq!(s.problems, []);
}

#[test]
fn a_loop_to_the_entry_is_told() {
    let s = scan(&[0x48, 0xff, 0xc8, 0x75, 0xfb, 0xc3]); // dec rax; jne entry; ret
    assert_eq!(s.site, 0x1000);
    assert!(s.reenters_site());
    assert_eq!(s.rets, [0x1005]);
}

#[test]
fn ways_out_and_tables() {
    let code = [
        0x48, 0x8d, 0x0d, 0x00, 0x10, 0, 0, // lea rcx, [0x2007]
        0xff, 0x24, 0xc1, // jmp [rcx+rax*8]
        0xff, 0xe2, // jmp rdx
        0xff, 0x60, 0x18, // jmp [rax+24]
        0x0f, 0x84, 0xeb, 0x0f, 0, 0, // je 0x2000
        0xe9, 0xe6, 0x0f, 0, 0, // jmp 0x2000
    ];
    let s = scan(&code);
    assert_eq!(s.taken, [0x2007]);
    assert_eq!(
        s.jump_tables,
        [JumpTable {
            at: 0x1007,
            table: Some(0x2007)
        }]
    );
    let ways: Vec<_> = s
        .tail_jumps
        .iter()
        .map(|t| (t.at, t.target, t.conditional))
        .collect();
    assert_eq!(
        ways,
        [
            (0x100a, None, false),
            (0x100c, None, false),
            (0x100f, Some(0x2000), true),
            (0x1015, Some(0x2000), false)
        ]
    );
    assert!(s.rets.is_empty());
}

#[test]
fn trouble_is_reported() {
    assert_eq!(scan(&[]).problems, [Problem::Empty]);
    assert_eq!(scan(&[0x90, 0x06]).problems, [Problem::Undecodable(0x1001)]);
    assert_eq!(scan(&[0xc2, 8, 0]).problems, [Problem::OddReturn(0x1000)]);
    // jmp into the middle of the mov's immediate
    assert_eq!(
        scan(&[0xeb, 0x01, 0xb8, 0, 0, 0, 0, 0xc3]).problems,
        [Problem::BranchInside(0x1003)]
    );
    let long = vec![0x90; MAX_FUNCTION + 1];
    assert_eq!(scan(&long).problems, [Problem::TooLong(long.len())]);
}

#[test]
fn a_real_program_scans_whole() {
    let functions = go_functions();
    let disassembler = Disassembler::new().unwrap();
    let (mut bytes, mut rets, mut insns, mut checked, mut none, mut re) = (0, 0, 0, 0, 0, 0);
    let mut troubled = Vec::new();
    let start = Instant::now();
    for f in &functions {
        let s = disassembler.scan_function(&f.code, f.entry);
        bytes += f.code.len();
        rets += s.rets.len();
        insns += s.insns;
        checked += usize::from(s.check.is_some());
        none += usize::from(s.rets.is_empty());
        re += usize::from(s.reenters_site());
        assert!(s.check.is_none() || !s.reenters_site(), "{}", f.name);
        if !s.problems.is_empty() {
            troubled.push(format!("{}: {}", f.name, s.problems[0]));
        }
    }
    let took = start.elapsed();
    println!(
        "{} functions, {bytes} bytes, {insns} instructions in {took:?} ({:.1} us a function)",
        functions.len(),
        took.as_secs_f64() * 1e6 / functions.len() as f64
    );
    println!("{checked} stack checks, {rets} rets, {none} without ret, {re} re-enter their site");
    for t in &troubled {
        println!("  {t}");
    }
    assert!(troubled.len() <= functions.len() / 1000, "{troubled:?}");
    // As in all programs looked at (Go 1.17 to 1.27): four of five are checked.
    assert!(checked * 4 > functions.len() * 3);
}

/// `go tool objdump` is the oracle for RETs, calls and tail jumps.
#[test]
fn objdump_agrees() {
    let pattern = r"^(net|internal/poll|strings|sort)\.";
    let out = Command::new("go")
        .args(["tool", "objdump", "-s", pattern, &go_command()])
        .output()
        .expect("go tool objdump runs");
    assert!(out.status.success(), "go tool objdump fails");
    let text = String::from_utf8_lossy(&out.stdout);
    let mut theirs: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        if line.starts_with("TEXT ") {
            current = None;
            continue;
        }
        let mut fields = line.split_whitespace().skip(1);
        let at = fields.next().and_then(|a| a.strip_prefix("0x"));
        let Some(at) = at.and_then(|a| u64::from_str_radix(a, 16).ok()) else {
            continue;
        };
        let entry = *current.get_or_insert(at);
        let rets = theirs.entry(entry).or_default();
        if fields.nth(1) == Some("RET") {
            rets.push(at);
        }
    }
    let disassembler = Disassembler::new().unwrap();
    let mut compared = 0;
    for f in go_functions() {
        if let Some(rets) = theirs.get(&f.entry) {
            let ours = disassembler.scan_function(&f.code, f.entry);
            assert_eq!(&ours.rets, rets, "{}", f.name);
            compared += 1;
        }
    }
    println!("{compared} functions compared");
    assert!(compared > 300);
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_scanned(code: Vec<u8>, entry: u64) {
        let s = Disassembler::new().unwrap().scan_function(&code, entry);
        assert!(s.insns <= code.len());
    }
}
