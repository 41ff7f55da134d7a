//! The smallest debugger that can carry out a planned step: it starts a
//! program, plants int3s, lifts one to let a thread pass, and asks the planner.
//! What it lacks for any program but the tests' own is why it is no more than
//! a proof of the planner: all threads stand still while one passes a trap.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;

use gotap::addr::{ImageAddr, LiveAddr};
use gotap::golang::gs::Goroutine;
use gotap::golang::step::{Arrival, Kind, Planner, Program, Reached, Returned, Standing, Step};
use gotap::image::dwarf::Dwarf;
use gotap::memory::Memory;
use gotap::process::ProcessMemory;
use gotap::session::Target;
use gotap::sys::spawn::spawn_held;
use gotap::sys::wait::{Stop, Wait, Whom};
use gotap::sys::{Regs, ptrace, wait};
use nix::unistd::Pid;

/// A program under the smallest debugger. It is killed when dropped.
pub struct Stepper {
    pid: i32,
    target: Target,
    dwarf: Dwarf,
    memory: ProcessMemory,
    planner: Planner,
    threads: HashSet<i32>,
    /// First bytes of what is trapped.
    traps: BTreeMap<u64, u8>,
    /// The thread that the stepped goroutine stands on.
    tid: i32,
    /// Signals that came while a thread made one step.
    held: Vec<(i32, i32)>,
}

/// Where a step ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Landed {
    /// At an instruction.
    At(u64, Option<Returned>),
    /// The program ended.
    Exited,
}

impl Stepper {
    /// Starts a program, up to the breakpoint of the function named.
    pub fn start(program: &Path, function: &str) -> Stepper {
        let argv = [OsString::from(program)];
        let held = spawn_held(&argv, true).expect("a child");
        let pid = held.pid();
        ptrace::seize(pid).expect("seize a child");
        let outcome = held.release().expect("it runs the program");
        loop {
            match wait::await_one(pid) {
                Wait::Stopped {
                    stop: Stop::Exec, ..
                } => break,
                Wait::Stopped { .. } => ptrace::cont(pid, 0).expect("go on"),
                other => panic!("{}: {other:?} {:?}", program.display(), outcome.error()),
            }
        }
        let target = Target::of_process(pid).expect("a Go program");
        let dwarf = Dwarf::open(target.image.clone()).expect("DWARF");
        let mut stepper = Stepper {
            pid,
            dwarf: dwarf.expect("some"),
            target,
            memory: ProcessMemory::open(pid).expect("its memory"),
            planner: Planner::new(),
            threads: HashSet::from([pid]),
            traps: BTreeMap::new(),
            tid: pid,
            held: Vec::new(),
        };
        let found = stepper.target.image.functions().by_name(function);
        let found = found.first().expect("the function");
        let at = stepper.dwarf.breakpoint_of(found).expect("lines");
        stepper.trap(&[at]);
        ptrace::cont(pid, 0).expect("go on");
        assert!(stepper.run(|_, _| true), "{function} was not reached");
        stepper.trap(&[]);
        stepper
    }

    /// Where it stands.
    pub fn pc(&self) -> u64 {
        self.regs().rip
    }

    /// What is trapped, for messages.
    pub fn trapped(&self) -> Vec<String> {
        self.traps.keys().map(|at| self.line(*at)).collect()
    }

    fn regs(&self) -> Regs {
        ptrace::registers(self.tid).expect("its registers")
    }

    /// File and line of an instruction.
    pub fn line(&self, pc: u64) -> String {
        let function = self.target.image.functions().find(ImageAddr(pc));
        let Some(function) = function else {
            return format!("{pc:#x}");
        };
        let lines = self.dwarf.lines_of(&function);
        let at = lines.as_ref().and_then(|l| l.at(ImageAddr(pc)));
        let (file, line) = at.unwrap_or(("?", 0));
        let file = file.rsplit('/').next().unwrap_or(file);
        format!("{} {file}:{line} {pc:#x}", function.name())
    }

