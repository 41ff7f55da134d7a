//! What a look at very many goroutines costs, gotap and the target: both sides
//! of one run, printed as tables.
//!
//! ```text
//! cargo bench --bench goroutines                  # summary stacks list dlv
//! cargo bench --bench goroutines -- summary       # one of them
//! cargo bench --bench goroutines -- dlv-million   # dlv on all of them: a minute
//! ```
//!
//! Beside gotap stand the ticker of the target left alone and, when `dlv` is on
//! PATH, Delve telling of the same goroutines: of a tenth of them, because the
//! target stands still all the while, unless `dlv-million` is asked for.

mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use support::dlv;
use support::live::{Fixture, LATER, Target, Toolchain, gotap};
use support::meter::{AnonWatch, median_and_max, status_bytes};
use support::table::{goal, print};

/// Goroutines that are parked.
const MANY: usize = 1_000_000;
/// Of these all stacks are read.
const SOME: usize = 10_000;
/// How often each look is taken.
const ROUNDS: usize = 15;
/// The same, of what takes seconds.
const FEW_ROUNDS: usize = 3;

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    if let [what, ms] = wanted.as_slice()
        && what == "compute"
    {
        return compute(ms);
    }
    let asked = |name: &str| wanted.iter().any(|w| w == name);
    let usual = |name: &str| wanted.is_empty() || asked(name);
    println!("{}", machine());
    if usual("summary") || usual("list") || asked("dlv-million") {
        let (mut target, _guard) = crowd(MANY);
        if usual("summary") {
            summary(&mut target);
        }
        if usual("list") {
            list(&mut target);
        }
        if asked("dlv-million") {
            dlv_row(&mut target, MANY);
        }
    }
    if usual("stacks") {
        stacks();
    }
    if usual("dlv") && dlv::version().is_some() {
        let (mut target, _guard) = crowd(MANY / 10);
        let took = looks(&mut target, &["goroutines"], FEW_ROUNDS);
        print(
            &format!("{} goroutines, gotap goroutines", MANY / 10),
            HEADER,
            &[took.row("gotap goroutines")],
            &[],
        );
        dlv_row(&mut target, MANY / 10);
    }
    println!("\nload after: {}", load());
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("?").to_owned()
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!(
        "{cores} cores, Linux {}, load before: {}, {}, dlv: {}",
        kernel.trim(),
        load(),
        Toolchain::Machine.version(),
        dlv::version().unwrap_or_else(|| "not on PATH, its rows are left out".to_owned()),
    )
}

/// A program with that many goroutines; its build is kept as long as it runs.
fn crowd(number: usize) -> (Target, Fixture) {
    let fixture = Fixture::build("crowd", &[]);
    let mut target = Target::start(&fixture, &[&number.to_string()]);
    let kinds = target.answer("ready", LATER);
    let rss = status_bytes(target.pid(), "VmRSS:").unwrap_or(0);
    println!("\ntarget: {kinds}, RSS {:.0} MB", rss as f64 / 1e6);
    // What it made while it started is collected.
    std::thread::sleep(Duration::from_secs(2));
    (target, fixture)
}

/// By how much a 1 ms ticker came late, in ms.
#[derive(Clone, Copy)]
struct Late {
    p99: f64,
    worst: f64,
}

fn late(target: &mut Target) -> Late {
    let answer = target.ask("ticker");
    let ms = |name: &str| answer[name].as_f64().unwrap_or(f64::NAN) / 1e3;
    Late {
        p99: ms("p99_us"),
        worst: ms("worst_us"),
    }
}

/// What looks took.
#[derive(Default)]
struct Looks {
    wall: Vec<f64>,
    cpu: Vec<f64>,
    late: Vec<Late>,
    /// The highest anonymous memory, in MB: sampled every 200 µs in a round of
    /// its own, which is not timed.
    anon: f64,
    bytes: u64,
}

