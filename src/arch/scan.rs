//! A whole function disassembled: where its stack check ends, its RETs, its
//! branches, calls and the jumps by which it leaves.
//!
//! capstone tells instruction boundaries; what an instruction does to the flow
//! of control is read from its opcode bytes, which needs no operand details
//! (half of capstone's time). Where capstone does not know an instruction,
//! iced-x86 is asked for its length. The sweep is linear: Go's text holds no
//! data inside functions, and gaps between them are filled with int3.

use capstone::Capstone;
use capstone::arch::BuildsCapstone;
use capstone::arch::x86::ArchMode;

use super::prologue::{StackCheck, parse_stack_check};

/// Longest function that is scanned; the longest seen in real programs (a
/// generated parser) had 350 kB.
pub const MAX_FUNCTION: usize = 1 << 20;

/// Why no disassembly is possible at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot set up the disassembler: {0}")]
pub struct ScanError(String);

/// A jump that leaves the function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TailJump {
    /// Address of the jump.
    pub at: u64,
    /// Where it goes; `None` when a register or memory says (not a jump table).
    pub target: Option<u64>,
    /// Taken only under a condition.
    pub conditional: bool,
}

/// A jump through a table: a `switch`. Its targets lie inside the function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JumpTable {
    /// Address of the jump.
    pub at: u64,
    /// Address of the table of 8-byte addresses, when it could be seen.
    pub table: Option<u64>,
}

/// What stands in the way of trusting a scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Problem {
    /// Longer than [`MAX_FUNCTION`]; nothing was looked at.
    #[error("the function is {0} bytes long, more than can be looked through")]
    TooLong(usize),
    /// No code at all.
    #[error("the function has no bytes")]
    Empty,
    /// Neither disassembler knows these bytes; what follows was not seen.
    #[error("the bytes at {0:#x} are no instruction")]
    Undecodable(u64),
    /// A branch goes into the middle of an instruction as swept.
    #[error("a branch goes to {0:#x}, inside an instruction")]
    BranchInside(u64),
    /// `ret n` or a far return, which Go never writes.
    #[error("the return at {0:#x} is of a kind that Go does not write")]
    OddReturn(u64),
}

/// What is known of a function's code. Addresses are those that the caller
/// numbers the code with.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scan {
    /// The function's entry.
    pub entry: u64,
    /// The stack check; `None` for nosplit functions.
    pub check: Option<StackCheck>,
    /// First instruction after the stack check; the entry when there is none.
    pub site: u64,
    /// Length of the instruction at `site`, bytes.
    pub site_len: usize,
    /// Every RET, ascending.
    pub rets: Vec<u64>,
    /// Where direct branches inside the function go, ascending, each once.
    pub branch_targets: Vec<u64>,
    /// Where direct calls go, ascending, each once.
    pub calls: Vec<u64>,
    /// Address of the first direct call.
    pub first_call: Option<u64>,
    /// Code or data addresses taken with `lea reg, [rip+…]`, ascending, each
    /// once: closures and jump tables are among them.
    pub taken: Vec<u64>,
    /// Jumps out of the function, in order.
    pub tail_jumps: Vec<TailJump>,
    /// Jumps through tables, in order.
    pub jump_tables: Vec<JumpTable>,
    /// Number of instructions, padding included.
    pub insns: usize,
    /// Empty when the scan can be trusted.
    pub problems: Vec<Problem>,
}

impl Scan {
    /// A branch of the function goes to this address.
    pub fn is_branch_target(&self, at: u64) -> bool {
        self.branch_targets.binary_search(&at).is_ok()
    }

    /// A branch goes to the entry site: passing it again is no new call.
    pub fn reenters_site(&self) -> bool {
        self.is_branch_target(self.site)
    }
}

/// The disassemblers, made once and used for many functions.
#[derive(Debug)]
pub struct Disassembler {
    capstone: Capstone,
}

/// What an instruction does to the flow of control.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Flow {
    Next,
    Ret,
    OddRet,
    Jump(u64),
    Branch(u64),
    Call(u64),
    IndirectJump { table: bool },
    Taken(u64),
}

