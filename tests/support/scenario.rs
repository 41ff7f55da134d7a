//! What is checked on more than one build of a program.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;

use super::{Fixture, Gotap, LATER, SOON, Target, oracle, poll, wait_for};

/// An `echo serve` under load that does not end: what the survival tests hit.
pub struct Busy {
    /// The server, to be traced.
    pub server: Target,
    /// Its client.
    pub load: Target,
    /// How the server was before anybody touched it.
    pub before: oracle::Footprint,
    /// Its signal actions, as the kernel tells them.
    pub actions: Value,
}

/// What every call of the load is traced by.
pub const READ: &str = "net.(*conn).Read";
/// The other half.
pub const WRITE: &str = "net.(*conn).Write";

impl Busy {
    /// Starts both.
    pub fn start(echo: &Fixture, server_args: &[&str]) -> Busy {
        let (mut server, addr) = Target::echo_server(echo, server_args);
        let before = oracle::footprint(server.pid());
        let actions = server.ask("sigactions");
        let load = Target::echo_load(echo, &addr, &["-conns", "8", "-calls", "-1"]);
        let mut busy = Busy {
            server,
            load,
            before,
            actions,
        };
        busy.must_go_on("before anything");
        busy
    }

    /// Messages echoed so far, as the client counts them.
    pub fn trips(&mut self) -> i64 {
        self.load.ask("trips").as_i64().expect("a number")
    }

    /// The server lives, answers, and serves at least 200 messages more.
    pub fn must_go_on(&mut self, when: &str) {
        assert!(self.server.is_alive(), "{when}: the server is dead");
        assert!(self.server.answers(), "{when}: the server does not answer");
        assert!(self.progresses(200), "{when}: the server serves no more");
        assert!(self.server.is_alive(), "{when}: the server is dead");
    }

    /// At least so many messages more, soon.
    pub fn progresses(&mut self, messages: i64) -> bool {
        let from = self.trips();
        poll(LATER, || {
            let now = self.load.ask("trips").as_i64().expect("a number");
            now >= from + messages
        })
    }

    /// [`Busy::must_go_on`], and no trace of gotap is left.
    pub fn must_be_clean(&mut self, when: &str) {
        self.must_go_on(when);
        oracle::assert_clean(self.server.pid(), &self.before, when);
        let now = self.server.ask("sigactions");
        assert_eq!(now, self.actions, "{when}: signal actions");
    }

    /// Waits until nobody traces the server and its code is its own again, and does
    /// not ask it anything.
    pub fn wait_let_go(&self) {
        let pid = self.server.pid();
        wait_for("it is let go", SOON, || {
            oracle::is_clean(pid, &self.before).then_some(())
        });
    }

    /// A further gotap attaches, traces some calls and leaves nothing behind.
    pub fn must_be_traceable(&mut self, when: &str) {
        let mut gotap = Gotap::trace_json(self.server.pid(), &[READ], &[]);
        gotap.wait_for_lines(50, SOON);
        gotap.stop().must_succeed();
        self.must_be_clean(when);
    }
}

