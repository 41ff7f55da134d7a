//! Values that are copied with what they point to: of any form, and what should
//! come out.

use std::sync::Arc;

use gotap::arch::jump::Capture;
use gotap::arch::jump::held::{Kind, Kinds, Part};

use super::{HEAP, Random, State, int};

const FIRST_PAGE: u64 = 0x1000;

fn heap(at: &State, address: u64) -> u64 {
    let from = (address - HEAP) as usize;
    u64::from_le_bytes(at.heap[from..from + 8].try_into().expect("eight"))
}

fn offset(random: &mut Random) -> i32 {
    8 * random.below(16) as i32
}

fn pointed(at: &State, pointer: Option<u64>, offset: i32) -> Option<u64> {
    let pointer = pointer.filter(|p| *p >= FIRST_PAGE)?;
    Some(heap(at, pointer + offset as u64))
}

/// Some, for the object at `object` if there is one.
fn parts(random: &mut Random, at: &State, object: Option<u64>, depth: u64) -> Vec<Part> {
    let count = 1 + random.below(3);
    let deeper = if depth < 3 { 5 } else { 2 };
    let mut parts = Vec::new();
    for _ in 0..count {
        let offset = offset(random);
        parts.push(match random.below(deeper) {
            0 => Part::Words {
                at: offset,
                count: random.below(4) as u32,
            },
            1 => Part::Short { at: offset },
            2 => Part::Pointer {
                at: offset,
                parts: {
                    let to = pointed(at, object, offset);
                    self::parts(random, at, to, depth + 1)
                },
            },
            _ => Part::Interface {
                at: offset,
                of: {
                    let (itab, data) =
                        (pointed(at, object, offset), pointed(at, object, offset + 8));
                    kinds(random, at, (itab, data), depth + 1)
                },
            },
        });
    }
    parts
}

/// Types, the right one among them most times.
fn kinds(
    random: &mut Random,
    at: &State,
    (itab, data): (Option<u64>, Option<u64>),
    depth: u64,
) -> Arc<Kinds> {
    let type_at = offset(random);
    let mut kinds = Vec::new();
    for _ in 0..random.below(3) {
        let right = pointed(at, itab, type_at).filter(|_| !random.one_in(3));
        let ty = right.unwrap_or_else(|| random.next() >> random.below(40));
        let parts = parts(random, at, data, depth);
        kinds.push(Kind { ty, parts });
    }
    Arc::new(Kinds { type_at, kinds })
}

pub fn captures(random: &mut Random, at: &State) -> Vec<Capture> {
    let mut captures = Vec::new();
    // A RET's own number, which leads nowhere.
    if at.regs.rax == u64::MAX {
        return captures;
    }
    for _ in 0..random.below(3) {
        let (one, other) = (random.below(3) as u8, random.below(3) as u8);
        if random.one_in(2) {
            let words = (Some(int(&at.regs, one)), Some(int(&at.regs, other)));
            captures.push(Capture::Interface {
                itab: one,
                data: other,
                of: kinds(random, at, words, 0),
            });
        } else {
            let hops: Vec<i32> = (0..random.below(3)).map(|_| offset(random)).collect();
            let mut object = Some(int(&at.regs, one));
            for hop in &hops {
                object = pointed(at, object, *hop);
            }
            captures.push(Capture::Copied {
                from: one,
                hops,
                parts: parts(random, at, object, 0),
            });
        }
    }
    captures
}

/// Word by word; `None`: anything.
pub fn expected(capture: &Capture, at: &State) -> Vec<Option<u64>> {
    let mut words = Vec::new();
    match capture {
        Capture::Interface { itab, data, of } => {
            let (itab, data) = (int(&at.regs, *itab), int(&at.regs, *data));
            words.push(Some(itab));
            if itab != 0 {
                words.push(Some(data));
                held_by(of, at, (itab, data), &mut words);
            }
        }
        Capture::Copied { from, hops, parts } => {
            let mut object = Some(int(&at.regs, *from)).filter(|p| *p >= FIRST_PAGE);
            for hop in hops {
                object = pointed(at, object, *hop).filter(|p| *p >= FIRST_PAGE);
            }
            words.push(Some(object.unwrap_or(0)));
            if let Some(object) = object {
                of_object(parts, at, object, &mut words);
            }
        }
        _ => unreachable!("another's"),
    }
    words
}

fn held_by(of: &Kinds, at: &State, (itab, data): (u64, u64), words: &mut Vec<Option<u64>>) {
    let Some(ty) = pointed(at, Some(itab), of.type_at) else {
        return;
    };
    words.push(Some(ty));
    if data >= FIRST_PAGE
        && let Some(kind) = of.kinds.iter().find(|kind| kind.ty == ty)
    {
        of_object(&kind.parts, at, data, words);
    }
}

fn of_object(parts: &[Part], at: &State, object: u64, words: &mut Vec<Option<u64>>) {
    for part in parts {
        let mut own = Vec::new();
        let word = |offset: i32| heap(at, object + offset as u64);
        let size = match part {
            Part::Words { at, count } => {
                own.extend((0..*count as i32).map(|i| Some(word(at + i * 8))));
                *count as usize
            }
            Part::Short { at: from } => {
                let (to, len) = (word(*from), word(from + 8));
                own.extend([Some(to), Some(len)]);
                if to >= FIRST_PAGE && len == 4 {
                    own.push(Some(heap(at, to) & 0xffff_ffff));
                } else if to >= FIRST_PAGE && len == 16 {
                    own.extend([Some(heap(at, to)), Some(heap(at, to + 8))]);
                }
                4
            }
            Part::Pointer { at: from, parts } => {
                let to = word(*from);
                own.push(Some(to));
                if to >= FIRST_PAGE {
                    of_object(parts, at, to, &mut own);
                }
                1 + size(parts)
            }
            Part::Interface { at: from, of } => {
                let pair = (word(*from), word(from + 8));
                own.extend([Some(pair.0), Some(pair.1)]);
                held_by(of, at, pair, &mut own);
                size_of(of)
            }
        };
        assert!(own.len() <= size, "{part:?}");
        own.resize(size, None);
        words.append(&mut own);
    }
}

fn size(parts: &[Part]) -> usize {
    let one = |part: &Part| match part {
        Part::Words { count, .. } => *count as usize,
        Part::Short { .. } => 4,
        Part::Pointer { parts, .. } => 1 + size(parts),
        Part::Interface { of, .. } => size_of(of),
    };
    parts.iter().map(one).sum()
}

fn size_of(of: &Kinds) -> usize {
    let longest = of.kinds.iter().map(|kind| size(&kind.parts)).max();
    3 + longest.unwrap_or(0)
}
