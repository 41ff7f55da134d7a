//! Generated code against the code it stands in for: a child process runs both
//! from the same state, and whatever Go counts on must come out the same.

#[path = "trampolines/child.rs"]
mod child;
#[path = "trampolines/gates.rs"]
mod gates;
#[path = "trampolines/handed.rs"]
mod handed;
#[path = "trampolines/held.rs"]
mod held;
mod support;

use std::sync::atomic::AtomicU64;

use child::{AREA, Child, HEAP, PAGES, RING, STACK, State, TEXT, USED};
use gates::{COUNTER_AT, gate, holds};
use gotap::arch::jump::capture::Shape;
use gotap::arch::jump::{Capture, GOffsets, Next, Reader, RingLayout, generate};
use gotap::arch::unit::{Unit, UnitKind};
use gotap::sys::{Regs, ptrace};
use handed::Handed;
use nix::sys::ptrace::getregset;
use nix::sys::ptrace::regset::NT_PRFPREG;
use nix::unistd::Pid;

const SITE: u64 = TEXT + 0x800;
const MORESTACK: u64 = TEXT + 0x900;
const CALLER: u64 = TEXT + 0xa00;
const G: u64 = HEAP + 0x8000;
const OFFSETS: GOffsets = GOffsets {
    goid: 152,
    stack_hi: 8,
};
/// Bytes of a record.
const RECORD: usize = 1024;
/// Flags that Go gives no meaning to at these places: CF PF AF ZF SF OF.
const FREE_FLAGS: u64 = 0x8d5;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

fn unit(kind: UnitKind, to_return: u32, instructions: &[&[u8]]) -> Unit {
    let mut code = Vec::new();
    let mut starts = Vec::new();
    for insn in instructions {
        if *insn != [0xcc] {
            starts.push(code.len() as u8);
        }
        code.extend_from_slice(insn);
    }
    Unit {
        at: SITE,
        code,
        starts,
        kind,
        to_return,
    }
}

fn near(from: usize) -> Vec<u8> {
    let reach = (MORESTACK - (SITE + from as u64 + 6)) as u32;
    let mut jbe = vec![0x0f, 0x86];
    jbe.extend(reach.to_le_bytes());
    jbe
}

/// The shapes of go-built prologues and epilogues, Go 1.19 to 1.27.
fn units() -> Vec<Unit> {
    use UnitKind::{Check, Entry, Return};
    let (push, mov): (&[u8], &[u8]) = (&[0x55], &[0x48, 0x89, 0xe5]);
    let sub8: &[u8] = &[0x48, 0x83, 0xec, 0x38];
    let sub32: &[u8] = &[0x48, 0x81, 0xec, 0x80, 0x01, 0, 0];
    let (pop, ret): (&[u8], &[u8]) = (&[0x5d], &[0xc3]);
    let add8: &[u8] = &[0x48, 0x83, 0xc4, 0x38];
    let add32: &[u8] = &[0x48, 0x81, 0xc4, 0x80, 0x01, 0, 0];
    let short: &[u8] = &[0x76, 0x40];
    let compare: &[u8] = &[0x49, 0x3b, 0x66, 0x10];
    let compare12: &[u8] = &[0x4d, 0x3b, 0x66, 0x10];
    let lea8: &[u8] = &[0x4c, 0x8d, 0x64, 0x24, 0xd8];
    let lea32: &[u8] = &[0x4c, 0x8d, 0xa4, 0x24, 0x58, 0xfe, 0xff, 0xff];
    vec![
        unit(Entry, 0, &[push, mov, sub8]),
        unit(Entry, 0, &[push, mov, sub32]),
        unit(Entry, 0, &[sub8, &[0x48, 0x89, 0x6c, 0x24, 0x30]]),
        unit(Entry, 0, &[&[0x48, 0x8d, 0x05, 0x10, 0x20, 0, 0]]),
        unit(Entry, 0, &[&[0x48, 0x89, 0x44, 0x24, 0x08], &[0x31, 0xd2]]),
        unit(Check, 0, &[compare, short]),
        unit(Check, 0, &[compare, &near(4)]),
        unit(Check, 0, &[lea8, compare12, short]),
        unit(Check, 0, &[lea32, compare12, &near(12)]),
        unit(Return, 0x40, &[add8, pop, ret]),
        unit(Return, 0x188, &[add32, pop, &[0x0f, 0x1f, 0], ret]),
        unit(Return, 0x38, &[&[0x48, 0x8b, 0x6c, 0x24, 0x30], add8, ret]),
        unit(Return, 8, &[pop, ret, &[0xcc], &[0xcc], &[0xcc]]),
        unit(
            Return,
            0x40,
            &[&[0x31, 0xc0], &[0x48, 0x89, 0xcb], add8, pop, ret],
        ),
    ]
}