impl Disassembler {
    /// Sets capstone up for 64-bit code.
    pub fn new() -> Result<Self, ScanError> {
        let capstone = Capstone::new()
            .x86()
            .mode(ArchMode::Mode64)
            .build()
            .map_err(|e| ScanError(e.to_string()))?;
        Ok(Self { capstone })
    }

    /// Disassembles the function whose bytes are `code`, from its entry to the
    /// next function's.
    pub fn scan_function(&self, code: &[u8], entry: u64) -> Scan {
        let mut scan = Scan {
            entry,
            site: entry,
            ..Scan::default()
        };
        if code.is_empty() {
            scan.problems.push(Problem::Empty);
            return scan;
        }
        if code.len() > MAX_FUNCTION {
            scan.problems.push(Problem::TooLong(code.len()));
            return scan;
        }
        let mut sweep = Sweep::new(scan, code);
        sweep.run(&self.capstone);
        sweep.finish()
    }

    /// The length of the instruction that `code` begins with.
    pub fn insn_len(&self, code: &[u8], at: u64) -> Option<usize> {
        let mut one = self.capstone.disasm_iter(code, at).ok()?;
        one.next().map(|i| i.len()).or_else(|| iced_len(code, at))
    }
}

struct Sweep<'a> {
    scan: Scan,
    code: &'a [u8],
    end: u64,
    /// Offsets at which instructions begin, ascending.
    starts: Vec<u32>,
    /// The last `lea`'s address and its position in `starts`.
    last_lea: Option<(u64, usize)>,
}

impl<'a> Sweep<'a> {
    fn new(mut scan: Scan, code: &'a [u8]) -> Self {
        let end = scan.entry.saturating_add(code.len() as u64);
        scan.check = parse_stack_check(code).filter(|check| {
            let inside = usize::try_from(check.grow).is_ok_and(|to| to < code.len());
            inside && check.len < code.len()
        });
        if let Some(check) = scan.check {
            scan.site = scan.entry.saturating_add(check.len as u64);
        }
        Self {
            scan,
            code,
            end,
            starts: Vec::with_capacity(code.len() / 4),
            last_lea: None,
        }
    }

    fn run(&mut self, capstone: &Capstone) {
        let mut offset = 0;
        let Ok(mut iter) = capstone.disasm_iter(self.code, self.scan.entry) else {
            self.scan
                .problems
                .push(Problem::Undecodable(self.scan.entry));
            return;
        };
        while let Some(rest) = self.code.get(offset..).filter(|r| !r.is_empty()) {
            let at = self.scan.entry.saturating_add(offset as u64);
            let len = if let Some(insn) = iter.next() {
                insn.len()
            } else {
                let Some(len) = iced_len(rest, at) else {
                    self.scan.problems.push(Problem::Undecodable(at));
                    return;
                };
                let after = rest.get(len..).unwrap_or_default();
                iter.reset(after, at.saturating_add(len as u64));
                len
            };
            self.note(at, offset, rest.get(..len).unwrap_or(rest));
            offset = offset.saturating_add(len.max(1));
        }
    }

    fn note(&mut self, at: u64, offset: usize, insn: &[u8]) {
        self.starts.push(offset as u32);
        self.scan.insns += 1;
        if at == self.scan.site {
            self.scan.site_len = insn.len();
        }
        let inside = |to: u64| (self.scan.entry..self.end).contains(&to);
        match flow(insn, at) {
            Flow::Next => {}
            Flow::Ret => self.scan.rets.push(at),
            Flow::OddRet => self.scan.problems.push(Problem::OddReturn(at)),
            Flow::Jump(to) | Flow::Branch(to) if inside(to) => self.scan.branch_targets.push(to),
            Flow::Jump(to) => self.scan.tail_jumps.push(TailJump {
                at,
                target: Some(to),
                conditional: false,
            }),
            Flow::Branch(to) => self.scan.tail_jumps.push(TailJump {
                at,
                target: Some(to),
                conditional: true,
            }),
            Flow::Call(to) => {
                self.scan.first_call.get_or_insert(at);
                self.scan.calls.push(to);
            }
            Flow::Taken(to) => {
                self.scan.taken.push(to);
                self.last_lea = Some((to, self.starts.len()));
            }
            Flow::IndirectJump { table: true } => {
                let near = |seen: usize| self.starts.len().saturating_sub(seen) <= 4;
                let table = self.last_lea.filter(|(_, seen)| near(*seen));
                self.scan.jump_tables.push(JumpTable {
                    at,
                    table: table.map(|(to, _)| to),
                });
            }
            Flow::IndirectJump { table: false } => self.scan.tail_jumps.push(TailJump {
                at,
                target: None,
                conditional: false,
            }),
        }
    }

