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

/// The bytes that an answer was worked out from.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Witness {
    places: Vec<(LiveAddr, usize)>,
    bytes: Vec<u8>,
    overflow: bool,
}

impl Witness {
    fn note(&mut self, at: LiveAddr, bytes: &[u8]) {
        if self.overflow || bytes.is_empty() {
            return;
        }
        if self.places.len() >= MAX_PIECES || self.bytes.len() + bytes.len() > MAX_BYTES {
            self.overflow = true;
            return;
        }
        self.places.push((at, bytes.len()));
        self.bytes.extend_from_slice(bytes);
    }

    /// Reads all places again, and `extra` along in the same batch; true when
    /// every byte is as it was.
    pub fn holds(
        &self,
        memory: &dyn Memory,
        extra: &mut [Piece<'_>],
        scratch: &mut Vec<u8>,
    ) -> Result<bool, MemoryError> {
        scratch.clear();
        scratch.resize(self.bytes.len(), 0);
        let mut pieces = Vec::with_capacity(extra.len() + self.places.len());
        for piece in extra.iter_mut() {
            pieces.push(Piece {
                at: piece.at,
                into: &mut *piece.into,
                ok: false,
            });
        }
        let mut rest = scratch.as_mut_slice();
        for &(at, len) in &self.places {
            let (into, tail) = rest.split_at_mut(len);
            rest = tail;
            pieces.push(Piece {
                at,
                into,
                ok: false,
            });
        }
        memory.read_many(&mut pieces)?;
        let oks: Vec<bool> = pieces.iter().map(|p| p.ok).collect();
        drop(pieces);
        let (theirs, ours) = oks.split_at(extra.len());
        for (piece, &ok) in extra.iter_mut().zip(theirs) {
            piece.ok = ok;
        }
        Ok(ours.iter().all(|&ok| ok) && *scratch == self.bytes)
    }
}

/// A memory that remembers what was read through it.
pub struct Recorder<'a> {
    inner: &'a dyn Memory,
    seen: RefCell<Witness>,
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
        let seen = self.seen.into_inner();
        (!seen.overflow).then_some(seen)
    }
}

impl Memory for Recorder<'_> {
    fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        let done = self.inner.read(at, into);
        let mut seen = self.seen.borrow_mut();
        match &done {
            Ok(()) => seen.note(at, into),
            // An answer that rests on an unreadable address is not remembered.
            Err(_) => seen.overflow = true,
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
                seen.overflow = true;
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