const HEADER: &[&str] = &[
    "",
    "rounds",
    "wall ms, median",
    "worst",
    "CPU ms, median",
    "peak RssAnon MB",
    "output MB",
    "ticker p99 late, ms, median",
    "ticker worst, ms, median",
    "worst of all",
];

impl Looks {
    fn row(&self, name: &str) -> Vec<String> {
        let (wall, worst) = median_and_max(self.wall.clone());
        let (cpu, _) = median_and_max(self.cpu.clone());
        let (p99, _) = median_and_max(self.late.iter().map(|l| l.p99).collect());
        let (late, latest) = median_and_max(self.late.iter().map(|l| l.worst).collect());
        let own = !self.cpu.is_empty();
        let figure = |text: String| if own { text } else { "-".to_owned() };
        vec![
            name.to_owned(),
            self.wall.len().to_string(),
            format!("{wall:.0}"),
            format!("{worst:.0}"),
            figure(format!("{cpu:.0}")),
            figure(format!("{:.1}", self.anon)),
            figure(format!("{:.1}", self.bytes as f64 / 1e6)),
            format!("{p99:.2}"),
            format!("{late:.2}"),
            format!("{latest:.2}"),
        ]
    }
}

/// User and system time of children that ended, in seconds.
fn children_cpu() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage");
    let seconds = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

fn command(args: &[&str], pid: i32) -> Command {
    let pid = pid.to_string();
    let mut all = args.to_vec();
    all.extend(["-p", &pid]);
    gotap::command(&all)
}

/// Runs `gotap ARGS -p PID` again and again, its output into a file.
fn looks(target: &mut Target, args: &[&str], rounds: usize) -> Looks {
    let mut all = Looks::default();
    for round in 0..=rounds {
        all.beside(target, command(args, target.pid()), round == 0);
    }
    all
}

impl Looks {
    /// Runs a command beside the target: for its memory, or for its time.
    fn beside(&mut self, target: &mut Target, mut command: Command, for_memory: bool) {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let out = file.reopen().expect("the same file");
        command.stdout(out).stderr(Stdio::inherit());
        late(target);
        let (cpu, began) = (children_cpu(), Instant::now());
        let mut child = command.spawn().expect("start it");
        let child_pid = i32::try_from(child.id()).expect("a pid");
        let watch = for_memory.then(|| AnonWatch::start(child_pid));
        let status = child.wait().expect("wait for it");
        let wall = began.elapsed().as_secs_f64() * 1e3;
        let cpu = (children_cpu() - cpu) * 1e3;
        assert!(status.success(), "{command:?}: {status}");
        self.bytes = file.path().metadata().map_or(0, |m| m.len());
        if let Some(watch) = watch {
            self.anon = watch.stop() as f64 / 1e6;
        } else {
            self.wall.push(wall);
            self.cpu.push(cpu);
            self.late.push(late(target));
        }
    }

    /// The target is left alone, for as long as a look took.
    fn alone(&mut self, target: &mut Target, wall: f64) {
        late(target);
        std::thread::sleep(Duration::from_secs_f64(wall / 1e3));
        self.wall.push(wall);
        self.late.push(late(target));
    }
}

/// Computes for so many milliseconds of its own processor time, and touches
/// nobody: what any program costs another on this machine.
fn compute(ms: &str) {
    let ms: f64 = ms.parse().expect("milliseconds");
    let used = || {
        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("getrusage");
        let seconds = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6;
        seconds(usage.user_time()) + seconds(usage.system_time())
    };
    while used() * 1e3 < ms {
        for n in 0..10_000 {
            std::hint::black_box(n);
        }
    }
}

fn worst(looks: &Looks) -> f64 {
    median_and_max(looks.late.iter().map(|l| l.worst).collect()).0
}

