//! Where nobody may be when code is replaced: a live program that is stopped
//! again and again under SIGPROF at 1 kHz and forced collections. Its spinners
//! never leave their function, so at every stop each of them must be found
//! there: on a thread, in a signal frame, or preempted and parked.

mod support;

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use gotap::addr::Bias;
use gotap::arch::unit::Interiors;
use gotap::golang::globals::Globals;
use gotap::golang::gs::{self, Status};
use gotap::golang::layout::Layouts;
use gotap::golang::resting::{Resting, Stopped};
use gotap::image::Image;
use gotap::process::quiet::{ThreadAt, busy, whereabouts};
use gotap::process::{ProcessMemory, procfs};
use gotap::sys::ptrace;
use gotap::sys::wait::{self, Stop, Wait, Whom};
use iced_x86::{Decoder, DecoderOptions};
use support::{Fixture, LATER, SOON, Target, Toolchain};

/// A program whose threads this test stops and lets go on, by itself.
struct Stopper {
    pid: i32,
    threads: BTreeMap<i32, i32>,
}

impl Stopper {
    fn new(pid: i32) -> Stopper {
        Stopper {
            pid,
            threads: BTreeMap::new(),
        }
    }

    /// Stops every thread; where they are.
    fn stop(&mut self) -> Vec<ThreadAt> {
        let mut stopped = BTreeMap::new();
        let end = Instant::now() + SOON;
        loop {
            assert!(Instant::now() < end, "its threads do not stop");
            let all = procfs::threads(self.pid).expect("it lives");
            let new: Vec<i32> = all
                .into_iter()
                .filter(|tid| !stopped.contains_key(tid))
                .collect();
            if new.is_empty() {
                break;
            }
            for tid in new {
                // A thread that a seized one has started is seized already.
                let ours =
                    || procfs::status(tid).is_ok_and(|s| s.tracer == gotap::sys::thread_id());
                if !self.threads.contains_key(&tid) && ptrace::seize(tid).is_err() && !ours() {
                    continue; // it ended
                }
                self.threads.insert(tid, 0);
                if ptrace::interrupt(tid).is_err() {
                    self.threads.remove(&tid);
                    continue;
                }
                if let Some(signal) = stop_of(tid, end) {
                    stopped.insert(tid, signal);
                }
            }
        }
        self.threads = stopped;
        let at = |tid: &i32| {
            let regs = ptrace::registers(*tid).expect("it is stopped");
            ThreadAt {
                tid: *tid,
                pc: regs.rip,
                sp: regs.rsp,
            }
        };
        self.threads.keys().map(at).collect()
    }

    /// Lets all go on, with the signals that they stopped for.
    fn go_on(&mut self) {
        for (tid, signal) in &mut self.threads {
            ptrace::cont(*tid, std::mem::take(signal)).expect("it is stopped");
        }
    }
}

/// Lets go of the target, also when a test fails: else it could not be waited
/// for.
impl Drop for Stopper {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
        for (tid, signal) in &self.threads {
            if ptrace::detach(*tid, *signal).is_err() {
                let _ = ptrace::interrupt(*tid);
                let signal = stop_of(*tid, Instant::now() + SOON).unwrap_or(0);
                let _ = ptrace::detach(*tid, signal);
            }
        }
    }
}

/// Waits for a thread's next stop: the signal it stopped for, or 0.
fn stop_of(tid: i32, end: Instant) -> Option<i32> {
    loop {
        match wait::peek(Whom::Tid(tid), true) {
            Wait::Stopped { stop, .. } => {
                wait::consume(tid);
                return Some(match stop {
                    Stop::Signal(signal) => signal,
                    _ => 0,
                });
            }
            Wait::Exited { .. } | Wait::Killed { .. } | Wait::NoTracees => {
                wait::consume_end(tid);
                return None;
            }
            Wait::Nothing | Wait::Interrupted => {
                assert!(Instant::now() < end, "thread {tid} does not stop");
                std::thread::sleep(Duration::from_micros(20));
            }
        }
    }
}

fn code_of(image: &Image, name: &str) -> Range<u64> {
    let found = image.functions().by_name(name);
    let function = found.first().unwrap_or_else(|| panic!("no {name}"));
    function.entry().0..function.end().0
}

#[test]
fn whoever_is_inside_is_found() {
    for toolchain in Toolchain::under_test() {
        let program = Fixture::build_with("resting", &[], &toolchain);
        inside_at_every_stop(&program, 2, 1);
        inside_at_every_stop(&program, 3, 2);
    }
}

