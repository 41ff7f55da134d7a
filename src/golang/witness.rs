//! Remembering what was learnt from target memory, safely.
//!
//! Whatever is worked out from target bytes is a pure function of the bytes
//! that were read. So a remembered answer is kept together with those bytes,
//! its [`Witness`]; one batched read that finds the same bytes at the same
//! places proves the answer anew, whatever moved or was freed in between.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::Hash;

use crate::addr::LiveAddr;
use crate::memory::{Memory, MemoryError, Piece};

/// More pieces than this are not worth remembering.
const MAX_PIECES: usize = 24;
/// More bytes than this are not worth remembering.
const MAX_BYTES: usize = 2048;
/// How often an answer is worked out again when its bytes change meanwhile.
const TRIES: usize = 3;

/// Places nearer to each other than this, on one page, are read in one piece.
const NEAR: u64 = 512;
const PAGE: u64 = 4096;

/// What was read in the course of a walk.
#[derive(Debug, Default)]
struct Seen {
    places: Vec<(LiveAddr, Vec<u8>)>,
    bytes: usize,
    /// It cannot be remembered: too much, or some read failed.
    unfit: bool,
}

impl Seen {
    fn note(&mut self, at: LiveAddr, bytes: &[u8]) {
        if self.unfit || bytes.is_empty() {
            return;
        }
        self.bytes = self.bytes.saturating_add(bytes.len());
        if self.places.len() >= MAX_PIECES || self.bytes > MAX_BYTES {
            self.unfit = true;
            return;
        }
        self.places.push((at, bytes.to_vec()));
    }
}

/// The bytes that an answer was worked out from.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Witness {
    /// What to read: where, and how many bytes.
    runs: Vec<(LiveAddr, usize)>,
    /// Which of the bytes read count (place in them, and length).
    parts: Vec<(usize, usize)>,
    /// What they must be, one after another in the order of `parts`.
    bytes: Vec<u8>,
}

impl Witness {
    /// `None` when a place was read twice and had changed in between.
    fn of(mut seen: Seen) -> Option<Witness> {
        if seen.unfit {
            return None;
        }
        seen.places.sort_by_key(|p| (p.0, p.1.len()));
        let mut witness = Witness::default();
        let mut total = 0_usize;
        let mut previous: Option<(LiveAddr, Vec<u8>)> = None;
        for (at, bytes) in seen.places {
            if let Some((before, known)) = &previous {
                let skip = usize::try_from(at.0.wrapping_sub(before.0)).unwrap_or(usize::MAX);
                if let Some(overlap) = known.get(skip..).filter(|o| !o.is_empty()) {
                    let both = overlap.len().min(bytes.len());
                    if overlap.get(..both) != bytes.get(..both) {
                        return None;
                    }
                }
            }
            let end = at.0.checked_add(bytes.len() as u64)?;
            match witness.runs.last_mut() {
                Some((start, len))
                    if at.0 < start.0.saturating_add(*len as u64).saturating_add(NEAR)
                        && start.0 / PAGE == end.saturating_sub(1) / PAGE =>
                {
                    let grown = usize::try_from(end.saturating_sub(start.0)).ok()?.max(*len);
                    total = total.saturating_add(grown.saturating_sub(*len));
                    *len = grown;
                }
                _ => {
                    witness.runs.push((at, bytes.len()));
                    total = total.saturating_add(bytes.len());
                }
            }
            let (start, len) = witness.runs.last()?;
            let begin = total.saturating_sub(*len);
            let inside = usize::try_from(at.0.saturating_sub(start.0)).ok()?;
            witness
                .parts
                .push((begin.saturating_add(inside), bytes.len()));
            witness.bytes.extend_from_slice(&bytes);
            previous = Some((at, bytes));
        }
        Some(witness)
    }