fn captures(random: &mut Random) -> Vec<Capture> {
    let mut captures = Vec::new();
    for _ in 0..random.below(8) {
        captures.push(match random.below(7) {
            6 => Capture::Frames {
                max: 1 + random.below(6) as u32,
            },
            0 | 1 => Capture::Int(random.below(9) as u8),
            2 => Capture::Float(random.below(15) as u8),
            3 => Capture::Stack {
                offset: 8 * random.below(16) as u32,
                words: random.below(9) as u32,
            },
            4 => Capture::Chain {
                from: random.below(3) as u8,
                hops: (0..random.below(4))
                    .map(|_| 8 * random.below(16) as i32)
                    .collect(),
                fields: (0..random.below(4))
                    .map(|_| 8 * random.below(16) as i32)
                    .collect(),
            },
            _ => Capture::Bytes {
                ptr: 3,
                len: 4,
                max: 16 * (1 + random.below(6) as u32),
            },
        });
    }
    captures
}

/// Memory of small numbers, nils and pointers into itself.
fn heap(random: &mut Random) -> Vec<u8> {
    let mut heap = Vec::with_capacity(USED);
    for _ in 0..USED / 8 {
        let word = match random.below(5) {
            0 => random.below(0x1000),
            1 => 0,
            2 if random.one_in(2) => [4, 16][random.below(2) as usize],
            _ => HEAP + 8 * random.below((USED as u64 - 0x200) / 8),
        };
        heap.extend(word.to_le_bytes());
    }
    heap
}

fn state(random: &mut Random, before: &State) -> State {
    let mut regs = before.regs;
    let mut any = || random.next();
    (regs.r8, regs.r9, regs.r10, regs.r11) = (any(), any(), any(), any());
    (regs.r12, regs.r13, regs.r15, regs.rdx) = (any(), any(), any(), any());
    regs.rbp = any();
    let pointer = |random: &mut Random| match random.below(4) {
        0 => random.below(0x1000),
        _ => HEAP + 8 * random.below((USED as u64 - 0x200) / 8),
    };
    (regs.rax, regs.rbx, regs.rcx) = (pointer(random), pointer(random), pointer(random));
    regs.rdi = HEAP + random.below(2048);
    regs.rsi = random.below(130);
    regs.r14 = G;
    regs.rsp = STACK + 2048 + 8 * random.below(16);
    regs.rip = SITE;
    if random.one_in(2) {
        regs.rbp = regs.rsp + 8 * random.below(8);
    }
    regs.orig_rax = u64::MAX;
    regs.eflags = 0x202 | (random.next() & FREE_FLAGS);
    let mut fp = before.fp;
    for word in &mut fp.xmm_space {
        *word = random.next() as u32;
    }
    // X15 is zero.
    fp.xmm_space[60..64].fill(0);
    let mut stack: Vec<u8> = (0..USED).map(|_| random.next() as u8).collect();
    // Frame pointers, most of them to something above.
    for at in (0..USED - 1024).step_by(8) {
        if random.one_in(2) {
            let to = STACK + at as u64 + 8 * random.below(100);
            stack[at..at + 8].copy_from_slice(&to.to_le_bytes());
        }
    }
    State {
        regs,
        fp,
        stack,
        heap: heap(random),
    }
}

