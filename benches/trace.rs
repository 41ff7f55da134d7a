//! What tracing costs: both sides of one run, printed as tables.
//!
//! ```text
//! cargo bench --bench trace                 # all parts
//! cargo bench --bench trace -- threads      # one of: load tight threads stall pause condition start
//! ```
//!
//! Beside gotap stand the untraced program and, when `dlv` is on PATH,
//! Delve doing the same. Everything runs on the machine as it is: its load is
//! printed first, and a figure is only as good as that is low.

#[path = "trace/load.rs"]
mod load;
#[path = "trace/pause.rs"]
mod pause;
mod support;
#[path = "trace/uprobes.rs"]
mod uprobes;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::dlv;
use support::live::{Fixture, Gotap, LATER, SOON, Target, Variant, gotap, wait_for};
use support::meter::{AnonWatch, Window, median_and_max, threads, window};
use support::table::{goal, print};

/// How long each rate is measured.
const WINDOW: Duration = Duration::from_secs(5);
/// How often what is one moment is measured.
const ROUNDS: usize = 15;
/// The function that is traced under load.
const READ: &str = "net.(*conn).Read";

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    let parts: [(&str, fn()); 7] = [
        ("load", load::load),
        ("tight", tight),
        ("threads", hit_cost_by_threads),
        ("stall", stall),
        ("pause", pause::pause),
        ("condition", condition),
        ("start", start_to_armed),
    ];
    println!("{}", machine());
    for (name, part) in parts {
        if wanted.is_empty() || wanted.iter().any(|w| w == name) {
            part();
        }
    }
}

fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let load = read("/proc/loadavg");
    format!(
        "{cores} cores, Linux {}, load before: {}, {}, dlv: {}",
        read("/proc/sys/kernel/osrelease").trim(),
        load.split(' ').next().unwrap_or("?"),
        support::live::Toolchain::Machine.version(),
        dlv::version().unwrap_or_else(|| "not on PATH, its rows are left out".to_owned()),
    )
}

/// A `gotap trace` by traps whose records go to /dev/null, armed.
fn trace(pid: i32, pattern: &str, more: &[&str]) -> Gotap {
    let mut args = vec!["--fire", "trap", "-o", "json", "--out", "/dev/null"];
    args.extend(more);
    trace_into(pid, &[pattern], &args)
}

/// One whose records go where the arguments say, armed.
fn trace_into(pid: i32, patterns: &[&str], more: &[&str]) -> Gotap {
    let pid = pid.to_string();
    let mut args = vec!["trace", "-p", &pid];
    args.extend(patterns);
    args.extend(more);
    let mut gotap = Gotap::spawn(gotap::command(&args));
    gotap.armed();
    gotap
}

/// Ends it; what it says of the time it held threads, in µs a hit.
fn end(gotap: Gotap) -> String {
    let outcome = gotap.stop();
    let lines = outcome.stderr.join("\n");
    let held = lines.split("held a thread ").nth(1);
    let held = held.and_then(|rest| rest.split(' ').next());
    held.unwrap_or("?").to_owned()
}

/// How long each side of a comparison runs at a time, and how often.
const TURN: Duration = Duration::from_secs(2);
const TURNS: usize = 3;

