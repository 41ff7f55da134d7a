//! What tracing costs: both sides of one run, printed as tables.
//!
//! ```text
//! cargo bench --bench trace                 # all parts
//! cargo bench --bench trace -- threads      # one of: load tight threads stall condition start
//! ```
//!
//! Beside gotap stand the untraced program and, when `dlv` is on PATH,
//! Delve doing the same. Everything runs on the machine as it is: its load is
//! printed first, and a figure is only as good as that is low.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use support::dlv;
use support::live::{Fixture, Gotap, LATER, SOON, Target, Variant, gotap, wait_for};
use support::meter::{AnonWatch, Window, median_and_max, threads, window};
use support::table::{goal, print};

/// How long each rate is measured.
const WINDOW: Duration = Duration::from_secs(5);
/// How often each way is measured under load.
const LOAD_ROUNDS: usize = 5;
/// How often what is one moment is measured.
const ROUNDS: usize = 15;
/// The function that is traced under load.
const READ: &str = "net.(*conn).Read";

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with("--"))
        .collect();
    let parts: [(&str, fn()); 6] = [
        ("load", load),
        ("tight", tight),
        ("threads", hit_cost_by_threads),
        ("stall", stall),
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

/// A `gotap trace` whose records go to /dev/null, armed.
fn trace(pid: i32, pattern: &str, more: &[&str]) -> Gotap {
    let mut args = vec!["-o", "json", "--out", "/dev/null"];
    args.extend(more);
    trace_into(pid, pattern, &args)
}

/// One whose records go where the arguments say, armed.
fn trace_into(pid: i32, pattern: &str, more: &[&str]) -> Gotap {
    let pid = pid.to_string();
    let mut args = vec!["trace", pattern, "-p", &pid];
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

/// A way to trace the load, and what was seen of it.
struct Way {
    name: &'static str,
    /// `None`: nobody traces.
    args: Option<&'static [&'static str]>,
    seen: Vec<Window>,
    held: String,
}

/// The same load untraced and traced in each way, by turns: what else the machine
/// does falls on all of them.
fn load() {
    let echo = Fixture::build("echo", &[]);
    let (mut server, addr) = Target::echo_server(&echo, &[]);
    let pid = server.pid();
    let _client = Target::echo_load(&echo, &addr, &["-conns", "64", "-calls", "-1"]);
    std::thread::sleep(Duration::from_secs(1));

    let way = |name, args| Way {
        name,
        args,
        seen: Vec::new(),
        held: "-".to_owned(),
    };
    let jump: &[&str] = &["--fire", "jump", "-o", "json", "--out", "/dev/null"];
    let record: &[&str] = &["--fire", "jump", "--record", "/dev/null"];
    let gated: &[&str] = &[
        "--fire",
        "jump",
        "--where",
        "fd == 99999",
        "--out",
        "/dev/null",
    ];
    let mut ways = [
        way("untraced", None),
        way(
            "gotap trace -o json",
            Some(&["-o", "json", "--out", "/dev/null"]),
        ),
        way("gotap trace --fire jump -o json", Some(jump)),
        way("gotap trace --fire jump --record", Some(record)),
        way("the same, --where 'fd == 99999'", Some(gated)),
    ];
    for _ in 0..LOAD_ROUNDS {
        for way in &mut ways {
            let Some(args) = way.args else {
                way.seen
                    .push(window(WINDOW / 2, None, || reads(&mut server)));
                continue;
            };
            let gotap = trace_into(pid, READ, args);
            std::thread::sleep(Duration::from_millis(500));
            let tracer = Some(gotap.pid());
            way.seen
                .push(window(WINDOW / 2, tracer, || reads(&mut server)));
            way.held = end(gotap);
        }
    }
    let theirs = dlv::version().map(|_| {
        let dlv = dlv::Trace::start(pid, r"net.\(\*conn\).Read$");
        window(2 * WINDOW, Some(dlv.pid()), || reads(&mut server))
    });

    // Each round against its own untraced one.
    let share = |way: &Way| {
        let [untraced, ..] = &ways;
        let both = way.seen.iter().zip(&untraced.seen);
        median_and_max(both.map(|(w, u)| w.rate() / u.rate()).collect()).0
    };
    let middle = |way: &Way| {
        let mut all = way.seen.clone();
        all.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
        all.get(all.len() / 2).copied().expect("rounds")
    };
    let cores_at = |way: &Way| {
        // Tracer CPU, as if there were 100,000 calls a second.
        let each = way.seen.iter().map(|w| w.tracer_cpu / w.count * 1e5);
        median_and_max(each.collect()).0
    };
    let mut rows: Vec<Vec<String>> = ways
        .iter()
        .map(|way| row(way.name, &middle(way), share(way), cores_at(way), &way.held))
        .collect();
    let [_, trapped, json, recorded, _] = &ways;
    let hits = 2.0 * middle(trapped).rate();
    let mut goals = vec![
        goal(
            "25,000 hits/s by traps",
            &format!("{hits:.0}"),
            hits >= 25e3,
        ),
        goal(
            "jump, recorded: 0.97 of untraced",
            &format!("{:.3}", share(recorded)),
            share(recorded) >= 0.97,
        ),
        goal(
            "jump, recorded: 15 % of a core at 100,000 calls/s",
            &format!("{:.1} %", 100.0 * cores_at(recorded)),
            cores_at(recorded) <= 0.15,
        ),
        goal(
            "jump, JSON lines: 60 %",
            &format!("{:.1} %", 100.0 * cores_at(json)),
            cores_at(json) <= 0.6,
        ),
    ];
    if let Some(theirs) = theirs {
        let [untraced, ..] = &ways;
        let of = theirs.rate() / middle(untraced).rate();
        let cores = theirs.tracer_cpu / theirs.count * 1e5;
        rows.push(row("dlv trace", &theirs, of, cores, "-"));
        let times = middle(trapped).rate() / theirs.rate();
        goals.push(goal("60 x dlv", &format!("{times:.0} x"), times >= 60.0));
    }
    print(
        &format!(
            "echo server, 64 connections, every net.(*conn).Read traced (2 hits a call); \
             {LOAD_ROUNDS} rounds by turns, medians; kernel uprobes are not measured: nothing \
             here loads them"
        ),
        &[
            "",
            "calls/s",
            "of untraced",
            "hits/s",
            "tracer CPU, cores",
            "cores at 100,000 calls/s",
            "held µs/hit",
        ],
        &rows,
        &goals,
    );
}

/// A breakpoint whose condition never holds, beside a trace that records nothing:
/// the time that the program is held at each hit of the one and of the other.
fn condition() {
    let built = Fixture::build("breaks", &[]);
    let mut rows = Vec::new();
    let mut held = Vec::new();
    for (name, script) in [
        ("trace", "trace main.visit if n == -1\n"),
        ("break, an argument", "break main.visit if n == -1\n"),
        ("break, a field", "break main.visit if req.ID == -1\n"),
        (
            "break, a text",
            "break main.visit if req.Name == \"nobody\"\n",
        ),
    ] {
        let mut target = Target::start(&built, &[]);
        target.expect_line("ready ");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.gotap");
        std::fs::write(&path, script).expect("write a script");
        let pid = target.pid().to_string();
        let args = ["run", path.to_str().expect("UTF-8"), "-p", &pid];
        let mut gotap = Gotap::spawn(gotap::command(&args));
        gotap.stderr_line("point 1 ", SOON).expect("it is set");
        target.ask("race on");
        std::thread::sleep(Duration::from_millis(500));
        let it = window(WINDOW, Some(gotap.pid()), || visits(&mut target));
        let outcome = gotap.stop();
        let lines = outcome.stderr.join("\n");
        let stops = |what: &str| lines.split(what).nth(1).and_then(|r| r.split(' ').next());
        let per_hit = stops("held a thread ").and_then(|t| t.parse::<f64>().ok());
        let per_hit = per_hit.unwrap_or(f64::NAN);
        let hits = if name == "trace" { 2.0 } else { 1.0 };
        rows.push(vec![
            name.to_owned(),
            format!("{:.0}", it.rate()),
            format!("{:.0}", hits * it.rate()),
            format!("{per_hit:.1}"),
            format!("{:.2}", 1e6 * it.cpu_share() / (hits * it.rate())),
        ]);
        held.push((per_hit, 1e6 / it.rate()));
    }
    let worst = |of: fn(&(f64, f64)) -> f64| {
        let trace = held.first().map_or(f64::NAN, of);
        held.iter().skip(1).map(of).fold(0.0, f64::max) / trace
    };
    let (hit, call) = (worst(|h| h.0), worst(|h| h.1));
    print(
        "a condition that never holds, one goroutine calling as fast as it can",
        &["", "calls/s", "hits/s", "held µs/hit", "CPU µs/hit"],
        &rows,
        &[
            goal(
                "held at a hit: 1.3 x trace",
                &format!("{hit:.2} x"),
                hit <= 1.3,
            ),
            goal(
                "time of a call: 1.3 x trace",
                &format!("{call:.2} x"),
                call <= 1.3,
            ),
        ],
    );
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
            let gotap = trace_into(pid, "main.small", args);
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

fn row(name: &str, it: &Window, share: f64, cores: f64, held: &str) -> Vec<String> {
    let traced = it.tracer_cpu > 0.0;
    let when = |text: String| if traced { text } else { "-".to_owned() };
    vec![
        name.to_owned(),
        format!("{:.0}", it.rate()),
        format!("{:.1} %", 100.0 * share),
        when(format!("{:.0}", 2.0 * it.rate())),
        when(format!("{:.2}", it.cpu_share())),
        when(format!("{cores:.2}")),
        held.to_owned(),
    ]
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