/// g: the guard that a check compares with, goid, stack.hi.
fn write_g(child: &Child, random: &mut Random, sp: u64) -> (u64, u64) {
    let (mut goid, hi) = (random.next(), STACK + AREA);
    if random.one_in(8) {
        goid = 0;
    }
    let guard = match random.below(3) {
        0 => u64::MAX - 1313, // as for preemption (runtime/stack.go, stackPreempt)
        1 => sp
            .wrapping_sub(0x1a8)
            .wrapping_add(8 * random.below(3))
            .wrapping_sub(8),
        _ => STACK,
    };
    child.write(G + 8, &hi.to_le_bytes());
    child.write(G + 16, &guard.to_le_bytes());
    child.write(G + 152, &goid.to_le_bytes());
    (goid, hi)
}

fn int(regs: &Regs, index: u8) -> u64 {
    [
        regs.rax, regs.rbx, regs.rcx, regs.rdi, regs.rsi, regs.r8, regs.r9, regs.r10, regs.r11,
    ][usize::from(index)]
}

/// What a record should hold of a state, word by word; `None`: anything.
fn expected(capture: &Capture, at: &State, sp: u64, lowest: u64) -> Vec<Option<u64>> {
    let heap = |address: u64| {
        let from = (address - HEAP) as usize;
        u64::from_le_bytes(at.heap[from..from + 8].try_into().expect("eight"))
    };
    match capture {
        Capture::Int(i) => vec![Some(int(&at.regs, *i))],
        Capture::Float(i) => {
            let four = &at.fp.xmm_space[usize::from(*i) * 4..][..4];
            let pair = |low: u32, high: u32| Some(u64::from(low) | u64::from(high) << 32);
            vec![pair(four[0], four[1]), pair(four[2], four[3])]
        }
        Capture::Stack { offset, words } => (0..*words)
            .map(|i| {
                let from = (sp + 8 + u64::from(*offset) + u64::from(i) * 8 - STACK) as usize;
                let word = &at.stack[from..from + 8];
                Some(u64::from_le_bytes(word.try_into().expect("eight")))
            })
            .collect(),
        Capture::Chain { from, hops, fields } => {
            let mut pointer = int(&at.regs, *from);
            for hop in hops {
                if pointer >= 0x1000 {
                    pointer = heap(pointer + *hop as u64);
                }
            }
            let nil = pointer < 0x1000;
            let mut words = vec![Some(if nil { 0 } else { pointer })];
            words.extend(
                fields
                    .iter()
                    .map(|f| (!nil).then(|| heap(pointer + *f as u64))),
            );
            words
        }
        Capture::Copied { .. } | Capture::Interface { .. } => held::expected(capture, at),
        Capture::Frames { max } => {
            let word = |address: u64| {
                let from = (address - STACK) as usize;
                at.stack.get(from..from + 8).map_or(0, |word| {
                    u64::from_le_bytes(word.try_into().expect("eight"))
                })
            };
            let mut words = vec![Some(sp), Some(word(sp))];
            let mut frame = at.regs.rbp;
            for _ in 1..*max {
                if frame < lowest || frame.saturating_add(16) > STACK + AREA {
                    break;
                }
                words.extend([Some(frame + 8), Some(word(frame + 8))]);
                frame = word(frame);
            }
            if words.len() < 2 * *max as usize {
                words.push(Some(0));
            }
            words
        }
        Capture::Bytes { ptr, len, max } => {
            let (ptr, len) = (int(&at.regs, *ptr), int(&at.regs, *len));
            let (mut bytes, max) = (vec![], *max as usize);
            let from = (ptr - HEAP) as usize;
            bytes.extend_from_slice(&at.heap[from..from + max.min(len as usize)]);
            let whole = bytes
                .chunks_exact(8)
                .map(|w| Some(u64::from_le_bytes(w.try_into().expect("eight"))));
            let mut words: Vec<_> = whole.collect();
            // The rest is compared by bytes, see below.
            words.resize(max / 8, None);
            words
        }
        Capture::Buffer { .. } | Capture::Filled { .. } => vec![],
    }
}