/// A breakpoint whose condition never holds, beside a trace with the same one: the
/// time that the program is held at each hit, and that a call takes. They take
/// turns; of each side's turns the one counts that the rest of the machine
/// disturbed least.
fn condition() {
    let built = Fixture::build("breaks", &[]);
    let conditions = [
        ("an argument", "n == -1"),
        ("a field", "req.ID == -1"),
        ("a text", "req.Name == \"nobody\""),
    ];
    // Of a trace and of a break: held µs a hit, hits a second, CPU µs a hit, calls
    // a second.
    let mut best = [[[f64::INFINITY, 0.0, 0.0, 0.0]; 2]; 3];
    for _ in 0..TURNS {
        for ((_, condition), best) in conditions.iter().zip(&mut best) {
            for ((command, hits), best) in [("trace", 2.0), ("break", 1.0)].iter().zip(best) {
                let script = format!("{command} main.visit if {condition}\n");
                let it = never_true(&built, &script, *hits);
                if it[0] < best[0] {
                    *best = it;
                }
            }
        }
    }
    let (mut rows, mut per_hit, mut per_call) = (Vec::new(), 0.0_f64, 0.0_f64);
    for ((what, _), sides) in conditions.iter().zip(&best) {
        for (command, [held, hits, cpu, calls]) in ["trace", "break"].iter().zip(sides) {
            rows.push(vec![
                format!("{command}, {what}"),
                format!("{calls:.0}"),
                format!("{hits:.0}"),
                format!("{held:.1}"),
                format!("{cpu:.1}"),
            ]);
        }
        let [trace, point] = sides;
        per_hit = per_hit.max(point[0] / trace[0]);
        per_call = per_call.max(trace[3] / point[3]);
    }
    // What a trace saves by dismissing a call at its entry, where the condition is
    // nothing but what is known there.
    let alone = [
        ("the goroutine alone", "trace main.visit if goid == -1\n"),
        ("no condition", "trace main.visit\n"),
    ];
    let mut held = Vec::new();
    for (what, script) in alone {
        let turns = (0..TURNS).map(|_| never_true(&built, script, 2.0));
        let best = turns.min_by(|a, b| a[0].total_cmp(&b[0])).expect("turns");
        let [each, hits, cpu, calls] = best;
        rows.push(vec![
            format!("trace, {what}"),
            format!("{calls:.0}"),
            format!("{hits:.0}"),
            format!("{each:.1}"),
            format!("{cpu:.1}"),
        ]);
        held.push(each);
    }
    let saved = held[0] / held[1];
    print(
        "a condition that never holds, one goroutine calling as fast as it can",
        &["", "calls/s", "hits/s", "held µs/hit", "CPU µs/hit"],
        &rows,
        &[
            goal(
                "dismissed at the entry: held shorter than a call that is told",
                &format!("{saved:.2} x"),
                saved <= 1.0,
            ),
            goal(
                "held at a hit: 1.3 x trace",
                &format!("{per_hit:.2} x"),
                per_hit <= 1.3,
            ),
            goal(
                "time of a call: 1.3 x trace",
                &format!("{per_call:.2} x"),
                per_call <= 1.3,
            ),
        ],
    );
}

fn never_true(built: &Fixture, script: &str, hits: f64) -> [f64; 4] {
    let mut target = Target::start(built, &[]);
    target.expect_line("ready ");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.gotap");
    std::fs::write(&path, script).expect("write a script");
    let pid = target.pid().to_string();
    let args = ["run", path.to_str().expect("UTF-8"), "-p", &pid];
    let mut gotap = Gotap::spawn(gotap::command(&args));
    gotap.stderr_line("point 1 ", SOON).expect("it is set");
    target.ask("race on");
    let it = window(TURN, Some(gotap.pid()), || visits(&mut target));
    let held = end(gotap).parse().unwrap_or(f64::NAN);
    let rate = hits * it.rate();
    [held, rate, 1e6 * it.cpu_share() / rate, it.rate()]
}

fn visits(target: &mut Target) -> f64 {
    target.ask("count")["visits"].as_f64().unwrap_or(f64::NAN)
}

/// A small function in a tight loop: what two hits add to a call of 2 ns. In bursts
/// that a cache holds, and in bursts that fill most of the ring.
fn tight() {
    let fixture = Fixture::build("tight", &[]);
    let mut target = Target::start(&fixture, &[]);
    target.expect_line("ready ");
    let pid = target.pid();
    let bursts = [
        ("bursts of 1,000 calls", "run 100000 1000 1"),
        ("bursts of 100,000 calls", "run 10000000 100000 1"),
        ("two goroutines, bursts of 1,000", "run 100000 1000 2"),
    ];
    let ways: [(&str, &[&str]); 3] = [
        ("recorded", &["--fire", "jump", "--record", "/dev/null"]),
        (
            "left out: goid == 99999999",
            &[
                "--fire",
                "jump",
                "--where",
                "goid == 99999999",
                "--record",
                "/dev/null",
            ],
        ),
        (
            "one of 1,000",
            &[
                "--fire",
                "jump",
                "--every-nth",
                "1000",
                "--record",
                "/dev/null",
            ],
        ),
    ];
    let mut ask = |line: &str| {
        target.tell(line);
        target.answer("run", LATER).as_f64().expect("a number")
    };
    let mut rows = Vec::new();
    let mut added = 0.0;
    for (what, line) in bursts {
        let plain: Vec<f64> = (0..3).map(|_| ask(line)).collect();
        let plain = median_and_max(plain).0;
        for (name, args) in ways {
            let gotap = trace_into(pid, &["main.small"], args);
            let traced: Vec<f64> = (0..3).map(|_| ask(line)).collect();
            let outcome = gotap.stop();
            let said = outcome.stderr.iter().find(|l| l.contains("of the ring"));
            let each = (median_and_max(traced).0 - plain) / 2.0;
            if rows.is_empty() {
                added = each;
            }
            rows.push(vec![
                format!("{what}: {name}"),
                format!("{plain:.1}"),
                format!("{each:.1}"),
                said.map_or("-", |l| l.trim_start_matches("gotap: "))
                    .to_owned(),
            ]);
        }
    }
    print(
        "main.small in a tight loop (2 hits a call)",
        &["", "ns/call untraced", "ns added a hit", "ring"],
        &rows,
        &[goal(
            "60 ns a hit",
            &format!("{added:.1} ns"),
            added <= 60.0,
        )],
    );
}