    /// Carries out one step.
    pub fn step(&mut self, kind: Kind) -> Result<Landed, String> {
        let regs = self.regs();
        let standing = Standing {
            g: self.goroutine(&regs).expect("a goroutine"),
            pc: LiveAddr(regs.rip),
            sp: LiveAddr(regs.rsp),
        };
        let mut planner = std::mem::take(&mut self.planner);
        let planned = planner.plan(&self.program(), kind, &standing);
        self.planner = planner;
        let mut step = planned.map_err(|e| e.to_string())?;
        self.trap(&step.places());
        if self.traps.contains_key(&regs.rip) {
            self.pass(self.tid);
        }
        for tid in self.threads.clone() {
            self.go_on(tid);
        }
        let mut returned = None;
        let ended = self.run(|stepper, regs| stepper.judge(&mut step, regs, &mut returned));
        if ended {
            self.trap(&[]);
        } else if std::env::var_os("STEPS_TRAPS").is_some() {
            eprintln!("ended with traps at {:#?}", self.trapped());
        }
        Ok(if ended {
            Landed::At(self.pc(), returned)
        } else {
            Landed::Exited
        })
    }

    /// One instruction of the thread it stands on.
    pub fn instruction(&mut self) {
        self.single(self.tid);
    }

    fn judge(&mut self, step: &mut Step, regs: &Regs, into: &mut Option<Returned>) -> bool {
        let Some(g) = self.goroutine(regs) else {
            return false;
        };
        let mut planner = std::mem::take(&mut self.planner);
        let reached = planner.reached(&self.program(), step, &Arrival { g, regs });
        self.planner = planner;
        match reached.expect("a judgement") {
            Reached::Passes => false,
            Reached::Changed => {
                self.trap(&step.places());
                false
            }
            Reached::Ended(returned) => {
                *into = returned;
                true
            }
        }
    }

