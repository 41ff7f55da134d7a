//! For how long all threads are stopped while jumps are put in: by threads, and by
//! parked goroutines.

use super::support::live::{Fixture, LATER, SOON, Target, poll};
use super::support::meter::{median_and_max, threads};
use super::support::table::{goal, print};
use super::{READ, ROUNDS, trace_into};

/// Blocked threads, and connections whose goroutines are parked in Read.
const SIZES: [(usize, usize); 5] = [(4, 0), (4, 1000), (4, 4000), (100, 0), (500, 0)];

/// The jumps that `gotap trace` puts into an idle server.
pub fn pause() {
    let echo = Fixture::build("echo", &[]);
    let (mut rows, mut goals) = (Vec::new(), Vec::new());
    for (blocked, conns) in SIZES {
        let args = ["-threads", &blocked.to_string()];
        let (mut server, addr) = Target::echo_server(&echo, &args);
        let many = conns.to_string();
        let clients = ["-conns", &many, "-calls", "1", "-gate"];
        let load = (conns > 0).then(|| Target::echo_load(&echo, &addr, &clients));
        assert!(poll(LATER, || server.ask("counts")["open"] == conns));
        let (mut pauses, mut stops) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let more = ["--fire", "jump", "-o", "json", "--out", "/dev/null"];
            let outcome = trace_into(server.pid(), &[READ], &more).stop();
            let line = outcome.stderr.iter().find(|l| l.contains("armed "));
            let (times, ms) = line.and_then(|l| stopped(l)).expect("it was stopped");
            pauses.push(ms);
            stops.push(times);
        }
        let all = threads(server.pid());
        let (median, worst) = median_and_max(pauses);
        let due = 1.0 + 0.1 * all as f64 + 0.001 * conns as f64;
        rows.push(vec![
            all.to_string(),
            conns.to_string(),
            format!("{median:.2}"),
            format!("{worst:.2}"),
            format!("{:.0}", median_and_max(stops).1),
            format!("{due:.2}"),
        ]);
        goals.push(goal(
            &format!("{all} threads, {conns} parked: {due:.2} ms"),
            &format!("{median:.2} ms, worst {worst:.2}"),
            worst <= due,
        ));
        drop(load);
        assert!(poll(SOON, || server.answers()));
    }
    print(
        &format!(
            "the longest stop of all threads while {READ} is made to jump, {ROUNDS} rounds; the \
             goal is 1 ms + 0.1 ms a thread + 1 µs a parked goroutine"
        ),
        &[
            "threads",
            "parked in Read",
            "median ms",
            "worst ms",
            "most stops",
            "goal ms",
        ],
        &rows,
        &goals,
    );
}

/// How often and for how long, as the line says that tells of arming.
fn stopped(line: &str) -> Option<(f64, f64)> {
    let rest = line.split("threads were stopped ").nth(1)?;
    let number = |text: &str| text.split(' ').next()?.parse::<f64>().ok();
    match rest.strip_prefix("for ") {
        Some(ms) => Some((1.0, number(ms)?)),
        None => Some((number(rest)?, number(rest.split("for ").nth(1)?)?)),
    }
}
