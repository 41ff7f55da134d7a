//! A child process that runs code from one state to another.

use std::sync::atomic::AtomicU64;

use gotap::addr::LiveAddr;
use gotap::arch::jump::RingLayout;
use gotap::memory::Memory;
use gotap::process::Tracer;
use gotap::sys::wait::{Stop, Wait};
use gotap::sys::{Regs, ptrace, wait};
use nix::sys::ptrace::regset::NT_PRFPREG;
use nix::sys::ptrace::{getregset, setregset};
use nix::unistd::Pid;

pub const TEXT: u64 = 0x40_0000;
pub const PAGES: u64 = 0x2060_7000;
pub const RING: u64 = 0x2100_0000;
pub const STACK: u64 = 0xc0_0010_0000;
pub const HEAP: u64 = 0xc0_0020_0000;
pub const PAGE: u64 = 0x1000;
pub const AREA: u64 = 0x1_0000;
/// As much of stack and heap as is random, and compared.
pub const USED: usize = 4096;

/// A child that runs whatever is put into it.
pub struct Child {
    pub tracer: Tracer,
    pub pid: i32,
}

#[derive(PartialEq)]
pub struct State {
    pub regs: Regs,
    pub fp: libc::user_fpregs_struct,
    pub stack: Vec<u8>,
    pub heap: Vec<u8>,
}

impl Child {
    pub fn start(ring: &RingLayout) -> Child {
        let mut tracer = Tracer::launch(&["sleep".into(), "1000".into()], true)
            .expect("sleep(1) starts: apt-get install coreutils");
        let pid = tracer.pid();
        tracer.start();
        let _ = ptrace::interrupt(pid);
        loop {
            match wait::await_one(pid) {
                Wait::Stopped {
                    stop: Stop::Interrupt,
                    ..
                } => break,
                Wait::Stopped { .. } => ptrace::cont(pid, 0).expect("it goes on"),
                other => panic!("{other:?}"),
            }
        }
        let child = Child { tracer, pid };
        // It was interrupted on its way out of a system call at most once.
        let own = ptrace::registers(pid).expect("it is stopped");
        child.write(own.rip, &[0x0f, 0x05, 0xcc]);
        let rx = libc::PROT_READ | libc::PROT_EXEC;
        let rw = libc::PROT_READ | libc::PROT_WRITE;
        child.map(own, TEXT, AREA, rx);
        child.map(own, PAGES, AREA, rx);
        child.map(own, STACK, AREA, rw);
        child.map(own, HEAP, AREA, rw);
        child.map(own, RING, ring.len(), rw);
        child.map(own, ring.own(), PAGE, rw);
        child.write(TEXT, &vec![0xcc; AREA as usize]);
        child
    }

    pub fn map(&self, own: Regs, at: u64, len: u64, protection: i32) {
        let mut regs = own;
        regs.orig_rax = u64::MAX;
        regs.rax = libc::SYS_mmap as u64;
        (regs.rdi, regs.rsi, regs.rdx) = (at, len, protection as u64);
        regs.r10 = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE) as u64;
        (regs.r8, regs.r9) = (u64::MAX, 0);
        ptrace::set_registers(self.pid, regs).expect("it is stopped");
        self.until_trap();
        let got = ptrace::registers(self.pid).expect("it is stopped").rax;
        assert_eq!(got, at, "mmap in the child");
    }

    pub fn until_trap(&self) {
        ptrace::cont(self.pid, 0).expect("it goes on");
        match wait::await_one(self.pid) {
            Wait::Stopped {
                stop: Stop::Signal(libc::SIGTRAP),
                ..
            } => {}
            other => {
                let regs = ptrace::registers(self.pid);
                panic!("no trap but {other:?} at {:x?}", regs.map(|r| r.rip));
            }
        }
    }

    pub fn write(&self, at: u64, bytes: &[u8]) {
        self.tracer.memory().write(at, bytes).expect("it is mapped");
    }

    pub fn read(&self, at: u64, len: usize) -> Vec<u8> {
        let memory = self.tracer.memory();
        memory.read_vec(LiveAddr(at), len).expect("it is mapped")
    }

    pub fn words(&self, at: u64, len: u64) -> Vec<AtomicU64> {
        let bytes = self.read(at, len as usize);
        let word = |w: &[u8]| AtomicU64::new(u64::from_le_bytes(w.try_into().expect("eight")));
        bytes.chunks_exact(8).map(word).collect()
    }

    /// Runs from a state to the next int3.
    pub fn run(&self, from: &State) -> State {
        self.write(STACK, &from.stack);
        self.write(HEAP, &from.heap);
        setregset::<NT_PRFPREG>(Pid::from_raw(self.pid), from.fp).expect("set fp");
        ptrace::set_registers(self.pid, from.regs).expect("set registers");
        self.until_trap();
        State {
            regs: ptrace::registers(self.pid).expect("it is stopped"),
            fp: getregset::<NT_PRFPREG>(Pid::from_raw(self.pid)).expect("get fp"),
            stack: self.read(STACK, from.stack.len()),
            heap: self.read(HEAP, from.heap.len()),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = gotap::sys::signals::send(self.pid, libc::SIGKILL);
        wait::await_one(self.pid);
    }
}