/// Every Read of the server, exactly: counts, bytes, ends, fds, ports.
///
/// `connected`: the connections exist before gotap attaches, so that each first
/// Read is found parked and reported with `since_attach`.
pub fn exact_reads(echo: &Fixture, conns: usize, calls: usize, connected: bool) {
    let (mut server, addr) = Target::echo_server(echo, &[]);
    let pid = server.pid();
    let before = oracle::footprint(pid);
    let actions = server.ask("sigactions");
    let (conns_text, calls_text) = (conns.to_string(), calls.to_string());
    let mut args = vec!["-conns", &conns_text, "-calls", &calls_text, "-linger"];
    args.push(if connected { "-gate" } else { "-late" });
    let mut load = Target::echo_load(echo, &addr, &args);
    if connected {
        // Accepted, and parked in their first Read.
        assert!(poll(SOON, || server.ask("counts")["open"] == conns));
        assert!(poll(SOON, || oracle::is_idle(pid)));
    }

    let gotap = Gotap::trace_json(pid, &[READ], &[]);
    load.tell("go");
    load.expect_line_within("finished", LATER);
    let sockets = oracle::tcp_sockets(pid);
    load.tell("close");
    let flows = load.answer("done", SOON);
    assert!(poll(SOON, || server.ask("counts")["open"] == 0));
    let counts = server.ask("counts");
    let outcome = gotap.stop();
    outcome.must_succeed();

    let label = &echo.label;
    let records = outcome.calls();
    let total = &counts["total"];
    assert_eq!(
        records.len() as u64,
        number(total, "reads"),
        "{label}: Reads"
    );
    assert!(records.len() >= conns * calls, "{label}: the load itself");
    assert_eq!(
        sum(&records, "n"),
        number(total, "read_bytes"),
        "{label}: bytes"
    );
    let eofs = records.iter().filter(|r| r["err"] == "EOF").count() as u64;
    assert_eq!(eofs, number(total, "closes"), "{label}: ends of stream");
    let errors = records.iter().filter(|r| r["err"].is_string()).count() as u64;
    assert_eq!(errors, eofs, "{label}: other errors");
    let tally = outcome.tally();
    assert_eq!(tally.seen, records.len() as u64, "{label}: {tally:?}");
    assert_eq!(
        (tally.open, tally.filtered, tally.lost),
        (0, 0, 0),
        "{label}"
    );

    check_each(label, &records);
    let by_remote = group(&records);
    assert_eq!(by_remote.len(), conns, "{label}: remote addresses");
    for conn in list(&counts, "conns") {
        let remote = text(conn, "remote");
        let own = by_remote
            .get(remote)
            .unwrap_or_else(|| panic!("{label}: no record of {remote}"));
        assert_eq!(own.len() as u64, number(conn, "reads"), "{label}: {remote}");
        let bytes: u64 = own.iter().map(|r| number(r, "n")).sum();
        assert_eq!(bytes, number(conn, "read_bytes"), "{label}: {remote}");
        let goids: BTreeSet<u64> = own.iter().map(|r| number(r, "goid")).collect();
        assert_eq!(goids.len(), 1, "{label}: one goroutine serves {remote}");
        for record in own {
            let socket = &sockets[&record["fd"].as_i64().expect("an fd")];
            assert_eq!(socket.remote.to_string(), remote, "{label}: the kernel's");
            assert_eq!(socket.local.to_string(), text(record, "local"), "{label}");
            assert_eq!(record["network"], "tcp", "{label}");
        }
        let parked = own.iter().filter(|r| r["since_attach"] == true).count();
        assert_eq!(parked, usize::from(connected), "{label}: since_attach");
    }
    for flow in flows.as_array().expect("flows") {
        let own = &by_remote[text(flow, "local")];
        let bytes: u64 = own.iter().map(|r| number(r, "n")).sum();
        assert_eq!(bytes, number(flow, "sent"), "{label}: the client's count");
    }

    assert!(server.answers());
    oracle::assert_clean(pid, &before, label);
    assert_eq!(server.ask("sigactions"), actions, "{label}: signal actions");
}

fn check_each(label: &str, records: &[Value]) {
    let mut ids = BTreeSet::new();
    for record in records {
        assert_eq!(record["func"], READ, "{label}");
        assert_eq!(record["end"], "return", "{label}: {record}");
        assert!(ids.insert(number(record, "id")), "{label}: twice {record}");
        assert!(record["tid"].is_number(), "{label}: {record}");
        assert!(!record["time"].is_null(), "{label}: {record}");
        let parked = record["since_attach"] == true;
        assert_eq!(record["dur_ns"].is_u64(), !parked, "{label}: {record}");
    }
}

fn group(records: &[Value]) -> BTreeMap<String, Vec<&Value>> {
    let mut by_remote: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for record in records {
        let remote = text(record, "remote").to_string();
        by_remote.entry(remote).or_default().push(record);
    }
    by_remote
}

