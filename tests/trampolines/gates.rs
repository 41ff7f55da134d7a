//! What trampolines ask before they write, and whether it holds.

use gotap::arch::jump::gate::{Gate, Mark, Test};

use super::child::{HEAP, RING, State};
use super::{Random, int};

/// Conditions that hold about as often as not.
pub fn gate(random: &mut Random, from: &State, goid: u64) -> Gate {
    let mut tests = Vec::new();
    for _ in 0..random.below(3) {
        let equal = random.one_in(2);
        tests.push(match random.below(4) {
            0 => Test::Every {
                k: 1 + random.below(100) as u32,
                counter: COUNTER,
            },
            1 => {
                let register = random.below(9) as u8;
                let same = int(&from.regs, register).cast_signed();
                let short = random.below(100).cast_signed();
                let value = if random.one_in(2) { same } else { short };
                Test::Int {
                    register,
                    equal,
                    value,
                }
            }
            2 => {
                let hops: Vec<i32> = (0..random.below(3))
                    .map(|_| 8 * random.below(16) as i32)
                    .collect();
                let (mut from_register, field) =
                    (random.below(3) as u8, 8 * random.below(16) as i32);
                // A count that is less than none.
                from_register += u8::from(from_register == 0 && from.regs.rax == u64::MAX);
                let seen = reached(from, int(&from.regs, from_register), &hops, field);
                let value = if random.one_in(3) {
                    random.next()
                } else {
                    seen.unwrap_or(0)
                };
                Test::Reached {
                    from: from_register,
                    hops,
                    field,
                    equal,
                    value: value.cast_signed(),
                }
            }
            _ => Test::Goid {
                equal,
                value: if random.one_in(2) {
                    goid.cast_signed()
                } else {
                    7
                },
            },
        });
    }
    let mark = match random.below(3) {
        0 => Mark::Leave,
        1 => Mark::Ask,
        _ => Mark::None,
    };
    Gate { tests, mark }
}

const COUNTER: u16 = 5;
pub const COUNTER_AT: u64 = RING + (64 + COUNTER as u64) * 8;

fn reached(at: &State, from: u64, hops: &[i32], field: i32) -> Option<u64> {
    let word = |address: u64| {
        let from = (address - HEAP) as usize;
        u64::from_le_bytes(at.heap[from..from + 8].try_into().expect("eight"))
    };
    let mut pointer = from;
    for hop in hops {
        pointer = (pointer >= 0x1000).then(|| word(pointer + *hop as u64))?;
    }
    (pointer >= 0x1000).then(|| word(pointer + field as u64))
}

/// Whether a gate's conditions hold; what becomes of the counter.
pub fn holds(gate: &Gate, at: &State, goid: u64, counter: &mut i64) -> bool {
    for test in &gate.tests {
        let yes = match test {
            Test::Every { k, .. } => {
                *counter -= 1;
                let turn = *counter < 0;
                *counter += if turn { i64::from(*k) } else { 0 };
                turn
            }
            Test::Int {
                register,
                equal,
                value,
            } => (int(&at.regs, *register).cast_signed() == *value) == *equal,
            Test::Reached {
                from,
                hops,
                field,
                equal,
                value,
            } => reached(at, int(&at.regs, *from), hops, *field)
                .is_some_and(|word| (word.cast_signed() == *value) == *equal),
            Test::Goid { equal, value } => (goid.cast_signed() == *value) == *equal,
        };
        if !yes {
            return false;
        }
    }
    true
}
