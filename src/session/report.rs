//! From registers and memory at a hit to what a record says.
//!
//! Everything here runs while a thread of the target waits: reads are batched,
//! names are shared, nothing is formatted.

use std::cell::RefCell;
use std::sync::Arc;

use super::adapters::LiveTypes;
use super::engine::Options;
use super::hook::Hooks;
use super::running::Stacks;
pub(super) use super::seen::{GInfo, Seen};
use super::target::Target;
use super::values::{At, Values, int_registers};
use super::watch::Watch;
use crate::addr::LiveAddr;
use crate::arch::abi::Abi;
use crate::arch::jump::Capture;
use crate::golang::errors::ErrorReader;
use crate::golang::family::{Family, Flow, Receiver, family_of};
use crate::golang::globals::Globals;
use crate::golang::layout::Layouts;
use crate::golang::net::{ConnFacts, ConnReader};
use crate::memory::{Memory, Piece};
use crate::probe::decode::Decoder;
use crate::probe::join::Stack;
use crate::probe::plan::Plan;
use crate::process::ProcessMemory;
use crate::record::{Call, Conn, Direction, End, Endpoint, LOCALS_UNASKED, Named, Payload};
use crate::sys::Regs;
use crate::value::Value;

/// As much of a g as is read at every hit.
const G_HEAD: usize = 256;