/// A count of a JSON object.
pub fn number(object: &Value, field: &str) -> u64 {
    object[field]
        .as_u64()
        .unwrap_or_else(|| panic!("no number {field:?} in {object}"))
}

/// A text of a JSON object.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object[field]
        .as_str()
        .unwrap_or_else(|| panic!("no text {field:?} in {object}"))
}

/// A list of a JSON object.
pub fn list<'a>(object: &'a Value, field: &str) -> &'a [Value] {
    object[field]
        .as_array()
        .unwrap_or_else(|| panic!("no list {field:?} in {object}"))
}

/// Σ of a field over records.
pub fn sum(records: &[Value], field: &str) -> u64 {
    records.iter().map(|r| number(r, field)).sum()
}

/// A value of `args` or `results` that is the only one, whatever its name.
pub fn only<'a>(record: &'a Value, field: &str) -> &'a Value {
    let all = record[field]
        .as_object()
        .unwrap_or_else(|| panic!("no object {field:?} in {record}"));
    assert_eq!(all.len(), 1, "one value in {field:?} of {record}");
    all.values().next().expect("one")
}

/// The calls of `ends` that a tracer has to find, on any build: by number and
/// by how they ended, without a look at arguments.
pub fn ends_by_count(ends: &Fixture) {
    let mut target = Target::start(ends, &[]);
    target.expect_line("ready ");
    let pid = target.pid();
    let before = oracle::footprint(pid);
    let patterns = [
        "main.recurse",
        "main.movedOuter",
        r"^main\.unwound(One|Two|Three)$",
        "main.recoverInFourth",
        r"^main\.exit(Outer|Middle|Inner)$",
        "main.deferChanges",
        "main.deferRecovers",
        "main.hot",
        "main.isOdd",
        "main.isEven",
        "main.(*inner).Add",
    ];
    let gotap = Gotap::trace_json(pid, &patterns, &[]);
    for case in [
        "recurse",
        "moved",
        "panic",
        "goexit",
        "defer",
        "deferrecover",
        "many",
        "mutual",
        "tail",
    ] {
        target.tell(case);
        target.answer(case, LATER);
    }
    let outcome = gotap.stop();
    outcome.must_succeed();
    let mut found: BTreeMap<(String, String), u64> = BTreeMap::new();
    for call in outcome.calls() {
        let key = (
            text(&call, "func").to_string(),
            text(&call, "end").to_string(),
        );
        *found.entry(key).or_default() += 1;
    }
    let expected = [
        ("main.recurse", "return", 61),
        ("main.movedOuter", "return", 1),
        ("main.unwoundOne", "panic", 1),
        ("main.unwoundTwo", "panic", 1),
        ("main.unwoundThree", "panic", 1),
        ("main.recoverInFourth", "return", 1),
        ("main.exitOuter", "exit", 1),
        ("main.exitMiddle", "exit", 1),
        ("main.exitInner", "exit", 1),
        ("main.deferChanges", "return", 1),
        ("main.deferRecovers", "return", 1),
        ("main.hot", "return", 50_000),
        ("main.isOdd", "return", 21),
        ("main.isEven", "return", 21),
        ("main.(*inner).Add", "return", 1),
    ];
    let expected: BTreeMap<(String, String), u64> = expected
        .into_iter()
        .map(|(func, end, n)| ((func.to_string(), end.to_string()), n))
        .collect();
    let said = outcome.errors();
    assert_eq!(found, expected, "{}\n{said}", ends.label);
    assert_eq!(outcome.tally().lost, 0, "{}", ends.label);
    oracle::assert_clean(pid, &before, &ends.label);
}

/// A pid that gotap traces; waits until the kernel says so.
pub fn wait_traced(pid: i32) {
    wait_for("somebody traces it", SOON, || {
        (oracle::tracer(pid) != 0).then_some(())
    });
}

/// Waits until nobody traces it.
pub fn wait_untraced(pid: i32) {
    wait_for("nobody traces it", SOON, || {
        (oracle::tracer(pid) == 0).then_some(())
    });
}

/// Short steps between two looks.
pub const GLANCE: Duration = Duration::from_millis(20);
