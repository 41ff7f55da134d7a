//! Values that are copied with what they point to: of any form, and what should
//! come out.

use std::sync::Arc;

use gotap::arch::jump::capture::Once;
use gotap::arch::jump::handed::{COPIED, COPIED_PLACE};
use gotap::arch::jump::held::{Kind, Kinds, Part};
use gotap::arch::jump::{Capture, Shape};

use super::child::{Child, RING, TEXT};
use super::{HEAP, Random, State, int};

/// Where the age of memory is counted.
const AGE: u64 = TEXT + 0xe00;
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
                once: random.one_in(2).then(|| Once {
                    names: [offset(random), offset(random)],
                    age: AGE,
                }),
            });
        }
    }
    captures
}

fn reached(at: &State, from: u8, hops: &[i32]) -> Option<u64> {
    let mut object = Some(int(&at.regs, from)).filter(|p| *p >= FIRST_PAGE);
    for hop in hops {
        object = pointed(at, object, *hop).filter(|p| *p >= FIRST_PAGE);
    }
    object
}

/// The one capture that may be left out of a record, and what tells that it is.
pub struct Before {
    capture: Option<Capture>,
    /// Words of the record where it is left out, and of a whole one.
    words: (usize, usize),
    /// The place in the table, and what should stand there for it to be left out.
    place: Option<(u64, [u64; 4])>,
    known: bool,
}

impl Before {
    /// Some objects were copied before, of others something like it stands there.
    pub fn prepare(child: &Child, random: &mut Random, shape: &Shape, at: &State) -> Before {
        let sometimes = |c: &Capture| {
            matches!(
                c,
                Capture::Interface { .. } | Capture::Copied { once: Some(_), .. }
            )
        };
        let mut some = shape.parts().filter(|(c, _)| sometimes(c));
        let whole = shape.bytes() / 8;
        let only = some.next().filter(|_| some.next().is_none());
        let mut before = Before {
            capture: only.map(|(c, _)| c.clone()),
            words: (whole, whole),
            place: None,
            known: false,
        };
        if let Some((Capture::Interface { .. }, from)) = only {
            before.words.0 = from + 1;
        }
        let age = random.below(3) as u32;
        child.write(AGE, &age.to_le_bytes());
        let Some((
            Capture::Copied {
                from,
                hops,
                once: Some(once),
                ..
            },
            first,
        )) = only
        else {
            return before;
        };
        before.words.0 = first;
        let Some(object) = reached(at, *from, hops) else {
            return before;
        };
        let name = |i: usize| heap(at, object + once.names[i] as u64);
        let place = object.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - COPIED.trailing_zeros());
        let table = u64::from_le_bytes(child.read(RING + 48, 8).try_into().expect("eight"));
        let wanted = [object, name(0), name(1), age.into()];
        let mut stands = wanted;
        before.known = !random.one_in(4);
        if !before.known {
            let i = random.below(4) as usize;
            stands[i] = stands[i].wrapping_add(1 + random.below(9));
        }
        before.place = Some((table + place * COPIED_PLACE, wanted));
        before.put(child, stands);
        before
    }

    fn put(&self, child: &Child, words: [u64; 4]) {
        let (at, _) = self.place.expect("a place");
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        child.write(at, &bytes);
    }

    /// This capture is not in the record.
    pub fn leaves_out(&self, capture: &Capture) -> bool {
        self.known && self.capture.as_ref() == Some(capture)
    }

    /// How many words of it were written.
    pub fn words(&self, at: &State) -> usize {
        let least = match &self.capture {
            Some(Capture::Interface { itab, .. }) => int(&at.regs, *itab) == 0,
            Some(_) => self.known,
            None => false,
        };
        if least { self.words.0 } else { self.words.1 }
    }

    /// The record was written: whatever stood there, it is known now.
    pub fn check(&self, child: &Child, round: u64) {
        if let Some((at, wanted)) = self.place {
            let stands = child.read(at, 32);
            let words = stands.chunks_exact(8);
            let words = words.map(|w| u64::from_le_bytes(w.try_into().expect("eight")));
            assert_eq!(words.collect::<Vec<_>>(), wanted, "round {round}");
        }
    }
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
        Capture::Copied {
            from, hops, parts, ..
        } => {
            let object = reached(at, *from, hops);
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