fn reads(server: &mut Target) -> f64 {
    server.tell("reads");
    server.answer("reads", LATER).as_f64().expect("a number")
}

/// What a hit costs must not depend on how many threads there are. Both
/// programs are traced at once and run by turns, so that what else the machine
/// does falls on both.
fn hit_cost_by_threads() {
    let fixture = Fixture::build("threads", &[]);
    let mut both: Vec<(Target, Gotap, Vec<Window>)> = ["4", "1000"]
        .iter()
        .map(|count| {
            let mut target = Target::start(&fixture, &["-threads", count]);
            target.expect_line("ready ");
            target.ask("pause");
            let gotap = trace(target.pid(), "main.hot", &[]);
            (target, gotap, Vec::new())
        })
        .collect();
    for _ in 0..ROUNDS {
        for (target, gotap, seen) in &mut both {
            target.ask("go");
            let tracer = Some(gotap.pid());
            seen.push(window(WINDOW / 10, tracer, || calls(target)));
            target.ask("pause");
        }
    }
    let mut rows = Vec::new();
    let mut costs = Vec::new();
    for (target, gotap, seen) in both {
        let held = end(gotap);
        let figures = |of: &dyn Fn(&Window) -> f64| {
            let mut all: Vec<f64> = seen.iter().map(of).collect();
            all.sort_by(f64::total_cmp);
            (all[0], all[all.len() / 2])
        };
        let (best, median) = figures(&|w| 1e6 / (2.0 * w.rate()));
        let (_, cpu) = figures(&|w| w.tracer_cpu * 1e6 / (2.0 * w.count));
        rows.push(vec![
            format!("gotap, {} threads", threads(target.pid())),
            format!("{:.0}", 1e6 / median),
            format!("{median:.1}"),
            format!("{best:.1}"),
            format!("{cpu:.1}"),
            held,
        ]);
        costs.push(median);
    }
    let ratio = costs[1] / costs[0];
    print(
        &format!(
            "one goroutine calls main.hot in a loop (2 hits a call), all other threads sleep; {ROUNDS} rounds by turns"
        ),
        &[
            "",
            "hits/s, median",
            "µs/hit, median",
            "best",
            "tracer CPU µs/hit",
            "held µs/hit",
        ],
        &rows,
        &[goal(
            "a hit at 1,000 threads at most 1.5 x one at 4 (medians)",
            &format!("{ratio:.2} x"),
            ratio <= 1.5,
        )],
    );
}

fn calls(target: &mut Target) -> f64 {
    target.tell("calls");
    target.answer("calls", LATER).as_f64().expect("a number")
}

/// What a 1 ms ticker in the target notices of attaching and detaching.
fn stall() {
    let echo = Fixture::build("echo", &[]);
    let (mut server, addr) = Target::echo_server(&echo, &["-ticker", "-threads", "4"]);
    let pid = server.pid();
    // A light load: the ticker is to see the tracer, not the scheduler.
    let light = ["-conns", "8", "-calls", "-1", "-pause", "20ms"];
    let _client = Target::echo_load(&echo, &addr, &light);
    std::thread::sleep(Duration::from_secs(1));

    let mut rows = Vec::new();
    let mut ours = Vec::new();
    let mut took = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        server.ask("ticker");
        let gotap = trace(pid, READ, &[]);
        gotap.stop().must_succeed();
        ours.push(worst_ms(&mut server));
        took.push(began.elapsed().as_secs_f64());
    }
    let typical = median_and_max(took.clone()).0;
    let mut quiet = Vec::new();
    for _ in 0..ROUNDS {
        server.ask("ticker");
        std::thread::sleep(Duration::from_secs_f64(typical));
        quiet.push(worst_ms(&mut server));
    }
    let line = |name: &str, stalls: Vec<f64>, rounds: usize| {
        let (median, max) = median_and_max(stalls);
        vec![
            name.to_owned(),
            rounds.to_string(),
            format!("{median:.2}"),
            format!("{max:.2}"),
        ]
    };
    let (_, worst) = median_and_max(ours.clone());
    rows.push(line("untraced, the same time", quiet, ROUNDS));
    rows.push(line("gotap attaches and detaches", ours, ROUNDS));
    if dlv::version().is_some() {
        let mut theirs = Vec::new();
        for _ in 0..5 {
            server.ask("ticker");
            dlv::attach_and_leave(pid);
            theirs.push(worst_ms(&mut server));
        }
        rows.push(line("dlv attaches and detaches", theirs, 5));
    }
    print(
        &format!(
            "worst stall of a 1 ms ticker in an echo server of {} threads",
            threads(pid)
        ),
        &["", "rounds", "median ms", "worst ms"],
        &rows,
        &[goal(
            "10 ms",
            &format!("{worst:.2} ms"),
            worst <= 10.0 && server.answers(),
        )],
    );
}