    fn finish(mut self) -> Scan {
        let scan = &mut self.scan;
        for list in [&mut scan.branch_targets, &mut scan.calls, &mut scan.taken] {
            list.sort_unstable();
            list.dedup();
        }
        let inside_insn = |to: &u64| {
            let offset = to.wrapping_sub(scan.entry) as u32;
            self.starts.binary_search(&offset).is_err()
        };
        let odd = scan.branch_targets.iter().copied().find(inside_insn);
        // Targets behind an undecodable place were not swept at all.
        if let Some(to) = odd.filter(|_| scan.problems.is_empty()) {
            scan.problems.push(Problem::BranchInside(to));
        }
        self.scan
    }
}

/// The length of an instruction that capstone does not know.
fn iced_len(code: &[u8], at: u64) -> Option<usize> {
    let mut decoder = iced_x86::Decoder::with_ip(64, code, at, iced_x86::DecoderOptions::NONE);
    if !decoder.can_decode() {
        return None;
    }
    let insn = decoder.decode();
    (!insn.is_invalid()).then(|| insn.len())
}

/// Reads from an instruction's bytes what it does to the flow of control
/// (Intel SDM volume 2, appendix A: these opcodes have one meaning each).
fn flow(insn: &[u8], at: u64) -> Flow {
    let next = at.wrapping_add(insn.len() as u64);
    let mut rest = insn;
    while let [
        0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65,
        tail @ ..,
    ] = rest
    {
        rest = tail;
    }
    let mut rex = 0;
    if let [prefix @ 0x40..=0x4f, tail @ ..] = rest {
        rex = *prefix;
        rest = tail;
    }
    let wide = rex & 8 != 0;
    let near = |d: &[u8]| {
        let d: Option<[u8; 4]> = d.try_into().ok();
        d.map(|d| next.wrapping_add_signed(i64::from(i32::from_le_bytes(d))))
    };
    let short = |d: u8| next.wrapping_add_signed(i64::from(d.cast_signed()));
    match *rest {
        [0xc3] => Flow::Ret,
        [0xc2 | 0xca | 0xcb | 0xcf, ..] => Flow::OddRet,
        [0x70..=0x7f | 0xe0..=0xe3, d] => Flow::Branch(short(d)),
        [0xeb, d] => Flow::Jump(short(d)),
        [0xe9, ref d @ ..] => near(d).map_or(Flow::Next, Flow::Jump),
        [0xe8, ref d @ ..] => near(d).map_or(Flow::Next, Flow::Call),
        [0x0f, 0x80..=0x8f, ref d @ ..] => near(d).map_or(Flow::Next, Flow::Branch),
        [0x8d, modrm, ref d @ ..] if wide && modrm & 0xc7 == 0x05 => {
            near(d).map_or(Flow::Next, Flow::Taken)
        }
        [0xff, modrm, ref tail @ ..] if matches!((modrm >> 3) & 7, 4 | 5) => {
            // A memory operand with an index register (4 is none, 12 is r12)
            // scaled by 8.
            let scaled = |sib: &u8| sib >> 6 == 3 && ((sib >> 3) & 7 != 4 || rex & 2 != 0);
            let table = modrm >> 6 != 3 && modrm & 7 == 4 && tail.first().is_some_and(scaled);
            Flow::IndirectJump { table }
        }
        _ => Flow::Next,
    }
}

#[cfg(test)]
mod tests;