/// One that spins in a function is inside it at each of many stops, whichever
/// way; nobody ever is in a function that is not called.
fn inside_at_every_stop(program: &Fixture, spinners: usize, procs: usize) {
    let (spinners_arg, procs_arg) = (spinners.to_string(), procs.to_string());
    let mut target = Target::start(program, &[&spinners_arg, &procs_arg, "100"]);
    target.expect_line("ready");
    let image = Image::open(&program.path).expect("a Go program");
    let bias = Bias::default();
    let layouts = Layouts::resolve(image.go_version().minor(), None);
    let globals = Globals::resolve(&image);
    let resting = Resting::prepare(&image, bias);
    let memory = ProcessMemory::read_only(target.pid());
    let spin = code_of(&image, "main.spin");
    let pieces = Interiors::strictly([spin.clone(), code_of(&image, "main.never")]);

    let starts = starts_of(&image, spin.start);
    let mut stopper = Stopper::new(target.pid());
    let (mut stops, mut on_threads, mut in_frames, mut parked) = (0, 0, 0, 0);
    let end = Instant::now() + LATER;
    while stops < 1000 {
        assert!(
            Instant::now() < end,
            "{stops} stops: {on_threads} on threads, {in_frames} in frames, {parked} parked"
        );
        let threads = stopper.stop();
        let at = whereabouts(&memory, &threads).expect("it lives");
        let places: Vec<(u64, u64)> = at.iter().map(|at| (at.sp, at.pc)).collect();
        let stopped = Stopped {
            memory: &memory,
            layouts: &layouts,
            globals: &globals,
            bias,
            threads: &places,
        };
        let by_threads = busy(&at, &pieces);
        let by_goroutines = resting.busy(stopped, &pieces).expect("it lives");
        assert!(!by_threads.contains(&1) && !by_goroutines.contains(&1));
        let direct = threads.iter().any(|t| pieces.find(t.pc).is_some());
        if stops == 0 && by_threads.is_empty() && by_goroutines.is_empty() {
            // They have not begun.
            stopper.go_on();
            std::thread::yield_now();
            continue;
        }
        assert!(
            !by_threads.is_empty() || !by_goroutines.is_empty(),
            "nobody is in {spin:x?} at stop {stops}: {threads:x?}"
        );
        // More spin than threads run: the others are parked, once they have begun.
        let all = gs::read_goroutines(&memory, &layouts, &globals, bias).expect("it lives");
        let resting_now = all.iter().find(|g| {
            starts.contains(&g.startpc.0) && g.status == Status::Runnable && g.sched_pc != g.startpc
        });
        if let Some(g) = resting_now {
            assert!(!by_goroutines.is_empty(), "{g:x?} {threads:x?}");
        }
        on_threads += u32::from(direct);
        in_frames += u32::from(!by_threads.is_empty() && !direct);
        parked += u32::from(!by_goroutines.is_empty());
        stops += 1;
        stopper.go_on();
    }
    println!(
        "{}: {stops} stops: {on_threads} with a thread inside, {in_frames} with a frame alone, {parked} with one parked",
        program.label
    );
    drop(stopper);
    assert!(target.is_alive());
}

/// Where spinners begin: `go spin(x)` does in a wrapper, main.main.gowrap1 or,
/// before Go 1.22, main.main.func1.
fn starts_of(image: &Image, spin: u64) -> Vec<u64> {
    let mut starts = vec![spin];
    let functions = image.functions();
    let main = functions.iter().filter(|f| f.name().starts_with("main."));
    starts.extend(main.filter(|f| calls(f, spin)).map(|f| f.entry().0));
    starts
}

/// The function has a call of, or a jump to, this address.
fn calls(f: &gotap::image::Function<'_>, to: u64) -> bool {
    let code = f.code().unwrap_or_default();
    let decoder = Decoder::with_ip(64, code, f.entry().0, DecoderOptions::NONE);
    decoder
        .into_iter()
        .any(|insn| insn.near_branch_target() == to)
}

#[test]
fn waiting_goroutines_need_no_look() {
    let program = Fixture::build("resting", &[]);
    let mut target = Target::start(&program, &["1", "1", "10000"]);
    target.expect_line("ready");
    let image = Image::open(&program.path).expect("a Go program");
    let bias = Bias::default();
    let layouts = Layouts::resolve(image.go_version().minor(), None);
    let globals = Globals::resolve(&image);
    let resting = Resting::prepare(&image, bias);
    let memory = ProcessMemory::read_only(target.pid());
    let units = Interiors::strictly([code_of(&image, "main.never")]);
    // All 10,000 have come to wait; until then nobody stops them.
    let running = Stopped {
        memory: &memory,
        layouts: &layouts,
        globals: &globals,
        bias,
        threads: &[],
    };
    let few = || resting.count(running).is_ok_and(|count| count < 50);
    assert!(support::poll(LATER, few), "10,000 goroutines come to wait");
    let mut stopper = Stopper::new(target.pid());
    let looked_at = support::wait_for("few goroutines to look at", LATER, || {
        let threads = stopper.stop();
        let began = Instant::now();
        let at = whereabouts(&memory, &threads).expect("it lives");
        let places: Vec<(u64, u64)> = at.iter().map(|at| (at.sp, at.pc)).collect();
        let stopped = Stopped {
            threads: &places,
            ..running
        };
        let busy = busy(&at, &units);
        let of_threads = began.elapsed();
        let parked = resting.busy(stopped, &units).expect("it lives");
        let of_all = began.elapsed();
        let count = resting.count(stopped).expect("it lives");
        stopper.go_on();
        println!(
            "{} threads {of_threads:?}, with goroutines {of_all:?}, {count} looked at",
            threads.len()
        );
        assert!(busy.is_empty() && parked.is_empty());
        (count < 50).then_some(count)
    });
    println!("{looked_at} of 10,000 stacks are looked at");
    drop(stopper);
    assert!(target.is_alive());
}