/// States, reasons and creation sites of all: by turns with a target that is
/// left alone, and with a program that takes as much of the processor.
fn summary(target: &mut Target) {
    let (text, object) = (["goroutines"], ["goroutines", "-o", "json"]);
    let (mut ours, mut json) = (Looks::default(), Looks::default());
    let (mut quiet, mut busy) = (Looks::default(), Looks::default());
    for round in 0..=ROUNDS {
        let pid = target.pid();
        ours.beside(target, command(&text, pid), round == 0);
        json.beside(target, command(&object, pid), round == 0);
        if let (Some(wall), Some(cpu)) = (ours.wall.last(), ours.cpu.last()) {
            quiet.alone(target, *wall);
            let own = std::env::current_exe().expect("this bench");
            let mut computing = Command::new(own);
            computing.args(["compute", &cpu.to_string()]);
            busy.beside(target, computing, false);
        }
    }
    let (wall, _) = median_and_max(ours.wall.clone());
    let (late, noise, crowded) = (worst(&ours), worst(&quiet), worst(&busy));
    print(
        &format!("{MANY} goroutines: states, reasons, creation sites of all"),
        HEADER,
        &[
            quiet.row("left alone, the same time"),
            busy.row("beside a program that only computes"),
            ours.row("gotap goroutines"),
            json.row("gotap goroutines -o json"),
        ],
        &[
            goal("500 ms", &format!("{wall:.0} ms"), wall <= 500.0),
            goal(
                "200 MB",
                &format!("{:.1} MB", ours.anon),
                ours.anon <= 200.0,
            ),
            goal(
                "no stall over the ticker's noise (medians of the worst, 1 ms apart)",
                &format!(
                    "{late:.2} ms, left alone {noise:.2} ms, beside one that computes {crowded:.2} ms"
                ),
                late <= noise.max(crowded) + 1.0,
            ),
        ],
    );
}

/// Every goroutine by itself, every stack.
fn list(target: &mut Target) {
    let mut rows = Vec::new();
    for args in [
        &["goroutines", "--consistent"][..],
        &["goroutines", "--all-stacks"],
        &["goroutines", "--list"],
        &["goroutines", "--list", "-o", "json"],
        &["goroutines", "--list", "-o", "json", "--all-stacks"],
        &["goroutines", "--where", "wait > 1h"],
        &["goroutines", "-o", "text2"],
        &["goroutines", "-o", "pprof"],
    ] {
        let took = looks(target, args, FEW_ROUNDS);
        rows.push(took.row(&args.join(" ")));
    }
    print(
        &format!("{MANY} goroutines: every one of them, every stack"),
        HEADER,
        &rows,
        &[],
    );
}

/// Full stacks of a program of usual size.
fn stacks() {
    let (mut target, _guard) = crowd(SOME);
    let args = ["goroutines", "--list", "--all-stacks", "-o", "json"];
    let ours = looks(&mut target, &args, ROUNDS);
    let text = looks(&mut target, &["goroutines", "-o", "text2"], ROUNDS);
    let mut quiet = Looks::default();
    for wall in &ours.wall {
        quiet.alone(&mut target, *wall);
    }
    let (wall, _) = median_and_max(ours.wall.clone());
    print(
        &format!("{SOME} goroutines with full stacks"),
        HEADER,
        &[
            quiet.row("left alone, the same time"),
            ours.row("gotap goroutines --list --all-stacks -o json"),
            text.row("gotap goroutines -o text2"),
        ],
        &[goal("150 ms", &format!("{wall:.0} ms"), wall <= 150.0)],
    );
}

/// dlv telling of the same goroutines, once.
fn dlv_row(target: &mut Target, number: usize) {
    late(target);
    let cpu = children_cpu();
    let (took, bytes) = dlv::goroutines(target.pid());
    // A line for each.
    assert!(bytes > number as u64, "dlv told of fewer goroutines");
    let theirs = Looks {
        wall: vec![took.as_secs_f64() * 1e3],
        cpu: vec![(children_cpu() - cpu) * 1e3],
        late: vec![late(target)],
        anon: f64::NAN,
        bytes,
    };
    print(
        &format!("{number} goroutines, dlv attach, goroutines, quit"),
        HEADER,
        &[theirs.row("dlv goroutines")],
        &[],
    );
}
