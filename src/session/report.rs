//! From registers and memory at a hit to what a record says.
//!
//! Everything here runs while a thread of the target waits: reads are batched,
//! names are shared, nothing is formatted.

use std::cell::RefCell;
use std::sync::Arc;

use super::adapters::LiveTypes;
use super::engine::Options;
use super::running::Stacks;
use super::target::Target;
use super::values::{At, Values, int_registers};
use crate::addr::LiveAddr;
use crate::arch::abi::Abi;
use crate::golang::errors::ErrorReader;
use crate::golang::family::{Family, Flow, Receiver, family_of};
use crate::golang::globals::Globals;
use crate::golang::layout::Layouts;
use crate::golang::net::{ConnFacts, ConnReader};
use crate::memory::{Memory, Piece};
use crate::probe::join::Stack;
use crate::probe::plan::Plan;
use crate::process::ProcessMemory;
use crate::record::{Call, Conn, Direction, End, Payload};
use crate::sys::Regs;

/// As much of a g as is read at every hit.
const G_HEAD: usize = 256;

/// A goroutine at a hit.
#[derive(Debug, Clone, Copy)]
pub(super) struct GInfo {
    /// Whose calls these are.
    pub stack: Stack,
    /// `stack.hi - sp`
    pub depth: u64,
    /// First address behind the stack.
    pub hi: u64,
}

impl GInfo {
    /// The goroutine's number, for one that has one.
    pub fn goid(&self) -> Option<u64> {
        match self.stack {
            Stack::Goroutine(id) => Some(id),
            Stack::System(_) => None,
        }
    }
}

/// A call that was running before the traps were there.
pub(super) struct Running {
    pub func: usize,
    pub goid: u64,
    pub depth: u64,
    pub conn: Option<Conn>,
}

struct Function {
    name: Arc<str>,
    family: Option<Family>,
    abi: Abi,
    /// Where argp says the receiver was spilled, if the code surely does that.
    spill: Option<u64>,
}

/// What recovering tells about the frame that goes on.
#[derive(Debug, Clone, Copy)]
enum RecoveredSp {
    /// Go 1.22 and later: `g._panic.sp` (runtime/panic.go, recovery).
    Panic { sp: u64 },
    /// Up to 1.21: `g.sigcode0`.
    Sigcode { at: u64 },
}

/// Makes records' contents for one target.
pub(super) struct Reporter {
    layouts: Arc<Layouts>,
    types: LiveTypes,
    conns: ConnReader,
    errors: RefCell<ErrorReader>,
    values: Values,
    stacks: Stacks,
    functions: Vec<Function>,
    globals: Globals,
    recovered_sp: Option<RecoveredSp>,
    payload: usize,
    frames: usize,
}

impl Reporter {
    pub fn new(target: &Target, plan: &Plan, options: &Options) -> Reporter {
        let minor = target.image.go_version().minor();
        let values = Values::new(target, plan);
        let functions = plan
            .functions
            .iter()
            .enumerate()
            .map(|(index, f)| Function {
                name: Arc::from(f.name.as_str()),
                family: family_of(&f.name, minor),
                abi: f.abi,
                spill: values
                    .decoder(index)
                    .and_then(|d| d.first_spill)
                    .filter(|at| super::spill::stores_receiver(&target.image, f, *at)),
            })
            .collect();
        let fields = &*target.types;
        let recovered_sp = {
            use crate::golang::dynamic::StructFields;
            if minor.is_some_and(|m| m <= 21) {
                fields
                    .offset_of("runtime.g", "sigcode0")
                    .map(|at| RecoveredSp::Sigcode { at })
            } else {
                fields
                    .offset_of("runtime._panic", "sp")
                    .map(|sp| RecoveredSp::Panic { sp })
            }
        };
        Reporter {
            conns: ConnReader::new(target.layouts.clone()),
            errors: RefCell::new(ErrorReader::new(target.layouts.clone(), minor)),
            values,
            stacks: Stacks::new(target),
            layouts: target.layouts.clone(),
            types: target.live_types(),
            functions,
            globals: Globals::resolve(&target.image),
            recovered_sp,
            payload: options.payload,
            frames: options.stack,
        }
    }

    /// A record of a function with nothing filled in.
    pub fn blank(&self, func: usize, tid: i32) -> Call {
        let function = self.functions.get(func);
        Call {
            id: 0,
            parent: None,
            time_ns: 0,
            dur_ns: None,
            goid: None,
            tid,
            func: function.map_or_else(|| Arc::from("?"), |f| f.name.clone()),
            conn: None,
            direction: function.and_then(|f| f.family).map(|f| match f.flow {
                Flow::In => Direction::In,
                Flow::Out => Direction::Out,
                Flow::Both => Direction::Both,
            }),
            asked: None,
            args: Vec::new(),
            results: Vec::new(),
            n: None,
            err: None,
            end: End::Open,
            since_attach: false,
            stack: Vec::new(),
            payload: None,
        }
    }

