//! Arguments as a traceback prints them: words in hex, aggregates in braces
//! (runtime/traceback.go: printArgs).

use std::fmt::Write;

use crate::addr::{ImageAddr, LiveAddr};
use crate::image::{ArgShape, FUNCDATA_ARG_LIVE_INFO, Function, Image};

/// `internal/abi.PCDATA_ArgLiveIndex`
const PCDATA_ARG_LIVE_INDEX: u32 = 3;
/// Aggregates inside aggregates that are followed.
const MAX_DEPTH: usize = 8;

/// The arguments of `function` at `pc` (as lines are looked up), whose area
/// begins at `args`; `word` reads the stack. A `?` marks what may be stale, as
/// the runtime marks it, which never looks at a frame before its entry has
/// written its arguments down: there all that came in registers is marked, too,
/// but what `known` still finds in them.
pub fn render(
    image: &Image,
    function: &Function<'_>,
    pc: ImageAddr,
    args: LiveAddr,
    known: &dyn Fn(LiveAddr) -> Option<u64>,
    word: &dyn Fn(LiveAddr) -> Option<u64>,
) -> String {
    let mut printer = Printer {
        text: String::new(),
        args,
        known,
        word,
        liveness: Liveness::of(image, function, pc),
        slot: 0,
    };
    if let Some(info) = function.arg_info() {
        printer.list(&info.args, 0);
    }
    printer.text
}

struct Liveness<'a> {
    image: &'a Image,
    info: Option<ImageAddr>,
    index: i32,
    start: u8,
    /// The code before the first that the table speaks of.
    entry: bool,
}

impl<'a> Liveness<'a> {
    fn of(image: &'a Image, function: &Function<'_>, pc: ImageAddr) -> Liveness<'a> {
        let info = function.funcdata(FUNCDATA_ARG_LIVE_INFO);
        let first = info.and_then(|at| image.bytes(at, 1)?.first().copied());
        let index = function.pcdata_at(PCDATA_ARG_LIVE_INDEX, pc);
        let begin = function
            .pcdata(PCDATA_ARG_LIVE_INDEX)
            .and_then(|mut table| table.next());
        let entry = begin.is_some_and(|run| {
            run.value == -1 && u64::from(run.end) > pc.0.wrapping_sub(function.entry().0)
        });
        Liveness {
            image,
            info,
            index,
            entry,
            start: first.unwrap_or(0xff),
        }
    }

    fn is_live(&self, offset: u8, slot: u8) -> bool {
        let (Some(info), index) = (self.info, u64::try_from(self.index).unwrap_or(0)) else {
            return true;
        };
        if self.entry && offset >= self.start {
            return false;
        }
        if index == 0 || offset < self.start {
            return true;
        }
        let at = info.offset(index).offset(u64::from(slot / 8));
        let bits = self
            .image
            .bytes(at, 1)
            .and_then(|b| b.first().copied())
            .unwrap_or(0xff);
        bits & (1 << (slot % 8)) != 0
    }
}

struct Printer<'a> {
    text: String,
    args: LiveAddr,
    known: &'a dyn Fn(LiveAddr) -> Option<u64>,
    word: &'a dyn Fn(LiveAddr) -> Option<u64>,
    liveness: Liveness<'a>,
    slot: u8,
}

impl Printer<'_> {
    fn list(&mut self, shapes: &[ArgShape], depth: usize) {
        for (i, shape) in shapes.iter().enumerate() {
            if i > 0 {
                self.text.push_str(", ");
            }
            match shape {
                ArgShape::Scalar { offset, size } => self.scalar(*offset, *size),
                ArgShape::FarScalar => self.text.push('_'),
                ArgShape::More => self.text.push_str("..."),
                ArgShape::Aggregate(parts) if depth < MAX_DEPTH => {
                    self.text.push('{');
                    self.list(parts, depth + 1);
                    self.text.push('}');
                }
                ArgShape::Aggregate(_) => self.text.push_str("{...}"),
            }
        }
    }

    fn scalar(&mut self, offset: u8, size: u8) {
        let at = self.args.offset(u64::from(offset));
        let known = (self.known)(at);
        match known.or_else(|| (self.word)(at)) {
            Some(word) => {
                let bits = u32::from(size.min(8)) * 8;
                let mask = u64::MAX.checked_shr(64 - bits).unwrap_or(0);
                let _ = write!(self.text, "{:#x}", word & mask);
            }
            None => self.text.push('_'),
        }
        if known.is_none() && !self.liveness.is_live(offset, self.slot) {
            self.text.push('?');
        }
        if offset >= self.liveness.start {
            self.slot = self.slot.wrapping_add(1);
        }
    }
}
