//! A record as if its thread still stood at the site: registers, and memory as
//! it was then where that was written down.

use std::cell::{Cell, OnceCell};

use super::captures::SiteRecord;
use crate::addr::LiveAddr;
use crate::arch::jump::{Capture, held};
use crate::memory::{Memory, MemoryError, Piece};
use crate::probe::join::Stack;
use crate::process::ProcessMemory;
use crate::session::adapters::Constants;
use crate::session::report::{GInfo, Seen};
use crate::sys::Regs;

/// Stacks are at most 1 GB (runtime/proc.go, maxstacksize).
const MAX_STACK: u64 = 1 << 30;

/// A place in memory and what stood there.
#[derive(Debug, Clone, Copy)]
struct Known<'a> {
    at: u64,
    len: usize,
    what: What<'a>,
}

#[derive(Debug, Clone, Copy)]
enum What<'a> {
    Word(u64),
    Words(&'a [u64]),
}

impl<'a> Known<'a> {
    fn words(at: u64, words: &'a [u64], len: usize) -> Self {
        Known {
            at,
            len: len.min(words.len().saturating_mul(8)),
            what: What::Words(words),
        }
    }

    fn word(at: u64, word: u64) -> Self {
        Known {
            at,
            len: 8,
            what: What::Word(word),
        }
    }

    fn byte(&self, at: usize) -> u8 {
        let word = match self.what {
            What::Word(word) => word,
            What::Words(words) => words.get(at / 8).copied().unwrap_or(0),
        };
        word.to_le_bytes().get(at % 8).copied().unwrap_or(0)
    }
}

/// What a record tells.
pub struct Past<'a> {
    /// Its registers.
    pub regs: Regs,
    /// Whose it is.
    pub g: Option<GInfo>,
    /// The thread, if it was written down.
    pub tid: i32,
    /// Float registers, where some were written down.
    floats: Option<[[u8; 16]; 16]>,
    /// The connection is another by now, or gone.
    pub conn_changed: bool,
    record: &'a [u64],
    site: &'a SiteRecord,
    /// What the record leaves out of its connection, copied before.
    copy: Option<&'a [u64]>,
    /// What stood where, of the record; few are asked for it.
    known: OnceCell<Vec<Known<'a>>>,
    /// What is known besides.
    more: Vec<Known<'a>>,
    /// The stack above the call: it has changed since.
    gone: std::ops::Range<u64>,
    beyond: &'a ProcessMemory,
    constants: &'a Constants,
    late: Cell<bool>,
}

