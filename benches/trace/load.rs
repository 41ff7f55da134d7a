//! An echo server under load: its calls/s untraced, and traced in each way.

use std::time::Duration;

use super::support::dlv;
use super::support::live::{Fixture, Target};
use super::support::meter::{Window, median_and_max, window};
use super::support::table::{goal, print};
use super::uprobes::Uprobes;
use super::{READ, WINDOW, end, reads, trace_into};

/// How often each way is measured.
const LOAD_ROUNDS: usize = 5;

/// What is traced besides, in the second table.
const WRITE: &str = "net.(*conn).Write";

/// A way to trace the load, and what was seen of it.
struct Way {
    name: &'static str,
    /// `None`: nobody traces.
    args: Option<&'static [&'static str]>,
    seen: Vec<Window>,
    held: String,
}

/// Every Read of the server, then every Read and Write.
pub fn load() {
    load_of(&[READ]);
    load_of(&[READ, WRITE]);
}

/// The same load untraced and traced in each way, by turns: what else the machine
/// does falls on all of them.
fn load_of(patterns: &[&str]) {
    // A call has two hits; calls are counted by the server's Reads.
    let hits_each = 2.0 * patterns.len() as f64;
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
    let trap: &[&str] = &["--fire", "trap", "-o", "json", "--out", "/dev/null"];
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
        way("gotap trace --fire trap -o json", Some(trap)),
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
            let gotap = trace_into(pid, patterns, args);
            std::thread::sleep(Duration::from_millis(500));
            let tracer = Some(gotap.pid());
            way.seen
                .push(window(WINDOW / 2, tracer, || reads(&mut server)));
            way.held = end(gotap);
        }
    }
    let kernel = Uprobes::set(&echo.path, pid, patterns)
        .map(|_probes| window(2 * WINDOW, None, || reads(&mut server)));
    // The last: what is killed under it is not measured any more.
    let theirs = dlv::version().map(|_| {
        let pattern = match patterns {
            [_] => r"net.\(\*conn\).Read$",
            _ => r"net.\(\*conn\).(Read|Write)$",
        };
        let dlv = dlv::Trace::start(pid, pattern);
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
        let calls = patterns.len() as f64;
        let each = way
            .seen
            .iter()
            .map(|w| w.tracer_cpu / (calls * w.count) * 1e5);
        median_and_max(each.collect()).0
    };
    let mut rows: Vec<Vec<String>> = ways
        .iter()
        .map(|way| {
            row(
                way.name,
                (&middle(way), hits_each),
                share(way),
                cores_at(way),
                &way.held,
            )
        })
        .collect();
    let [_, trapped, json, recorded, _] = &ways;
    let hits = hits_each * middle(trapped).rate();
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
        let cores = theirs.tracer_cpu / (patterns.len() as f64 * theirs.count) * 1e5;
        rows.push(row("dlv trace", (&theirs, hits_each), of, cores, "-"));
        let times = middle(trapped).rate() / theirs.rate();
        goals.push(goal("60 x dlv", &format!("{times:.0} x"), times >= 60.0));
    }
    let note = match kernel {
        Ok(seen) => {
            let [untraced, ..] = &ways;
            let of = seen.rate() / middle(untraced).rate();
            let name = "kernel uprobes, nobody reads them";
            rows.push(row(name, (&seen, hits_each), of, 0.0, "-"));
            String::new()
        }
        Err(why) => format!("; kernel uprobes: {why}"),
    };
    let names = patterns.join(" and ");
    print(
        &format!(
            "echo server, 64 connections, every {names} traced (2 hits each); {LOAD_ROUNDS} \
             rounds by turns, medians; calls/s are the server's Reads{note}"
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

fn row(name: &str, (it, hits): (&Window, f64), share: f64, cores: f64, held: &str) -> Vec<String> {
    let traced = it.tracer_cpu > 0.0;
    let when = |text: String| if traced { text } else { "-".to_owned() };
    vec![
        name.to_owned(),
        format!("{:.0}", it.rate()),
        format!("{:.1} %", 100.0 * share),
        when(format!("{:.0}", hits * it.rate())),
        when(format!("{:.2}", it.cpu_share())),
        when(format!("{cores:.2}")),
        held.to_owned(),
    ]
}