/// A call that was running before the traps were there.
pub(super) struct Running {
    pub func: usize,
    pub goid: u64,
    pub depth: u64,
    pub conn: Option<Arc<Conn>>,
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
    frames_of: Vec<usize>,
    watches: Vec<Option<Arc<Watch>>>,
    /// What is asked at places.
    pub hooks: Option<Box<Hooks>>,
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
            frames_of: options.stacks.clone(),
            watches: options.watches.clone(),
            hooks: (!options.hooks.is_empty())
                .then(|| Box::new(Hooks::new(target, options.hooks.clone()))),
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
            args: Named::default(),
            results: Named::default(),
            n: None,
            err: None,
            end: End::Open,
            since_attach: false,
            entry_lost: false,
            doubtful: false,
            late: false,
            stack: Vec::new(),
            payload: None,
            locals: Vec::new(),
            no_locals: Some(LOCALS_UNASKED),
            passed: None,
            taken: Vec::new(),
        }
    }

    /// A record of a line that is passed.
    pub fn passing(&mut self, seen: &Seen<'_>, goid: Option<u64>, frames: usize) -> Call {
        let mut call = self.blank(usize::MAX, seen.tid);
        call.goid = goid;
        call.end = End::Passed;
        if frames > 0
            && let Some(g) = self.g(seen)
        {
            let at = (seen.regs.rip, seen.regs.rsp, g.hi);
            call.stack = self.stacks.at(seen.memory, at, frames);
        }
        call
    }

    /// The goroutine of a stopped thread: by R14, which compiled code keeps,
    /// else by the thread's own variable.
    pub fn g(&self, seen: &Seen<'_>) -> Option<GInfo> {
        if seen.g.is_some() {
            return seen.g;
        }
        let (regs, memory) = (seen.regs, seen.memory);
        let mut head = [0; G_HEAD];
        if memory.read(LiveAddr(regs.r14), &mut head).is_ok()
            && let Some(g) = self.parse_g(regs.r14, &head, regs.rsp)
        {
            return Some(g);
        }
        self.g_by_tls(regs, memory)
    }

    fn g_by_tls(&self, regs: &Regs, memory: &dyn Memory) -> Option<GInfo> {
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

    /// The connection that a function is called on.
    pub fn receiver(&mut self, func: usize, seen: &Seen<'_>) -> Option<Arc<Conn>> {
        let (register, kind) = self.family(func)?.receiver?;
        let words = [int(seen.regs, register), int(seen.regs, register + 1)];
        let facts = self
            .conns
            .facts(seen.memory, &self.types, kind, words, &mut []);
        Some(conn(&facts.ok()?))
    }

    /// The same by what was written down alone, where that is enough.
    pub fn receiver_in_time(&self, func: usize, seen: &Seen<'_>) -> Option<Arc<Conn>> {
        let (register, kind) = self.family(func)?.receiver?;
        self.facts_in_time(seen, kind, register)
    }

    fn facts_in_time(&self, seen: &Seen<'_>, kind: Receiver, register: u8) -> Option<Arc<Conn>> {
        let words = [int(seen.regs, register), int(seen.regs, register + 1)];
        let read = || {
            self.conns
                .facts_afresh(seen.memory, &self.types, kind, words)
        };
        Some(conn(&seen.in_time(read)?.ok()?))
    }

    /// What is asked of the calls of a function.
    pub fn watch(&self, func: usize) -> Option<Arc<Watch>> {
        self.watches.get(func)?.clone()
    }

    /// What is seen at a site, with what is known to understand it.
    pub fn at<'a>(&'a self, seen: &'a Seen<'a>) -> At<'a> {
        At {
            seen,
            types: &self.types,
            errors: &self.errors,
        }
    }

    /// A function is entered: whose call it is, and what is known of it now.
    pub fn entered(&mut self, func: usize, seen: &Seen<'_>) -> Option<(GInfo, Box<Call>)> {
        let (regs, memory) = (seen.regs, seen.memory);
        let mut call = Box::new(self.blank(func, seen.tid));
        let function = self.functions.get(func)?;
        let family = function.family.filter(|_| function.abi == Abi::Internal);
        let mut head = [0; G_HEAD];
        let mut g_read = false;
        if let Some(known) = seen.conn {
            call.conn = Some(known.clone());
        } else if let Some((register, kind)) = family.and_then(|f| f.receiver)
            && let Some(in_time) = self.facts_in_time(seen, kind, register)
        {
            call.conn = Some(in_time);
        } else if let Some((register, kind)) = family.and_then(|f| f.receiver) {
            let words = [int(regs, register), int(regs, register + 1)];
            let mut with_g = [Piece {
                at: LiveAddr(regs.r14),
                into: &mut head,
                ok: false,
            }];
            let extra: &mut [Piece<'_>] = match seen.g {
                Some(_) => &mut [],
                None => &mut with_g,
            };
            let facts = self
                .conns
                .facts(memory, &self.types, kind, words, extra)
                .ok()?;
            g_read = seen.g.is_none() && with_g.iter().all(|p| p.ok);
            call.conn = Some(conn(&facts));
        }
        let from_r14 = if g_read {
            self.parse_g(regs.r14, &head, regs.rsp)
        } else {
            None
        };
        let g = match from_r14 {
            Some(g) => g,
            None => self.g(seen)?,
        };
        call.goid = g.goid();
        self.add_stack(func, &mut call, seen, &g);
        let at = At {
            seen,
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
    pub fn add_stack(&mut self, func: usize, call: &mut Call, seen: &Seen<'_>, g: &GInfo) {
        let frames = self.frames(func);
        if frames > 0 {
            let at = (seen.regs.rip, seen.regs.rsp, g.hi);
            call.stack = match seen.frames {
                Some(words) => self.stacks.of_words(words, at, frames),
                None => self.stacks.at(seen.memory, at, frames),
            };
        }
    }

    fn first_bytes(&self, memory: &dyn Memory, at: u64, len: u64) -> Vec<u8> {
        let take = usize::try_from(len).unwrap_or(usize::MAX).min(self.payload);
        memory.read_vec(LiveAddr(at), take).unwrap_or_default()
    }

    /// A function returned: its results.
    pub fn returned(&mut self, func: usize, call: &mut Call, seen: &Seen<'_>) {
        let (regs, memory) = (seen.regs, seen.memory);
        let Some(function) = self.functions.get(func) else {
            return;
        };
        if call.since_attach {
            call.tid = seen.tid;
        }
        let at = At {
            seen,
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
        // A socket that is connected to nobody: who sent it, or whom it was sent to.
        if family.buffer.is_some()
            && let Some(conn) = call.conn.as_mut().filter(|c| c.remote.is_none())
        {
            let values = call.args.iter().chain(&*call.results);
            if let Some(remote) = values.map(|(_, value)| value).find_map(peer) {
                Arc::make_mut(conn).remote = Some(remote);
            }
        }
        if call.err.is_none()
            && let (Some(itab), Some(data)) = (family.err, family.err_data())
        {
            call.err = Some(at.error(int(regs, itab), int(regs, data)));
        }
        if let Some(gives) = family.gives {
            let words = [int(regs, gives.register), int(regs, gives.register + 1)];
            let in_time = self.facts_in_time(seen, gives.kind, gives.register);
            if words[0] != 0 {
                call.conn = in_time.or_else(|| {
                    let (conns, kind) = (&mut self.conns, gives.kind);
                    let facts = conns.facts(memory, &self.types, kind, words, &mut []);
                    facts.ok().map(|facts| conn(&facts))
                });
            }
        }
        if let Some(payload) = &mut call.payload
            && family.flow != Flow::Out
        {
            let at = std::mem::take(&mut payload.len);
            let len = call.n.and_then(|n| u64::try_from(n).ok()).unwrap_or(0);
            let take = usize::try_from(len).unwrap_or(usize::MAX).min(self.payload);
            payload.bytes = match seen.filled {
                Some(words) => {
                    let bytes = words.iter().flat_map(|word| word.to_le_bytes());
                    bytes.take(take).collect()
                }
                None => memory.read_vec(LiveAddr(at), take).unwrap_or_default(),
            };
            payload.len = len;
        }
    }

    /// `runtime.recovery` is entered on g0 with the goroutine in RAX: whose
    /// stack is cut, and below which depth.
    pub fn recovered(&self, regs: &Regs, memory: &dyn Memory) -> Option<(Stack, Option<u64>)> {
        let g = &self.layouts.g;
        let at = LiveAddr(regs.rax);
        let hi = memory.read_u64(at.offset(g.stack_hi)).ok()?;
        let goid = memory.read_u64(at.offset(g.goid)).ok()?;
        let sp = match self.recovered_sp? {
            RecoveredSp::Sigcode { at: offset } => memory.read_u64(at.offset(offset)).ok(),
            RecoveredSp::Panic { sp } => {
                let panic = memory.read_addr(at.offset(g.panic)).ok()?;
                memory.read_u64(panic.offset(sp)).ok()
            }
        };
        let below = sp
            .and_then(|sp| hi.checked_sub(sp))
            .filter(|d| *d < 1 << 32);
        Some((Stack::Goroutine(goid), below))
    }

    /// What [`Reporter::recovered`] reads, for those who must say so before.
    pub fn recovery_reads(&self) -> Vec<Capture> {
        let g = &self.layouts.g;
        let near = |offset: u64| i32::try_from(offset).unwrap_or(0);
        let chain = |hops: &[u64], fields: &[u64]| Capture::Chain {
            from: 0,
            hops: hops.iter().map(|o| near(*o)).collect(),
            fields: fields.iter().map(|o| near(*o)).collect(),
        };
        match self.recovered_sp {
            Some(RecoveredSp::Sigcode { at }) => vec![chain(&[], &[g.stack_hi, g.goid, at])],
            Some(RecoveredSp::Panic { sp }) => {
                vec![chain(&[], &[g.stack_hi, g.goid]), chain(&[g.panic], &[sp])]
            }
            None => vec![chain(&[], &[g.stack_hi, g.goid])],
        }
    }

    /// How many frames of its stack are wanted.
    pub fn frames(&self, func: usize) -> usize {
        self.frames_of.get(func).copied().unwrap_or(self.frames)
    }

    /// What is known by name of a function, if it keeps Go's own convention.
    pub fn family(&self, func: usize) -> Option<Family> {
        let function = self.functions.get(func)?;
        function.family.filter(|_| function.abi == Abi::Internal)
    }

    /// Where a function's own code has put its receiver, from argp.
    pub fn spill(&self, func: usize) -> Option<u64> {
        self.functions.get(func)?.spill
    }

    /// A function's values are shown with what they point to, or it returns errors
    /// of any type, which has to be read while its thread waits. Of what methods of
    /// connections return, trampolines copy enough.
    pub fn has_to_wait(&self, func: usize) -> bool {
        let errors = self.decoder(func).is_some_and(Decoder::gives_error);
        self.values.follows(func) || errors && self.family(func).is_none()
    }

    /// How a function's values are read.
    pub fn decoder(&self, func: usize) -> Option<&Decoder> {
        self.values.decoder(func)
    }

    /// Struct layouts.
    pub fn layouts(&self) -> &Layouts {
        &self.layouts
    }

    /// Where the runtime's variables lie.
    pub fn globals(&self) -> &Globals {
        &self.globals
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
                found = Some(Arc::new(Conn {
                    fd,
                    ..Conn::default()
                }));
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
    pub fn spilled_conn(&mut self, func: usize, seen: &Seen<'_>) -> Option<Arc<Conn>> {
        let (regs, memory) = (seen.regs, seen.memory);
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

/// The address that a value is.
fn peer(value: &Value) -> Option<Endpoint> {
    match value {
        Value::Text(text) => Some(Endpoint::Inet(text.parse().ok()?, "".into())),
        Value::Ref(inner) => peer(inner),
        Value::Interface { value, .. } => peer(value),
        _ => None,
    }
}

fn conn(facts: &Arc<ConnFacts>) -> Arc<Conn> {
    Arc::new(Conn {
        fd: facts.fd,
        network: facts.network.clone(),
        local: facts.local.clone(),
        remote: facts.remote.clone(),
        note: facts.note,
    })
}

/// An integer register by its place in Go's sequence.
fn int(regs: &Regs, index: u8) -> u64 {
    int_registers(regs)
        .get(usize::from(index))
        .copied()
        .unwrap_or(0)
}