impl<'a> Past<'a> {
    /// From a record's words and what its site writes down, or what was copied
    /// before. `at` is the site's live address.
    pub fn new(
        record: &'a [u64],
        site: &'a SiteRecord,
        copy: Option<&'a [u64]>,
        (at, no_regs): (u64, Regs),
        (beyond, constants): (&'a ProcessMemory, &'a Constants),
    ) -> Past<'a> {
        let word = |i: usize| record.get(i).copied().unwrap_or(0);
        let (goid, hi, sp, g) = (word(4), word(5), word(6), word(7));
        let mut regs = no_regs;
        (regs.rsp, regs.r14, regs.rip) = (sp, g, at);
        let depth = hi.wrapping_sub(sp);
        let sound = depth > 0 && depth < MAX_STACK;
        let mut past = Past {
            regs,
            g: sound.then_some(GInfo {
                stack: match goid {
                    0 => Stack::System(g),
                    id => Stack::Goroutine(id),
                },
                depth,
                hi,
            }),
            tid: 0,
            floats: None,
            conn_changed: false,
            record,
            site,
            copy,
            known: OnceCell::new(),
            more: Vec::new(),
            gone: if sound { sp..hi } else { 0..0 },
            beyond,
            constants,
            late: Cell::new(false),
        };
        for (capture, from) in site.shape.parts() {
            past.take(capture, from);
        }
        if let Some(at) = site.tid {
            past.tid = i32::try_from(word(at + 1)).unwrap_or(0);
        }
        past
    }

    /// What was read late until now was compared with the record, or was not.
    pub fn set_late(&self, late: bool) {
        self.late.set(late);
    }

    /// As a hit shows it.
    pub fn seen(&self) -> Seen<'_> {
        Seen {
            regs: &self.regs,
            tid: self.tid,
            memory: self,
            g: self.g,
            floats: self.floats,
            frames: self.site.frames.and_then(|(at, frames)| {
                self.record.get(at..at.checked_add(frames.checked_mul(2)?)?)
            }),
            filled: self.site.filled.and_then(|(at, words)| {
                let record = self.record.get(at..at.checked_add(words)?)?;
                let (place, bytes) = record.split_first()?;
                (*place != 0).then_some(bytes)
            }),
            late: Some(&self.late),
            conn: None,
        }
    }

    /// A register that was written down.
    fn take(&mut self, capture: &Capture, from: usize) {
        let word = |i: usize| self.record.get(from + i).copied().unwrap_or(0);
        match capture {
            Capture::Int(i) => {
                let word = word(0);
                if let Some(register) = int(&mut self.regs, *i) {
                    *register = word;
                }
            }
            Capture::Float(i) => {
                let both = u128::from(word(0)) | u128::from(word(1)) << 64;
                let floats = self.floats.get_or_insert([[0; 16]; 16]);
                if let Some(register) = floats.get_mut(usize::from(*i)) {
                    *register = both.to_le_bytes();
                }
            }
            Capture::Stack { .. }
            | Capture::Chain { .. }
            | Capture::Copied { .. }
            | Capture::Interface { .. }
            | Capture::Frames { .. }
            | Capture::Buffer { .. }
            | Capture::Filled { .. }
            | Capture::Bytes { .. } => {}
        }
    }

    /// Places and what stood there; later ones are the truer.
    fn known(&self) -> impl DoubleEndedIterator<Item = &Known<'a>> {
        let known = self.known.get_or_init(|| self.recorded());
        known.iter().chain(&self.more)
    }

    fn recorded(&self) -> Vec<Known<'a>> {
        let mut regs = self.regs;
        let mut all = Vec::with_capacity(16);
        self.tell_copy(&mut all);
        for (capture, from) in self.site.shape.parts() {
            let words = self.record.get(from..).unwrap_or_default();
            let word = |i: usize| words.get(i).copied().unwrap_or(0);
            match capture {
                Capture::Int(_)
                | Capture::Float(_)
                | Capture::Frames { .. }
                | Capture::Buffer { .. }
                | Capture::Filled { .. } => {}
                Capture::Stack { offset, words: n } => {
                    let argp = regs.rsp.wrapping_add(8);
                    let words = words.get(..*n as usize).unwrap_or_default();
                    all.push(Known {
                        at: argp.wrapping_add(u64::from(*offset)),
                        len: words.len() * 8,
                        what: What::Words(words),
                    });
                }
                Capture::Chain { from, hops, fields } => {
                    let pointer = word(0);
                    if pointer == 0 {
                        continue;
                    }
                    if let [hop] = hops.as_slice()
                        && let Some(from) = int(&mut regs, *from)
                    {
                        let at = from.wrapping_add_signed(i64::from(*hop));
                        all.push(Known::word(at, pointer));
                    }
                    for (field, i) in fields.iter().zip(1..) {
                        let at = pointer.wrapping_add_signed(i64::from(*field));
                        all.push(Known::word(at, word(i)));
                    }
                }
                Capture::Copied {
                    from, hops, parts, ..
                } => {
                    let pointer = word(0);
                    if pointer == 0 {
                        continue;
                    }
                    if let [hop] = hops.as_slice()
                        && let Some(from) = int(&mut regs, *from)
                    {
                        let at = from.wrapping_add_signed(i64::from(*hop));
                        all.push(Known::word(at, pointer));
                    }
                    let copied = words.get(1..).unwrap_or_default();
                    held::tell(parts, pointer, copied, &mut |at, words, len| {
                        all.push(Known::words(at, words, len));
                    });
                }
                Capture::Interface { of, .. } => {
                    of.tell(words, &mut |at, words, len| {
                        all.push(Known::words(at, words, len));
                    });
                }
                Capture::Bytes { ptr, len, max } => {
                    let at = int(&mut regs, *ptr).map_or(0, |r| *r);
                    let len = int(&mut regs, *len).map_or(0, |r| *r);
                    let len = usize::try_from(len).unwrap_or(usize::MAX);
                    all.push(Known {
                        at,
                        len: len.min(*max as usize),
                        what: What::Words(words),
                    });
                }
            }
        }
        all
    }

    /// What was copied before; what the record itself tells is truer.
    fn tell_copy(&self, all: &mut Vec<Known<'a>>) {
        let Some(((at, _), copy)) = self.site.conn.as_ref().zip(self.copy) else {
            return;
        };
        let pointer = self.record.get(*at).copied().unwrap_or(0);
        for (capture, _) in self.site.shape.parts() {
            if let Capture::Copied {
                parts,
                once: Some(_),
                ..
            } = capture
                && pointer != 0
            {
                held::tell(parts, pointer, copy, &mut |at, words, len| {
                    all.push(Known::words(at, words, len));
                });
            }
        }
    }

    fn know(&mut self, at: u64, word: u64) {
        self.more.push(Known::word(at, word));
    }

    /// The addresses of a connection are read now: only if it is the same one
    /// still do they belong to the call.
    pub fn check_connection(&mut self, record: &[u64], site: &SiteRecord) {
        let Some((at, conn)) = &site.conn else {
            return;
        };
        let word = |i: usize| record.get(i).copied().unwrap_or(0);
        let pointer = word(*at);
        if pointer == 0 {
            return;
        }
        let place = |field: i32| LiveAddr(pointer.wrapping_add_signed(i64::from(field)));
        let then = (at + 1..).map(word);
        let same = conn
            .fields
            .iter()
            .zip(then)
            .skip(1)
            .all(|(field, then)| self.beyond.read_u64(place(*field)) == Ok(then));
        if !same {
            self.conn_changed = true;
            for field in &conn.blank {
                self.know(place(*field).0, 0);
            }
        }
    }
}