fn worst_ms(server: &mut Target) -> f64 {
    let answer = server.ask("ticker");
    answer["worst_us"].as_f64().expect("a number") / 1e3
}

/// From start to armed, on a small program and on one of 50 MB.
fn start_to_armed() {
    let echo = Fixture::build("echo", &[Variant::Stripped]);
    let (server, _) = Target::echo_server(&echo, &[]);
    let mut rows = Vec::new();
    armed_rows("echo, stripped", &echo.path, server.pid(), &mut rows);
    let path = Path::new("/usr/bin/prometheus");
    assert!(
        path.exists(),
        "the large program is Debian's prometheus: apt-get install prometheus"
    );
    let folder = tempfile::tempdir().expect("a folder");
    let large = prometheus(path, folder.path());
    let (ms, mb) = armed_rows("prometheus (Debian)", path, large.pid(), &mut rows);
    print(
        "gotap trace --preset conn -p PID: from start to armed, page cache warm",
        &[
            "",
            "file MB",
            "rounds",
            "median ms",
            "worst ms",
            "its own figure, ms",
            "peak RssAnon MB",
        ],
        &rows,
        &[
            goal("150 ms", &format!("{ms:.0} ms"), ms <= 150.0),
            goal("60 MB", &format!("{mb:.1} MB"), mb <= 60.0),
        ],
    );
}

fn armed_rows(name: &str, path: &Path, pid: i32, rows: &mut Vec<Vec<String>>) -> (f64, f64) {
    let size = path.metadata().map_or(0, |m| m.len());
    let (mut wall, mut said, mut anon) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let text = pid.to_string();
        let args = ["trace", "--preset", "conn", "-o", "json", "-p", &text];
        let command = gotap::command(&args);
        let began = Instant::now();
        let mut gotap = Gotap::spawn(command);
        let watch = AnonWatch::start(gotap.pid());
        let line = gotap.stderr_line("armed ", SOON).expect("it arms");
        wall.push(began.elapsed().as_secs_f64() * 1e3);
        anon.push(watch.stop() as f64 / 1e6);
        let own = line.rsplit(" in ").next().unwrap_or_default();
        let own = own.split(' ').next().unwrap_or_default();
        said.push(own.parse().unwrap_or(f64::NAN));
        gotap.stop().must_succeed();
    }
    let ((median, worst), (own, _)) = (median_and_max(wall), median_and_max(said));
    let (_, peak) = median_and_max(anon);
    rows.push(vec![
        name.to_owned(),
        format!("{:.1}", size as f64 / 1e6),
        ROUNDS.to_string(),
        format!("{median:.0}"),
        format!("{worst:.0}"),
        format!("{own:.0}"),
        format!("{peak:.1}"),
    ]);
    (median, peak)
}

/// A Prometheus that scrapes nothing, serving.
fn prometheus(path: &Path, folder: &Path) -> Target {
    let config = folder.join("prometheus.yml");
    std::fs::write(&config, "global:\n  scrape_interval: 1h\n").expect("write a file");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let at = listener.local_addr().expect("an address");
    drop(listener);
    let mut command = Command::new(path);
    command
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--web.listen-address={at}"))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.join("data").display()
        ))
        .stderr(Stdio::null());
    let target = Target::spawn(command, "prometheus");
    wait_for("prometheus serves", LATER, || {
        std::net::TcpStream::connect(at).ok()
    });
    target
}
