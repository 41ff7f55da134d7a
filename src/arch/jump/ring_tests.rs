use std::sync::atomic::Ordering::{Acquire, Release};

use super::*;

fn layout(count: u32) -> RingLayout {
    RingLayout {
        at: 0,
        count,
        record: 64,
    }
}

fn memory(layout: &RingLayout) -> Vec<AtomicU64> {
    let words = (0..layout.len() / 8)
        .map(|_| AtomicU64::new(0))
        .collect::<Vec<_>>();
    layout.prepare(&words);
    words
}

fn place(layout: &RingLayout, ticket: u64) -> usize {
    ((CONTROL + (ticket & u64::from(layout.mask())) * u64::from(layout.record)) / 8) as usize
}

/// What a trampoline does, in words.
fn write(layout: &RingLayout, words: &[AtomicU64], value: u64) -> bool {
    // The tail may have passed the head that was read: then there is room.
    let head = words[HEAD_WORD].load(Acquire);
    let unread = head.wrapping_sub(words[TAIL_WORD].load(Acquire));
    if unread.cast_signed() >= i64::from(layout.limit()) {
        words[DROPPED_WORD].fetch_add(1, Release);
        return false;
    }
    let ticket = words[HEAD_WORD].fetch_add(1, Release);
    let at = place(layout, ticket);
    words[at].store(0, Release);
    words[at + 1].store(ticket, Release);
    for word in &words[at + 2..at + 8] {
        word.store(value, Release);
    }
    words[at].store(ticket + 1, Release);
    true
}

#[test]
fn nothing_is_counted_twice_or_forgotten_while_the_reader_stalls() {
    const WRITERS: u64 = 4;
    const EACH: u64 = 2_500_000;
    let layout = layout(4 * SPARE as u32);
    let words = memory(&layout);
    let done = AtomicU64::new(0);
    let (mut reader, mut out) = (Reader::new(layout), [0; 8]);
    let mut last = vec![None; WRITERS as usize];
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (layout, words, done) = (&layout, &words, &done);
            scope.spawn(move || {
                for i in 0..EACH {
                    write(layout, words, writer << 32 | i);
                }
                done.fetch_add(1, Release);
            });
        }
        loop {
            let over = done.load(Acquire) == WRITERS;
            let mut taken = 0;
            loop {
                match reader.next(&words, &mut out) {
                    Next::Record => {
                        assert!(out[2..].iter().all(|w| *w == out[2]), "torn: {out:x?}");
                        let (writer, i) = ((out[2] >> 32) as usize, out[2] & 0xffff_ffff);
                        assert!(last[writer] < Some(i), "writer {writer}: {i} again");
                        last[writer] = Some(i);
                        taken += 1;
                    }
                    Next::Lost | Next::Unfinished => std::thread::yield_now(),
                    Next::Nothing => break,
                }
                // It stalls: what it has read is not released for long.
                if taken == 60_000 {
                    break;
                }
            }
            reader.release(&words);
            if taken < 60_000 {
                reader.fold(&words, 100);
            }
            if over && taken == 0 {
                break;
            }
        }
    });
    let dropped = reader.dropped(&words);
    assert_eq!(reader.received() + reader.lost() + dropped, WRITERS * EACH);
    assert_eq!(reader.lost(), 0, "there was room to spare for every writer");
    assert!(dropped > 0 && reader.received() > 0);
}

#[test]
fn an_unfinished_record_is_waited_for_and_can_be_given_up() {
    let layout = layout(4 * SPARE as u32);
    let words = memory(&layout);
    let (mut reader, mut out) = (Reader::new(layout), [0; 8]);
    assert_eq!(reader.next(&words, &mut out), Next::Nothing);
    // A ticket without a commit, and a whole record behind it.
    words[HEAD_WORD].fetch_add(1, Release);
    assert!(write(&layout, &words, 7));
    assert_eq!(reader.next(&words, &mut out), Next::Unfinished);
    reader.skip();
    assert_eq!(reader.next(&words, &mut out), Next::Record);
    assert_eq!(reader.next(&words, &mut out), Next::Nothing);
    assert_eq!((reader.received(), reader.lost()), (1, 1));
    // A lap later the place of the one that was given up is not believed.
    for i in 2..=u64::from(layout.count) {
        reader.release(&words);
        assert!(write(&layout, &words, i));
        let due = if i == u64::from(layout.count) {
            Next::Lost
        } else {
            Next::Record
        };
        assert_eq!(reader.next(&words, &mut out), due, "{i}");
    }
}

/// A reader that keeps up: nothing is lost, and few places are used.
#[test]
fn folding_loses_nothing() {
    let layout = layout(4 * SPARE as u32);
    let words = memory(&layout);
    let (mut reader, mut out) = (Reader::new(layout), [0; 8]);
    for round in 0..5_000_u64 {
        for i in 0..round % 300 {
            assert!(write(&layout, &words, round << 32 | i));
        }
        for i in 0..round % 300 {
            assert_eq!(reader.next(&words, &mut out), Next::Record);
            assert_eq!(out[2], round << 32 | i);
        }
        assert_eq!(reader.next(&words, &mut out), Next::Nothing);
        reader.release(&words);
        reader.fold(&words, 100);
        // Nothing is left out twice, nothing is taken for full.
        reader.fold(&words, 100);
        assert_eq!(reader.written(&words), reader.received());
    }
    assert_eq!((reader.lost(), reader.dropped(&words)), (0, 0));
    let touched = (CONTROL / 8) as usize + 8 * 500;
    assert!(words[touched..].iter().all(|w| w.load(Acquire) == 0));
}

/// What is unread keeps the reader from folding.
#[test]
fn with_something_unread_nothing_is_folded() {
    let layout = layout(4 * SPARE as u32);
    let words = memory(&layout);
    let (mut reader, mut out) = (Reader::new(layout), [0; 8]);
    for i in 0..200 {
        assert!(write(&layout, &words, i));
    }
    for _ in 0..150 {
        assert_eq!(reader.next(&words, &mut out), Next::Record);
    }
    reader.release(&words);
    reader.fold(&words, 100);
    assert_eq!(reader.written(&words), 200);
    assert_eq!(words[TAIL_WORD].load(Acquire), 150);
    assert_eq!(reader.next(&words, &mut out), Next::Record);
    assert_eq!(out[2], 150);
}

#[test]
fn one_that_was_overwritten_is_lost() {
    let layout = layout(4 * SPARE as u32);
    let words = memory(&layout);
    let (mut reader, mut out) = (Reader::new(layout), [0; 8]);
    assert!(write(&layout, &words, 1));
    words[place(&layout, 0)].store(u64::from(layout.count) + 1, Release);
    assert_eq!(reader.next(&words, &mut out), Next::Lost);
    assert_eq!(reader.next(&words, &mut out), Next::Nothing);
}

#[test]
fn a_ring_has_room_to_spare_whatever_is_asked() {
    for (bytes, longest) in [(0, 0), (1 << 20, 100), (64 << 20, 64), (1 << 40, 4096)] {
        let layout = RingLayout::new(0x1000, bytes, longest);
        assert!(layout.count.is_power_of_two() && u64::from(layout.count) >= 2 * SPARE);
        assert!(layout.record as usize >= longest && (layout.record as usize).is_multiple_of(LINE));
        assert!(layout.limit() > 0);
    }
}