    /// Reads all places again, and `extra` along in the same batch; true when
    /// every byte is as it was.
    pub fn holds(
        &self,
        memory: &dyn Memory,
        extra: &mut [Piece<'_>],
        scratch: &mut Vec<u8>,
    ) -> Result<bool, MemoryError> {
        if self.runs.is_empty() && extra.is_empty() {
            return Ok(true);
        }
        scratch.clear();
        scratch.resize(self.runs.iter().map(|r| r.1).sum(), 0);
        let count = extra.len();
        let mut pieces = Vec::with_capacity(count.saturating_add(self.runs.len()));
        for piece in extra.iter_mut() {
            pieces.push(Piece {
                at: piece.at,
                into: &mut *piece.into,
                ok: false,
            });
        }
        let mut rest = scratch.as_mut_slice();
        for &(at, len) in &self.runs {
            let (into, tail) = rest.split_at_mut(len.min(rest.len()));
            rest = tail;
            pieces.push(Piece {
                at,
                into,
                ok: false,
            });
        }
        memory.read_many(&mut pieces)?;
        let all = pieces.iter().skip(count).all(|p| p.ok);
        // Which of theirs were read, before the borrow of them ends.
        let theirs: u64 = pieces
            .iter()
            .take(count.min(64))
            .enumerate()
            .fold(0, |bits, (i, p)| bits | u64::from(p.ok) << i);
        drop(pieces);
        for (i, piece) in extra.iter_mut().enumerate() {
            piece.ok = i < 64 && theirs >> i & 1 == 1;
        }
        if !all {
            return Ok(false);
        }
        let mut expected = self.bytes.as_slice();
        for &(at, len) in &self.parts {
            let (want, tail) = expected.split_at(len.min(expected.len()));
            expected = tail;
            if scratch.get(at..at.saturating_add(len)) != Some(want) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A memory that remembers what was read through it.
pub struct Recorder<'a> {
    inner: &'a dyn Memory,
    seen: RefCell<Seen>,
}

impl<'a> Recorder<'a> {
    /// Reads go to `inner`.
    pub fn new(inner: &'a dyn Memory) -> Self {
        Recorder {
            inner,
            seen: RefCell::default(),
        }
    }

    /// What was read; `None` when it was too much, or a read failed.
    pub fn into_witness(self) -> Option<Witness> {
        Witness::of(self.seen.into_inner())
    }
}

impl Memory for Recorder<'_> {
    fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        let done = self.inner.read(at, into);
        let mut seen = self.seen.borrow_mut();
        match &done {
            Ok(()) => seen.note(at, into),
            // An answer that rests on an unreadable address is not remembered.
            Err(_) => seen.unfit = true,
        }
        done
    }

    fn read_many(&self, pieces: &mut [Piece<'_>]) -> Result<(), MemoryError> {
        self.inner.read_many(pieces)?;
        let mut seen = self.seen.borrow_mut();
        for piece in pieces {
            if piece.ok {
                seen.note(piece.at, piece.into);
            } else {
                seen.unfit = true;
            }
        }
        Ok(())
    }
}

/// A bounded map from a key to a witnessed answer: the younger half is kept
/// when it is full.
pub struct Memo<K, V> {
    young: HashMap<K, (V, Witness)>,
    old: HashMap<K, (V, Witness)>,
    half: usize,
    scratch: Vec<u8>,
}

impl<K: Eq + Hash + Clone, V: Clone> Memo<K, V> {
    /// Room for about `capacity` answers.
    pub fn new(capacity: usize) -> Self {
        Memo {
            young: HashMap::new(),
            old: HashMap::new(),
            half: (capacity / 2).max(1),
            scratch: Vec::new(),
        }
    }

    /// The answer for `key`: the remembered one when its bytes still stand
    /// (one batched read, `extra` included), else worked out by `work`.
    /// `extra` is read in every case, its `ok` flags tell how it went.
    pub fn get(
        &mut self,
        key: &K,
        memory: &dyn Memory,
        extra: &mut [Piece<'_>],
        work: impl Fn(&dyn Memory) -> Result<V, MemoryError>,
    ) -> Result<V, MemoryError> {
        if let Some((value, witness)) = self.young.get(key) {
            if witness.holds(memory, extra, &mut self.scratch)? {
                return Ok(value.clone());
            }
        } else if let Some((value, witness)) = self.old.remove(key) {
            if witness.holds(memory, extra, &mut self.scratch)? {
                self.put(key.clone(), value.clone(), witness);
                return Ok(value);
            }
        } else if !extra.is_empty() {
            memory.read_many(extra)?;
        }
        self.young.remove(key);
        let mut answer = None;
        for _ in 0..TRIES {
            let recorder = Recorder::new(memory);
            let value = work(&recorder)?;
            let Some(witness) = recorder.into_witness() else {
                return Ok(value);
            };
            // The walk read its pieces one after another: only when they are
            // all still the same do they belong together.
            if witness.holds(memory, &mut [], &mut self.scratch)? {
                self.put(key.clone(), value.clone(), witness);
                return Ok(value);
            }
            answer = Some(value);
        }
        match answer {
            Some(value) => Ok(value),
            None => work(memory),
        }
    }

    fn put(&mut self, key: K, value: V, witness: Witness) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, (value, witness));
    }

    /// How many answers are held.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// True when nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Patchwork;
    use std::cell::Cell;

    struct Counting {
        inner: Patchwork,
        batches: Cell<u32>,
        singles: Cell<u32>,
    }

    impl Memory for Counting {
        fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
            self.singles.set(self.singles.get() + 1);
            self.inner.read(at, into)
        }
        fn read_many(&self, pieces: &mut [Piece<'_>]) -> Result<(), MemoryError> {
            self.batches.set(self.batches.get() + 1);
            self.inner.read_many(pieces)
        }
    }

    fn target() -> Counting {
        Counting {
            inner: Patchwork {
                pieces: vec![
                    (LiveAddr(0x1000), 0x2000_u64.to_le_bytes().to_vec()),
                    (LiveAddr(0x2000), 7_u64.to_le_bytes().to_vec()),
                ],
            },
            batches: Cell::new(0),
            singles: Cell::new(0),
        }
    }

    fn follow(m: &dyn Memory) -> Result<u64, MemoryError> {
        m.read_u64(m.read_addr(LiveAddr(0x1000))?)
    }

    #[test]
    fn the_second_time_one_batch_is_read() {
        let mut target = target();
        let mut memo = Memo::new(8);
        assert_eq!(memo.get(&1, &target, &mut [], follow), Ok(7));
        target.batches.set(0);
        target.singles.set(0);
        let mut along = [0; 8];
        let mut extra = [Piece {
            at: LiveAddr(0x2000),
            into: &mut along,
            ok: false,
        }];
        assert_eq!(memo.get(&1, &target, &mut extra, follow), Ok(7));
        assert!(extra[0].ok);
        assert_eq!(along, 7_u64.to_le_bytes());
        assert_eq!((target.batches.get(), target.singles.get()), (1, 0));

        target.inner.pieces[1].1 = 8_u64.to_le_bytes().to_vec();
        assert_eq!(memo.get(&1, &target, &mut [], follow), Ok(8), "changed");
    }

    #[test]
    fn neighbours_are_read_in_one_piece_but_only_what_was_read_counts() {
        let recorder_over = |m: &Patchwork| {
            let recorder = Recorder::new(m);
            recorder.read_u64(LiveAddr(0x1020)).unwrap();
            recorder.read_u32(LiveAddr(0x1000)).unwrap();
            recorder.read_u32(LiveAddr(0x1022)).unwrap();
            recorder.read_u64(LiveAddr(0x3000)).unwrap();
            recorder.into_witness().unwrap()
        };
        let mut memory = Patchwork {
            pieces: vec![
                (LiveAddr(0x1000), (0..0x100).map(|b| b as u8).collect()),
                (LiveAddr(0x3000), vec![9; 8]),
            ],
        };
        let witness = recorder_over(&memory);
        assert_eq!(
            witness.runs,
            [(LiveAddr(0x1000), 0x28), (LiveAddr(0x3000), 8)]
        );
        let mut scratch = Vec::new();
        let mut holds = |m: &Patchwork| witness.holds(m, &mut [], &mut scratch).unwrap();
        assert!(holds(&memory));
        memory.pieces[0].1[8] = 0xff;
        assert!(holds(&memory), "a byte between them does not matter");
        memory.pieces[0].1[0x23] = 0xff;
        assert!(!holds(&memory));
        memory.pieces[0].1[0x23] = 0x23;
        memory.pieces[1].1[7] = 0;
        assert!(!holds(&memory));
    }

    #[test]
    fn it_is_bounded_and_forgets_the_older_half() {
        let target = target();
        let mut memo = Memo::new(10);
        for key in 0..1000 {
            assert_eq!(memo.get(&key, &target, &mut [], follow), Ok(7));
        }
        assert!(memo.len() <= 10);
        assert!(!memo.is_empty());
    }

    #[test]
    fn an_answer_over_unreadable_bytes_is_not_remembered() {
        let target = target();
        let mut memo: Memo<u8, Option<u64>> = Memo::new(8);
        let blind = |m: &dyn Memory| Ok(m.read_u64(LiveAddr(0x9000)).ok());
        assert_eq!(memo.get(&1, &target, &mut [], blind), Ok(None));
        assert!(memo.is_empty());
    }
}