    /// The goroutine of a stopped thread: by R14, which compiled code keeps,
    /// else by the thread's own variable.
    pub fn g(&self, regs: &Regs, memory: &ProcessMemory) -> Option<GInfo> {
        let mut head = [0; G_HEAD];
        if memory.read(LiveAddr(regs.r14), &mut head).is_ok()
            && let Some(g) = self.parse_g(regs.r14, &head, regs.rsp)
        {
            return Some(g);
        }
        self.g_by_tls(regs, memory)
    }

    fn g_by_tls(&self, regs: &Regs, memory: &ProcessMemory) -> Option<GInfo> {
        let at = regs.fs_base.wrapping_add_signed(self.globals.g_tls?);
        let g = memory.read_u64(LiveAddr(at)).ok()?;
        let mut head = [0; G_HEAD];
        memory.read(LiveAddr(g), &mut head).ok()?;
        self.parse_g(g, &head, regs.rsp)
    }

    fn parse_g(&self, addr: u64, head: &[u8; G_HEAD], sp: u64) -> Option<GInfo> {
        let word = |at: u64| -> Option<u64> {
            let at = usize::try_from(at).ok()?;
            head.get(at..at.checked_add(8)?)?
                .try_into()
                .ok()
                .map(u64::from_le_bytes)
        };
        let g = &self.layouts.g;
        let (lo, hi) = (word(g.stack_lo)?, word(g.stack_hi)?);
        if !(lo < sp && sp < hi) {
            return None;
        }
        let stack = match word(g.goid)? {
            0 => Stack::System(addr),
            id => Stack::Goroutine(id),
        };
        Some(GInfo {
            stack,
            depth: hi - sp,
            hi,
        })
    }

    /// A function is entered: whose call it is, and what is known of it now.
    pub fn entered(
        &mut self,
        func: usize,
        regs: &Regs,
        tid: i32,
        memory: &ProcessMemory,
    ) -> Option<(GInfo, Box<Call>)> {
        let mut call = Box::new(self.blank(func, tid));
        let function = self.functions.get(func)?;
        let family = function.family.filter(|_| function.abi == Abi::Internal);
        let mut head = [0; G_HEAD];
        let mut g_read = false;
        if let Some((register, kind)) = family.and_then(|f| f.receiver) {
            let words = [int(regs, register), int(regs, register + 1)];
            let mut extra = [Piece {
                at: LiveAddr(regs.r14),
                into: &mut head,
                ok: false,
            }];
            let facts = self
                .conns
                .facts(memory, &self.types, kind, words, &mut extra)
                .ok()?;
            g_read = extra.iter().all(|p| p.ok);
            call.conn = Some(conn(&facts));
        }
        let from_r14 = if g_read {
            self.parse_g(regs.r14, &head, regs.rsp)
        } else {
            None
        };
        let g = match from_r14 {
            Some(g) => g,
            None => self.g(regs, memory)?,
        };
        call.goid = g.goid();
        self.add_stack(&mut call, regs, &g, memory);
        let at = At {
            regs,
            tid,
            memory,
            types: &self.types,
            errors: &self.errors,
        };
        call.args = self.values.args(func, &at);
        if let Some(buffer) = family.and_then(|f| f.buffer) {
            let (at, len) = (int(regs, buffer.ptr), int(regs, buffer.len));
            call.asked = Some(len);
            if self.payload > 0 {
                let mut payload = Payload {
                    bytes: Vec::new(),
                    len: at,
                };
                if family.is_some_and(|f| f.flow == Flow::Out) {
                    payload.bytes = self.first_bytes(memory, at, len);
                    payload.len = len;
                }
                // For what is read, the buffer's address is kept until it is filled.
                call.payload = Some(payload);
            }
        }
        Some((g, call))
    }

    /// Fills in the stack, where one is wanted. The return address lies at the
    /// same place at a RET: it serves for calls whose entry was not seen.
    pub fn add_stack(&mut self, call: &mut Call, regs: &Regs, g: &GInfo, memory: &ProcessMemory) {
        if self.frames > 0 {
            call.stack = self
                .stacks
                .at(memory, (regs.rip, regs.rsp, g.hi), self.frames);
        }
    }

    fn first_bytes(&self, memory: &ProcessMemory, at: u64, len: u64) -> Vec<u8> {
        let take = usize::try_from(len).unwrap_or(usize::MAX).min(self.payload);
        memory.read_vec(LiveAddr(at), take).unwrap_or_default()
    }