    fn program(&self) -> Program<'_> {
        Program {
            image: &self.target.image,
            dwarf: &self.dwarf,
            layouts: &self.target.layouts,
            bias: self.target.bias,
            memory: &self.memory,
        }
    }

    /// The goroutine of a thread: `m.curg` of the g at fs:-8.
    fn goroutine(&self, regs: &Regs) -> Option<Goroutine> {
        let layouts = &self.target.layouts;
        let g = self.memory.read_addr(LiveAddr(regs.fs_base - 8)).ok()?;
        let m = self.memory.read_addr(g.offset(layouts.g.m)).ok()?;
        let curg = self.memory.read_addr(m.offset(layouts.m.curg)).ok()?;
        let size = usize::try_from(layouts.g.size).ok()?;
        let bytes = self.memory.read_vec(curg, size).ok()?;
        Some(Goroutine::parse(layouts, curg, &bytes))
    }

    /// Traps exactly these.
    fn trap(&mut self, places: &[ImageAddr]) {
        let wanted: HashSet<u64> = places
            .iter()
            .map(|at| self.target.bias.live(*at).0)
            .collect();
        let old: Vec<(u64, u8)> = self.traps.iter().map(|(at, byte)| (*at, *byte)).collect();
        for (at, byte) in old.iter().filter(|(at, _)| !wanted.contains(at)) {
            self.poke(*at, *byte);
            self.traps.remove(at);
        }
        for at in wanted {
            if !self.traps.contains_key(&at) {
                let byte = self.memory.read_vec(LiveAddr(at), 1).expect("code");
                self.traps.insert(at, byte[0]);
                self.poke(at, 0xcc);
            }
        }
    }

    fn poke(&self, at: u64, byte: u8) {
        self.memory.write(at, &[byte]).expect("write code");
    }

    fn go_on(&mut self, tid: i32) {
        let held = self.held.iter().position(|(t, _)| *t == tid);
        let signal = held.map_or(0, |i| self.held.remove(i).1);
        let _ = ptrace::cont(tid, signal);
    }

    /// Lets a thread pass a trap that it stands on.
    fn pass(&mut self, tid: i32) {
        let at = ptrace::registers(tid).expect("its registers").rip;
        let byte = self.traps[&at];
        self.poke(at, byte);
        self.single(tid);
        self.poke(at, 0xcc);
    }

    fn single(&mut self, tid: i32) {
        let before = ptrace::registers(tid).expect("its registers").rip;
        loop {
            nix::sys::ptrace::step(Pid::from_raw(tid), None).expect("a step");
            match wait::await_one(tid) {
                Wait::Stopped {
                    stop: Stop::Signal(libc::SIGTRAP),
                    ..
                } if ptrace::registers(tid).is_ok_and(|r| r.rip != before) => return,
                Wait::Stopped {
                    stop: Stop::Signal(signal),
                    ..
                } if signal != libc::SIGTRAP => self.held.push((tid, signal)),
                Wait::Stopped { .. } => {}
                other => panic!("a thread ended in a step: {other:?}"),
            }
        }
    }

    /// Lets all run until `ends` says so of a thread at a trap. False when the
    /// program ended.
    fn run(&mut self, mut ends: impl FnMut(&mut Stepper, &Regs) -> bool) -> bool {
        loop {
            match wait::peek(Whom::Any, false) {
                Wait::Exited { tid, .. } | Wait::Killed { tid, .. } => {
                    wait::consume_end(tid);
                    self.threads.remove(&tid);
                    if tid == self.pid || self.threads.is_empty() {
                        self.threads.clear();
                        return false;
                    }
                }
                Wait::Stopped { tid, stop } => {
                    wait::consume(tid);
                    self.threads.insert(tid);
                    if self.stopped(tid, stop, &mut ends) {
                        self.tid = tid;
                        self.halt_others(tid);
                        return true;
                    }
                }
                Wait::Interrupted | Wait::Nothing => {}
                Wait::NoTracees => return false,
            }
        }
    }

    /// Stops all threads but one that stands.
    fn halt_others(&mut self, but: i32) {
        let mut running = self.threads.clone();
        running.remove(&but);
        running.retain(|tid| ptrace::interrupt(*tid).is_ok());
        while let Some(tid) = running.iter().next().copied() {
            match wait::await_one(tid) {
                Wait::Stopped { tid, stop } => {
                    running.remove(&tid);
                    self.halted(tid, stop);
                }
                _ => {
                    running.remove(&tid);
                    self.threads.remove(&tid);
                }
            }
        }
    }

    fn halted(&mut self, tid: i32, stop: Stop) {
        let Stop::Signal(signal) = stop else {
            return;
        };
        if signal == libc::SIGTRAP && ptrace::signal_code(tid) == Ok(libc::SI_KERNEL) {
            let regs = ptrace::registers(tid).expect("its registers");
            ptrace::set_rip(tid, regs.rip - 1).expect("its registers");
        } else {
            self.held.push((tid, signal));
        }
    }

    fn stopped(
        &mut self,
        tid: i32,
        stop: Stop,
        ends: &mut impl FnMut(&mut Stepper, &Regs) -> bool,
    ) -> bool {
        let Stop::Signal(signal) = stop else {
            self.go_on(tid);
            return false;
        };
        let trapped = signal == libc::SIGTRAP && ptrace::signal_code(tid) == Ok(libc::SI_KERNEL);
        if !trapped {
            let _ = ptrace::cont(tid, signal);
            return false;
        }
        let Ok(mut regs) = ptrace::registers(tid) else {
            return false;
        };
        regs.rip -= 1;
        ptrace::set_rip(tid, regs.rip).expect("its registers");
        // It may have been taken out meanwhile.
        if self.traps.contains_key(&regs.rip) {
            if ends(self, &regs) {
                return true;
            }
            if self.traps.contains_key(&regs.rip) {
                self.halt_others(tid);
                self.pass(tid);
                for other in self.threads.clone() {
                    self.go_on(other);
                }
                return false;
            }
        }
        self.go_on(tid);
        false
    }
}

impl Drop for Stepper {
    fn drop(&mut self) {
        if self.threads.is_empty() {
            return;
        }
        let _ = nix::sys::signal::kill(Pid::from_raw(self.pid), nix::sys::signal::Signal::SIGKILL);
        loop {
            match wait::peek(Whom::Any, false) {
                Wait::Exited { tid, .. } | Wait::Killed { tid, .. } => {
                    wait::consume_end(tid);
                    if tid == self.pid {
                        return;
                    }
                }
                Wait::Stopped { tid, .. } => {
                    wait::consume(tid);
                    let _ = ptrace::cont(tid, 0);
                }
                Wait::NoTracees => return,
                Wait::Interrupted | Wait::Nothing => {}
            }
        }
    }
}