fn compare(round: u64, unit: &Unit, recorded: bool, plain: &State, jumped: &State) {
    let (mut a, mut b) = (plain.regs, jumped.regs);
    if recorded {
        (a.r12, a.r13) = (0, 0);
        (b.r12, b.r13) = (0, 0);
    }
    a.eflags &= !FREE_FLAGS;
    b.eflags &= !FREE_FLAGS;
    assert_eq!(a, b, "round {round}, {unit:?}");
    assert_eq!(plain.fp, jumped.fp, "round {round}, {unit:?}");
    assert!(
        plain.stack == jumped.stack,
        "round {round}: the stack, {unit:?}"
    );
    assert!(plain.heap == jumped.heap, "round {round}: memory, {unit:?}");
}

#[test]
fn a_trampoline_changes_nothing_that_go_counts_on() {
    let mut random = Random(20_260_807);
    let ring = RingLayout::new(RING, 0, RECORD);
    let child = Child::start(&ring);
    let fresh: Vec<AtomicU64> = (0..512).map(|_| AtomicU64::new(0)).collect();
    ring.prepare(&fresh);
    let control = |words: &[AtomicU64]| -> Vec<u8> {
        let word = |w: &AtomicU64| w.load(std::sync::atomic::Ordering::Relaxed).to_le_bytes();
        words.iter().flat_map(word).collect()
    };
    child.write(RING, &control(&fresh));
    let mut reader = Reader::new(ring);
    let (mut records, mut dropped, mut grown, mut total) = (0, 0, 0, (0, 0));
    let (mut left_out, mut filled, mut again) = (0, 0, 0);
    let start = State {
        regs: ptrace::registers(child.pid).expect("it is stopped"),
        fp: getregset::<NT_PRFPREG>(Pid::from_raw(child.pid)).expect("get fp"),
        stack: Vec::new(),
        heap: Vec::new(),
    };
    let units = units();
    for round in 0..9000 {
        if reader.received() == 64 {
            // The places further on are like these.
            child.write(RING, &control(&fresh));
            reader = Reader::new(ring);
            total = (total.0 + records, total.1 + dropped);
            (records, dropped) = (0, 0);
        }
        let unit = &units[(round % units.len() as u64) as usize];
        let mut wanted = captures(&mut random);
        let site = random.next() as u32;
        let from = {
            let mut from = state(&mut random, &start);
            handed::suit(&mut random, unit.kind, &mut wanted, &mut from);
            // A return goes to the caller.
            if unit.kind == UnitKind::Return {
                let at = (from.regs.rsp + u64::from(unit.to_return) - STACK) as usize;
                from.stack[at..at + 8].copy_from_slice(&CALLER.to_le_bytes());
            }
            from
        };
        // A count that is less than none leads nowhere.
        if from.regs.rax != u64::MAX {
            wanted.extend(held::captures(&mut random, &from));
        }
        let mut shape = Shape::new(wanted.clone()).expect("it fits");
        while shape.bytes() > RECORD {
            wanted.pop();
            shape = Shape::new(wanted.clone()).expect("it fits");
        }
        let (goid, hi) = write_g(&child, &mut random, from.regs.rsp);
        let gate = gate(&mut random, &from, goid);
        let shape = shape.behind(gate.clone());
        let made = generate(PAGES, unit, site, &shape, &ring, OFFSETS).expect("it can be written");
        // As it was.
        child.write(SITE, &[0xcc; 64]);
        child.write(SITE, &unit.code);
        let plain = child.run(&from);
        // With the jump.
        child.write(SITE, &made.patch);
        child.write(PAGES, &made.code);
        let full = random.one_in(20);
        if full {
            let tail = reader.received() + reader.lost();
            let tail = tail.wrapping_sub(u64::from(ring.count));
            child.write(RING + 128, &tail.to_le_bytes());
        }
        let depth = hi - (from.regs.rsp + u64::from(unit.to_return));
        let mut handed = Handed::prepare(&child, &mut random, &ring, (goid, hi, depth));
        let mut counter = random.below(4) as i64 - 1;
        child.write(COUNTER_AT, &counter.to_le_bytes());
        // In a forked child nothing is recorded, nothing asked.
        let forked = random.one_in(20);
        child.write(ring.own(), &[u8::from(!forked)]);
        let at = match unit.kind {
            // What the displaced instructions did comes first.
            UnitKind::Return => &plain,
            UnitKind::Entry | UnitKind::Check => &from,
        };
        let before = held::Before::prepare(&child, &mut random, &shape, at);
        let jumped = child.run(&from);
        let passed =
            unit.kind != UnitKind::Check || plain.regs.rip == SITE + unit.code.len() as u64 + 1;
        grown += u64::from(!passed);
        compare(round, unit, passed, &plain, &jumped);
        let let_in = passed && !forked && {
            let holds = holds(&gate, at, goid, &mut counter);
            handed.asked(gate.mark, holds, !full)
        };
        let took = let_in && !full && handed.takes(gate.mark);
        if let_in && !full {
            handed.left(&shape, at);
        }
        left_out += u64::from(passed && !let_in);
        let word = |at| u64::from_le_bytes(child.read(at, 8).try_into().expect("eight"));
        assert_eq!(
            word(COUNTER_AT).cast_signed(),
            counter,
            "round {round}: {gate:?}"
        );
        handed.check(&child, round);
        // And the record.
        let words = child.words(RING, ring.len().min(4096));
        if full {
            dropped += u64::from(let_in);
            let tail = reader.received() + reader.lost();
            child.write(RING + 128, &tail.to_le_bytes());
        }
        assert_eq!(reader.dropped(&words), dropped, "round {round}");
        if full || !let_in {
            assert_eq!(reader.written(&words), records);
            continue;
        }
        records += 1;
        assert_eq!(reader.written(&words), records);
        let place =
            (4096 + (records - 1) % u64::from(ring.count) * u64::from(ring.record)) as usize;
        let mut sparse: Vec<AtomicU64> = (0..(place + RECORD) / 8)
            .map(|_| AtomicU64::new(0))
            .collect();
        for (to, from) in sparse.iter_mut().zip(words) {
            *to = from;
        }
        for (to, from) in sparse[place / 8..]
            .iter_mut()
            .zip(child.words(RING + place as u64, RECORD as u64))
        {
            *to = from;
        }
        let mut record = [0; RECORD / 8];
        assert_eq!(
            reader.next(&sparse, &mut record),
            Next::Record,
            "round {round}"
        );
        let sp = match unit.kind {
            UnitKind::Return => plain.regs.rsp - 8,
            UnitKind::Entry | UnitKind::Check => from.regs.rsp,
        };
        // Where RSP is while the record is written.
        let lowest = match unit.kind {
            UnitKind::Return => sp,
            UnitKind::Entry | UnitKind::Check => from.regs.rsp,
        };
        let site = u64::from(site) | u64::from(took) << 32 | (before.words(at) as u64) << 48;
        assert_eq!(record[3..8], [site, goid, hi, sp, G], "round {round}");
        before.check(&child, round);
        for (capture, word) in shape.parts() {
            if before.leaves_out(capture) {
                again += 1;
                assert!(record[word..].iter().all(|w| *w == 0), "round {round}");
                continue;
            }
            for (i, due) in expected(capture, at, sp, lowest).into_iter().enumerate() {
                if let Some(due) = due {
                    assert_eq!(record[word + i], due, "round {round}: {capture:?} word {i}");
                }
            }
            let bytes = |word: usize| -> Vec<u8> {
                record[word..]
                    .iter()
                    .flat_map(|w| w.to_le_bytes())
                    .collect()
            };
            if let Capture::Bytes { ptr, len, max } = capture {
                let count = (*max as usize).min(int(&at.regs, *len) as usize);
                let from = (int(&at.regs, *ptr) - HEAP) as usize;
                let due = &at.heap[from..from + count];
                assert_eq!(&bytes(word)[..count], due, "round {round}: {capture:?}");
            }
            if let Capture::Filled { max } = capture {
                let found = handed.found(*max, at.regs.rax);
                let place = found.map_or(0, |(at, _)| at);
                assert_eq!(record[word], place, "round {round}: {capture:?}");
                if let Some((place, count)) = found {
                    filled += 1;
                    let due = child.read(place, count);
                    assert_eq!(bytes(word + 1)[..count], due, "round {round}: {capture:?}");
                }
            }
        }
    }
    assert!(
        total.0 > 2000
            && total.1 > 50
            && grown > 100
            && left_out > 1000
            && filled > 100
            && again > 100,
        "{total:?} {grown} {left_out} {filled} {again}"
    );
}