    /// A function returned: its results.
    pub fn returned(
        &mut self,
        func: usize,
        call: &mut Call,
        regs: &Regs,
        tid: i32,
        memory: &ProcessMemory,
    ) {
        let Some(function) = self.functions.get(func) else {
            return;
        };
        if call.since_attach {
            call.tid = tid;
        }
        let at = At {
            regs,
            tid,
            memory,
            types: &self.types,
            errors: &self.errors,
        };
        let (results, error) = self.values.results(func, &at);
        call.results = results;
        call.err = error;
        let Some(family) = function.family.filter(|_| function.abi == Abi::Internal) else {
            return;
        };
        if let Some(register) = family.n {
            call.n = Some(int(regs, register) as i64);
        }
        if call.err.is_none()
            && let (Some(itab), Some(data)) = (family.err, family.err_data())
        {
            call.err = Some(at.error(int(regs, itab), int(regs, data)));
        }
        if let Some(gives) = family.gives {
            let words = [int(regs, gives.register), int(regs, gives.register + 1)];
            if words[0] != 0
                && let Ok(facts) = self
                    .conns
                    .facts(memory, &self.types, gives.kind, words, &mut [])
            {
                call.conn = Some(conn(&facts));
            }
        }
        if let Some(payload) = &mut call.payload
            && family.flow != Flow::Out
        {
            let at = std::mem::take(&mut payload.len);
            let len = call.n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
            let take = usize::try_from(len).unwrap_or(usize::MAX).min(self.payload);
            payload.bytes = memory.read_vec(LiveAddr(at), take).unwrap_or_default();
            payload.len = len;
        }
    }

    /// `runtime.recovery` is entered on g0 with the goroutine in RAX: whose
    /// stack is cut, and below which depth.
    pub fn recovered(&self, regs: &Regs, memory: &ProcessMemory) -> Option<(Stack, Option<u64>)> {
        let g = &self.layouts.g;
        let at = LiveAddr(regs.rax);
        let hi = memory.read_u64(at.offset(g.stack_hi)).ok()?;
        let goid = memory.read_u64(at.offset(g.goid)).ok()?;
        let sp = match self.recovered_sp? {
            RecoveredSp::Sigcode { at: offset } => memory.read_u64(at.offset(offset)).ok(),
            RecoveredSp::Panic { sp } => {
                // g._panic: the fifth word since Go 1.2 (runtime2.go).
                let panic = memory.read_addr(at.offset(32)).ok()?;
                memory.read_u64(panic.offset(sp)).ok()
            }
        };
        let below = sp
            .and_then(|sp| hi.checked_sub(sp))
            .filter(|d| *d < 1 << 32);
        Some((Stack::Goroutine(goid), below))
    }

    /// How many goroutines there are or were.
    pub fn goroutines(&self, target: &Target, memory: &ProcessMemory) -> u64 {
        let len = self.globals.allglen.map(|at| target.bias.live(at));
        len.and_then(|at| memory.read_u64(at).ok()).unwrap_or(0)
    }

    /// Calls that goroutines are parked in now, outer ones first.
    pub fn running(
        &mut self,
        target: &Target,
        plan: &Plan,
        memory: &ProcessMemory,
    ) -> Vec<Running> {
        let found = self.stacks.inside(plan, target, &self.globals, memory);
        let mut calls = found.map(|f| f.calls).unwrap_or_default();
        calls.reverse();
        let mut running = Vec::with_capacity(calls.len());
        for call in calls {
            let fd = call.wait.map(|w| w.fd);
            let owner = call.wait.and_then(|w| w.poll_fd).map(|at| [at.0, 0]);
            let family = self.functions.get(call.traced).and_then(|f| f.family);
            let facts = owner.filter(|_| family.is_some()).and_then(|words| {
                self.conns
                    .facts(memory, &self.types, Receiver::PollFd, words, &mut [])
                    .ok()
            });
            let mut found = facts.map(|f| conn(&f));
            if found.as_ref().is_none_or(|c| c.fd.is_none()) && family.is_some() && fd.is_some() {
                found = Some(Conn {
                    fd,
                    ..Conn::default()
                });
            }
            running.push(Running {
                func: call.traced,
                goid: call.goid,
                depth: call.offset,
                conn: found,
            });
        }
        running
    }

    /// The connection of a call whose entry was not seen: its receiver, from
    /// where the function's own code has put it.
    pub fn spilled_conn(
        &mut self,
        func: usize,
        regs: &Regs,
        memory: &ProcessMemory,
    ) -> Option<Conn> {
        let function = self.functions.get(func)?;
        let (register, kind) = function.family?.receiver?;
        let spill = function.spill.filter(|_| register == 0)?;
        let at = LiveAddr(regs.rsp.wrapping_add(8).wrapping_add(spill));
        let receiver = memory.read_u64(at).ok()?;
        let facts = self
            .conns
            .facts(memory, &self.types, kind, [receiver, 0], &mut [])
            .ok()?;
        facts.fd.is_some().then(|| conn(&facts))
    }
}

fn conn(facts: &Arc<ConnFacts>) -> Conn {
    Conn {
        fd: facts.fd,
        network: facts.network.clone(),
        local: facts.local.clone(),
        remote: facts.remote.clone(),
        note: facts.note,
    }
}

/// An integer register by its place in Go's sequence.
fn int(regs: &Regs, index: u8) -> u64 {
    int_registers(regs)
        .get(usize::from(index))
        .copied()
        .unwrap_or(0)
}

/// What was to be read has not been read, unless the call returned.
pub(super) fn unfinished(mut call: Call) -> Call {
    if call.end != End::Return && call.payload.as_ref().is_some_and(|p| p.bytes.is_empty()) {
        call.payload = None;
    }
    call
}
