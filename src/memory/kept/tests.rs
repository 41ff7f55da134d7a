use super::*;
use std::cell::Cell;

/// Bytes that say how often they were read.
struct Counting {
    reads: Cell<u8>,
    gone: Cell<bool>,
}

impl Memory for Counting {
    fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        if self.gone.get() {
            return Err(MemoryError::Gone);
        }
        if at.0 < 100 || at.0 + into.len() as u64 > 200 {
            return Err(MemoryError::Unmapped {
                at,
                len: into.len(),
            });
        }
        self.reads.set(self.reads.get() + 1);
        into.fill(self.reads.get());
        Ok(())
    }
}

fn counting() -> Keeping<Counting> {
    Keeping::new(Counting {
        reads: Cell::new(0),
        gone: Cell::new(false),
    })
}

#[test]
fn a_byte_is_read_once_while_it_is_kept() {
    let memory = counting();
    memory.keep();
    assert_eq!(memory.read_vec(LiveAddr(110), 4), Ok(vec![1; 4]));
    assert_eq!(memory.read_vec(LiveAddr(118), 2), Ok(vec![2; 2]));
    let all = memory.read_vec(LiveAddr(108), 14);
    let expected = [3, 3, 1, 1, 1, 1, 4, 4, 4, 4, 2, 2, 5, 5];
    assert_eq!(all, Ok(expected.to_vec()));
    memory.replay();
    assert_eq!(memory.read_vec(LiveAddr(108), 14), Ok(expected.to_vec()));
    assert_eq!(memory.read_vec(LiveAddr(113), 3), Ok(vec![1, 4, 4]));
}

#[test]
fn a_batch_keeps_what_overlaps_once() {
    let memory = counting();
    memory.keep();
    let read = |memory: &Keeping<Counting>| {
        let (mut a, mut b, mut c) = ([0; 8], [0; 8], [0; 4]);
        let piece = |at, into| Piece {
            at: LiveAddr(at),
            into,
            ok: false,
        };
        let mut pieces = [
            piece(120, &mut a[..]),
            piece(124, &mut b[..]),
            piece(198, &mut c[..]),
        ];
        memory.read_many(&mut pieces).expect("it is there");
        let ok = [pieces[0].ok, pieces[1].ok, pieces[2].ok];
        (ok, a, b)
    };
    let first = read(&memory);
    assert_eq!(first.0, [true, true, false]);
    assert_eq!(first.1[4..], first.2[..4], "of one moment");
    memory.replay();
    assert_eq!(read(&memory), first);
}

#[test]
fn what_was_kept_outlives_the_target() {
    let memory = counting();
    memory.keep();
    let word = memory.read_u64(LiveAddr(100));
    memory.replay();
    memory.target.gone.set(true);
    assert_eq!(memory.read_u64(LiveAddr(100)), word);
    assert!(matches!(
        memory.read_u64(LiveAddr(104)),
        Err(MemoryError::Unmapped { .. })
    ));
    memory.forget();
    assert_eq!(memory.read_u64(LiveAddr(100)), Err(MemoryError::Gone));
    assert!(memory.read_u64(LiveAddr(u64::MAX - 3)).is_err());
}