/// An integer register by its place in Go's sequence.
fn int(regs: &mut Regs, index: u8) -> Option<&mut u64> {
    Some(match index {
        0 => &mut regs.rax,
        1 => &mut regs.rbx,
        2 => &mut regs.rcx,
        3 => &mut regs.rdi,
        4 => &mut regs.rsi,
        5 => &mut regs.r8,
        6 => &mut regs.r9,
        7 => &mut regs.r10,
        8 => &mut regs.r11,
        _ => return None,
    })
}

impl Past<'_> {
    /// All of it lies in one place that is known: true, and nothing else is asked.
    /// Later places are the truer ones.
    fn recall(&self, at: LiveAddr, into: &mut [u8]) -> bool {
        for known in self.known().rev() {
            let Some(offset) = at.0.checked_sub(known.at) else {
                continue;
            };
            if offset.saturating_add(into.len() as u64) > known.len as u64 {
                continue;
            }
            for (to, from) in into.iter_mut().zip(offset as usize..) {
                *to = known.byte(from);
            }
            return true;
        }
        false
    }

    fn is_gone(&self, at: LiveAddr, len: usize) -> bool {
        at.0 < self.gone.end && at.0.saturating_add(len as u64) > self.gone.start
    }

    /// Puts what is known over what was read now.
    fn correct(&self, at: LiveAddr, into: &mut [u8]) {
        for known in self.known() {
            let apart = known.at.abs_diff(at.0);
            if apart > (known.len + into.len()) as u64 {
                continue;
            }
            for (from, place) in (0..known.len).zip(known.at..) {
                let offset = place.checked_sub(at.0);
                let offset = offset.and_then(|o| usize::try_from(o).ok());
                if let Some(to) = offset.and_then(|o| into.get_mut(o)) {
                    *to = known.byte(from);
                }
            }
        }
    }
}

impl Memory for Past<'_> {
    fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        if self.recall(at, into) {
            return Ok(());
        }
        if self.is_gone(at, into.len()) {
            let len = into.len();
            return Err(MemoryError::Unmapped { at, len });
        }
        if self.constants.read(at, into) {
            return Ok(());
        }
        self.late.set(true);
        self.beyond.read(at, into)?;
        self.correct(at, into);
        Ok(())
    }

    fn read_many(&self, pieces: &mut [Piece<'_>]) -> Result<(), MemoryError> {
        let mut unknown = Vec::with_capacity(pieces.len());
        for piece in pieces {
            piece.ok = self.recall(piece.at, piece.into);
            piece.ok = piece.ok || self.constants.read(piece.at, piece.into);
            if !piece.ok && !self.is_gone(piece.at, piece.into.len()) {
                unknown.push(piece);
            }
        }
        let mut now: Vec<Piece<'_>> = unknown
            .iter_mut()
            .map(|piece| Piece {
                at: piece.at,
                into: &mut *piece.into,
                ok: false,
            })
            .collect();
        if !now.is_empty() {
            self.late.set(true);
        }
        self.beyond.read_many(&mut now)?;
        let read: Vec<bool> = now.into_iter().map(|piece| piece.ok).collect();
        for (piece, ok) in unknown.into_iter().zip(read) {
            piece.ok = ok;
            if ok {
                self.correct(piece.at, piece.into);
            }
        }
        Ok(())
    }
}
