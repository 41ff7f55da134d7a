//! What entries hand to RETs, as it should be: marks of calls that are let in, and
//! where buffers are.

use gotap::arch::jump::Capture;
use gotap::arch::jump::gate::Mark;
use gotap::arch::jump::handed::{BUFFERS, MARKS, PLACE, buffer_place, key, mark_place};
use gotap::arch::jump::{RingLayout, Shape};
use gotap::arch::unit::UnitKind;

use super::child::{AREA, Child, HEAP, STACK, State, USED};
use super::{G, Random};

/// One place of each table: that of the call at hand.
pub struct Handed {
    mark_at: u64,
    buffer_at: u64,
    key: u64,
    hi: u64,
    /// Count of marks, and the last one's key.
    pub mark: (u64, u64),
    buffer: (u64, u64),
}

/// Captures of buffers, and registers that suit them.
pub fn suit(random: &mut Random, kind: UnitKind, captures: &mut Vec<Capture>, from: &mut State) {
    if !random.one_in(3) {
        return;
    }
    captures.retain(|c| !matches!(c, Capture::Bytes { .. }));
    let max = 16 * (1 + random.below(6) as u32);
    if kind == UnitKind::Return {
        captures.push(Capture::Filled { max });
        from.regs.rax = match random.below(4) {
            0 => 0,
            1 => random.below(5),
            _ => random.below(130),
        };
        let led = |c: &Capture| matches!(c, Capture::Chain { from: 0, .. });
        if random.one_in(8) && !captures.iter().any(led) {
            from.regs.rax = u64::MAX;
        }
        return;
    }
    let (ptr, len) = (3, 4);
    captures.push(Capture::Buffer { ptr, len, max });
    match random.below(4) {
        0 => from.regs.rdi = STACK + random.below(AREA + 64),
        1 => from.regs.rdi = random.next(),
        _ => {}
    }
    if random.one_in(8) {
        from.regs.rsi = random.next() >> 1;
    }
}

impl Handed {
    /// Something at the places of the call.
    pub fn prepare(
        child: &Child,
        random: &mut Random,
        ring: &RingLayout,
        (goid, hi, depth): (u64, u64, u64),
    ) -> Handed {
        let key = key(if goid == 0 { G } else { goid }, depth);
        let marks = ring.at + 4096 + u64::from(ring.count) * u64::from(ring.record);
        let other = match random.below(3) {
            0 => 0,
            1 => random.next(),
            _ => key,
        };
        let fits = random.below(160);
        let place = match random.below(3) {
            0 => HEAP + random.below(USED as u64 - 256),
            _ => 1 << 47 | (hi - (STACK + random.below(USED as u64 - 256))),
        };
        let data = place << 16 | fits;
        let check = if random.one_in(8) {
            random.next()
        } else {
            data ^ key
        };
        let handed = Handed {
            mark_at: marks + mark_place(key) * PLACE,
            buffer_at: marks + (MARKS + buffer_place(key)) * PLACE,
            key,
            hi,
            mark: (random.below(3), other),
            buffer: (data, check),
        };
        assert!(handed.buffer_at < marks + (MARKS + BUFFERS) * PLACE);
        let words = |at, (a, b): (u64, u64)| {
            child.write(at, &a.to_le_bytes());
            child.write(at + 8, &b.to_le_bytes());
        };
        words(handed.mark_at, handed.mark);
        words(handed.buffer_at, handed.buffer);
        handed
    }

    /// Whether the mark lets a record be written, whose conditions hold or not, and
    /// for which there is room or not.
    pub fn asked(&mut self, mark: Mark, holds: bool, room: bool) -> bool {
        match mark {
            Mark::None => holds,
            Mark::Leave => {
                if holds && room {
                    self.mark = (self.mark.0 + 1, self.key);
                } else if !holds && self.mark.1 == self.key {
                    self.mark.1 = 0;
                }
                holds
            }
            Mark::Ask => holds && self.mark.0 != 0,
        }
    }

    /// A RET that is recorded takes its own mark.
    pub fn takes(&mut self, mark: Mark) -> bool {
        let own = mark == Mark::Ask && self.mark.1 == self.key;
        if own {
            self.mark = (self.mark.0 - 1, 0);
        }
        own
    }

    /// An entry that is recorded.
    pub fn left(&mut self, shape: &Shape, at: &State) {
        for (capture, _) in shape.parts() {
            if let Capture::Buffer { max, .. } = capture {
                let (ptr, len) = (at.regs.rdi, at.regs.rsi);
                if ptr >> 47 != 0 {
                    self.buffer.1 = 0;
                    continue;
                }
                let own = (at.regs.rsp..self.hi).contains(&ptr);
                let place = if own { 1 << 47 | (self.hi - ptr) } else { ptr };
                let data = place << 16 | len.min(u64::from(*max));
                self.buffer = (data, data ^ self.key);
            }
        }
    }

    /// Where a RET finds its buffer, and how many bytes of it are written down.
    pub fn found(&self, max: u32, n: u64) -> Option<(u64, usize)> {
        let (data, check) = self.buffer;
        let fits = data & 0xffff;
        let counts = n.cast_signed() > 0 && (n <= fits || fits >= u64::from(max));
        if data ^ check != self.key || !counts {
            return None;
        }
        let place = data >> 16;
        let at = if place >> 47 == 1 {
            self.hi - (place & ((1 << 47) - 1))
        } else {
            place
        };
        Some((at, n.min(u64::from(max)) as usize))
    }

    /// The tables hold what they should.
    pub fn check(&self, child: &Child, round: u64) {
        let words = |at| {
            let word = |at| u64::from_le_bytes(child.read(at, 8).try_into().expect("eight"));
            (word(at), word(at + 8))
        };
        assert_eq!(words(self.mark_at), self.mark, "round {round}: the mark");
        assert_eq!(words(self.buffer_at), self.buffer, "round {round}: buffer");
    }
}
