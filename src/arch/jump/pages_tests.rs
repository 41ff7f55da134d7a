use super::*;
use crate::arch::jump::Capture;
use crate::arch::unit::UnitKind;

const BASE: u64 = 0x2060_7000;

fn sites() -> Vec<JumpSite> {
    // push rbp; mov rbp, rsp; sub rsp, 0x20
    let entry = Unit {
        at: 0x40_1000,
        code: vec![0x55, 0x48, 0x89, 0xe5, 0x48, 0x83, 0xec, 0x20],
        starts: vec![0, 1, 4],
        kind: UnitKind::Entry,
        to_return: 0,
    };
    // add rsp, 0x20; pop rbp; ret
    let ret = Unit {
        at: 0x40_0800,
        code: vec![0x48, 0x83, 0xc4, 0x20, 0x5d, 0xc3],
        starts: vec![0, 4, 5],
        kind: UnitKind::Return,
        to_return: 0x28,
    };
    let shape = Shape::new([Capture::Int(0), Capture::Int(1)]).expect("it fits");
    [entry, ret]
        .into_iter()
        .zip(0..)
        .map(|(unit, id)| JumpSite {
            unit,
            shape: shape.clone(),
            id,
        })
        .collect()
}

fn build() -> (JumpPages, RingLayout, Owner) {
    let ring = RingLayout::new(BASE + 0x10_0000, 1 << 20, 100);
    let owner = Owner {
        pid: 7,
        start_time: 8,
        pid_namespace: 9,
    };
    let g = GOffsets {
        goid: 152,
        stack_hi: 8,
    };
    let pages = JumpPages::build(BASE, &sites(), &ring, g, owner).expect("all can be written");
    (pages, ring, owner)
}

#[test]
fn what_was_built_is_read_back() {
    let (pages, ring, owner) = build();
    let len = JumpLeftover::parse_len(&pages.bytes, BASE).expect("ours");
    assert_eq!(len, pages.bytes.len());
    let left = JumpLeftover::parse(&pages.bytes, BASE).expect("whole");
    assert!(left.whole);
    assert_eq!(
        (left.owner, left.ring, left.ring_len),
        (owner, ring.at, ring.len())
    );
    assert_eq!(left.sites, pages.sites);
    assert_eq!(left.sites[0].site, 0x40_0800);
    assert_eq!(left.sites[1].original, [0x55, 0x48, 0x89, 0xe5, 0x48]);
    let patch = left.sites[1].patch();
    let reach = i32::from_le_bytes(patch[1..].try_into().expect("four bytes"));
    assert_eq!(patch[0], 0xe9);
    let to = (0x40_1005_i64 + i64::from(reach)) as u64;
    assert_eq!(to, left.sites[1].trampoline);
    let name = &pages.bytes[JumpPages::NAME_AT as usize..];
    assert!(name.starts_with(b"gotap-ring\0"));
}

#[test]
fn pages_half_written_are_known_as_such() {
    let (pages, ..) = build();
    let mut bytes = pages.bytes.clone();
    let last = bytes.len() - 1;
    bytes[last] = 0;
    let left = JumpLeftover::parse(&bytes, BASE).expect("the header stands");
    assert!(!left.whole && left.sites.is_empty());
}

#[test]
fn hostile_bytes_are_refused() {
    let (pages, ..) = build();
    for at in 0..HEADER {
        for value in [0, 0x7f, 0xff] {
            let mut bytes = pages.bytes.clone();
            bytes[at] = value;
            // Whatever comes of it, it comes.
            let _ = JumpLeftover::parse(&bytes, BASE);
        }
    }
    for len in 0..pages.bytes.len().min(600) {
        assert!(
            JumpLeftover::parse(&pages.bytes[..len], BASE).is_err(),
            "{len}"
        );
    }
    assert!(JumpLeftover::parse(&pages.bytes, BASE + 4096).is_err());
}
