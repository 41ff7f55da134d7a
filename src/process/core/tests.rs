//! What is no core, and what is left of one. Cores of real programs are read
//! in tests/core.rs.

use std::io::Write;

use super::*;

/// An ELF header with `count` program headers behind it.
fn header(kind: u16, count: u16) -> Vec<u8> {
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    bytes.extend(kind.to_le_bytes());
    bytes.extend(62_u16.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(64_u64.to_le_bytes());
    bytes.extend(0_u64.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, count, 0, 0, 0] {
        bytes.extend(half.to_le_bytes());
    }
    bytes
}

fn error(bytes: &[u8]) -> String {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let name = file.path().display().to_string();
    let error = Core::open(file.path(), None).expect_err("no core");
    error.to_string().replace(&name, "F")
}

#[test]
fn what_is_no_core_is_named() {
    assert!(error(b"").contains("it is not an ELF file"));
    assert!(error(b"#!/bin/sh\n").contains("it is not an ELF file"));
    assert!(error(b"\x7fELF").contains("ELF header ends at byte 64, the file at 4"));
    assert!(error(&header(2, 0)).contains("it is a program or library"));
    assert!(error(&header(4, 0)).contains("F has no NT_PRSTATUS note"));
    assert!(error(&header(4, 3)).contains("table of segments ends at byte 232, the file at 64"));
    assert!(error(&header(4, PN_XNUM)).contains("cut short"));
    let gone = Core::open(Path::new("/nonexistent/core"), None).expect_err("none");
    assert!(gone.to_string().contains("/nonexistent/core"));
}

#[test]
fn notes_past_the_end_are_missed() {
    let mut bytes = header(4, 1);
    bytes.extend(PT_NOTE.to_le_bytes());
    bytes.extend([0; 4]);
    for word in [u64::MAX - 8, 0, 0, 64, 0, 4] {
        bytes.extend(word.to_le_bytes());
    }
    assert!(error(&bytes).contains("its segment of notes ends at byte"));
}

#[test]
fn overlapping_segments_are_read_once() {
    let load = |vaddr, memsz| ProgramHeader {
        p_type: PT_LOAD,
        p_flags: PF_W,
        p_offset: 0,
        p_vaddr: vaddr,
        p_paddr: 0,
        p_filesz: 0,
        p_memsz: memsz,
        p_align: 1,
    };
    let found = pieces(&[load(0x3000, 8), load(0x1000, u64::MAX), load(0x500, 0)]);
    assert_eq!(found.iter().map(|p| p.start).collect::<Vec<_>>(), [0x1000]);
}
