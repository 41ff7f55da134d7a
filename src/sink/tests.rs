//! Goldens of every form, the queue, the loop of the writing thread.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::sync::{Arc, mpsc};
use std::thread;

use jiff::tz::TimeZone;

use super::dlv::DlvSink;
use super::json::JsonSink;
use super::queue::{Receiver, queue};
use super::run::{Counters, Selection, Stop, run_sink};
use super::samples::{Kept, all, error, plain, read, record};
use super::summary::{SummarySink, SummaryStyle};
use super::text::TextSink;
use super::{Color, Sink, Tee};
use crate::record::{Call, Direction, End, Record};
use crate::script::{CALL_FACTS, CallNames, compile_condition};

fn written(
    make: impl FnOnce(Box<dyn Write + Send>) -> Box<dyn Sink>,
    records: &[Record],
) -> String {
    let kept = Kept::default();
    let mut sink = make(kept.writer());
    for record in records {
        sink.record(record).unwrap();
    }
    sink.finish().unwrap();
    kept.text()
}

fn text(color: Color, records: &[Record]) -> String {
    written(
        |to| Box::new(TextSink::new(to, color, TimeZone::UTC)),
        records,
    )
}

#[test]
fn text_is_one_line_a_call() {
    insta::assert_snapshot!(text(Color::Never, &all()));
}

#[test]
fn the_line_of_the_manual() {
    let mut call = read(0);
    call.time_ns = "2026-01-01T12:01:02.123456Z"
        .parse::<jiff::Timestamp>()
        .unwrap()
        .as_nanosecond() as i64;
    assert_eq!(
        text(Color::Never, &[record(call)]),
        "12:01:02.123456  g34  net.(*conn).Read  fd=7 tcp 127.0.0.1:8080 ← 127.0.0.1:53211  \
         len=4096  → n=64 err=nil  1.204ms\n",
    );
}

#[test]
fn colour_adds_nothing_but_colour() {
    let colored = text(Color::Always, &all());
    assert!(colored.contains("\x1b["));
    let mut plain = colored;
    for sgr in ["\x1b[2m", "\x1b[36m", "\x1b[31m", "\x1b[0m"] {
        plain = plain.replace(sgr, "");
    }
    assert_eq!(plain, text(Color::Never, &all()));
}

#[test]
fn without_colour_nothing_of_the_target_moves_a_terminal() {
    let forms = [
        text(Color::Never, &all()),
        written(|to| Box::new(DlvSink::new(to)), &all()),
        written(|to| Box::new(JsonSink::new(to)), &all()),
        written(
            |to| Box::new(SummarySink::new(to, SummaryStyle::Text)),
            &all(),
        ),
        written(
            |to| Box::new(SummarySink::new(to, SummaryStyle::Json)),
            &all(),
        ),
    ];
    for form in forms {
        let odd = form
            .chars()
            .find(|&c| c.is_control() && c != '\n' && c != '\t');
        assert_eq!(odd, None, "{form:?}");
    }
}

#[test]
fn dlv_is_two_lines_a_call() {
    let out = written(|to| Box::new(DlvSink::new(to)), &all());
    assert!(
        out.starts_with(
            "> goroutine(1): main.foo(99, 9801)\n>> goroutine(1): main.foo => (9900)\n"
        )
    );
    insta::assert_snapshot!(out);
}

#[test]
fn json_is_one_object_a_line() {
    let out = written(|to| Box::new(JsonSink::new(to)), &all());
    let mut names = BTreeSet::new();
    for line in out.lines() {
        let object: serde_json::Value = serde_json::from_str(line).unwrap();
        names.extend(object.as_object().unwrap().keys().cloned());
    }
    // Expressions and JSON use the same names.
    let mut known: BTreeSet<String> = CALL_FACTS.iter().map(|row| row.name.to_owned()).collect();
    known.remove("dur");
    known.extend(["args", "results", "err_structural", "lost", "why"].map(str::to_owned));
    assert_eq!(names, known);
    insta::assert_snapshot!(out);
}

#[test]
fn facts_of_a_call_are_what_json_says() {
    // Each JSON scalar, put into a filter as a literal, holds for its call.
    let mut checked = 0;
    for record in all() {
        let Record::Call(call) = &record else {
            continue;
        };
        let line = written(
            |to| Box::new(JsonSink::new(to)),
            std::slice::from_ref(&record),
        );
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        for (name, value) in object.as_object().unwrap() {
            let literal = match value {
                serde_json::Value::Null => "nil".to_owned(),
                serde_json::Value::String(s) if name != "payload" => format!("`{s}`"),
                serde_json::Value::Number(_) | serde_json::Value::Bool(_)
                    if name != "err_structural" =>
                {
                    value.to_string()
                }
                _ => continue,
            };
            let source = format!("{name} == {literal}");
            let filter = compile_condition(&source, &CallNames::default()).unwrap();
            assert_eq!(filter.holds(&**call), Ok(true), "{source} of {line}");
            checked += 1;
        }
    }
    assert!(checked > 100);
}

fn nested_calls() -> Vec<Record> {
    let out = |id, parent, func: &str, n| Call {
        parent,
        func: func.into(),
        direction: Some(Direction::Out),
        n: Some(n),
        ..read(id)
    };
    vec![
        // ReadFrom → copy, which moves nothing itself → two Writes.
        record(out(3, Some(2), "net.(*conn).Write", 1000)),
        record(out(4, Some(2), "net.(*conn).Write", 500)),
        record(Call {
            parent: Some(1),
            ..plain(2)
        }),
        record(out(1, None, "net.(*TCPConn).ReadFrom", 1500)),
        // A Read inside a call that writes counts; so does one whose outer
        // call never comes.
        record(Call {
            parent: Some(6),
            n: Some(70),
            ..read(5)
        }),
        record(out(6, None, "net.(*TCPConn).ReadFrom", 7)),
        record(Call {
            parent: Some(99),
            ..read(7)
        }),
        // Reported as slow, then ended by an error.
        record(Call {
            end: End::Open,
            n: None,
            ..read(8)
        }),
        record(Call {
            n: Some(0),
            err: Some(error("EOF")),
            dur_ns: Some(3_000_000_000),
            ..read(8)
        }),
        record(Call {
            end: End::Open,
            n: None,
            ..read(9)
        }),
        record(Call {
            end: End::Panic,
            ..plain(10)
        }),
        Record::Gap {
            lost: 3,
            why: "queue",
        },
    ]
}

#[test]
fn a_summary_counts_nested_bytes_once() {
    let json = written(
        |to| Box::new(SummarySink::new(to, SummaryStyle::Json)),
        &nested_calls(),
    );
    let summary: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(summary["summary"]["bytes_in"], 70 + 64);
    assert_eq!(summary["summary"]["bytes_out"], 1500 + 7);
    let text = written(
        |to| Box::new(SummarySink::new(to, SummaryStyle::Text)),
        &nested_calls(),
    );
    insta::assert_snapshot!(format!("{text}\n{json}"));
}

#[test]
fn the_memory_of_a_summary_is_bounded() {
    let mut sink = SummarySink::new(Box::new(io::sink()), SummaryStyle::Json);
    for id in 0..200_000 {
        let call = Call {
            parent: Some(1_000_000 + id),
            ..read(id)
        };
        sink.record(&record(call)).unwrap();
    }
    assert!(sink.waiting() <= 65_536);
}

fn drain(mut receiver: Receiver) -> Vec<Record> {
    let (mut all, mut batch) = (Vec::new(), Vec::new());
    while receiver.receive(&mut batch) {
        all.append(&mut batch);
    }
    all
}

fn ids(records: &[Record]) -> Vec<u64> {
    records
        .iter()
        .map(|record| match record {
            Record::Call(call) => call.id,
            Record::Gap { lost, .. } => 1_000_000 + lost,
        })
        .collect()
}

#[test]
fn a_full_queue_drops_counts_and_says_where() {
    let (sender, mut receiver) = queue(3);
    let taken: Vec<bool> = (1..=5).map(|id| sender.send(record(plain(id)))).collect();
    assert_eq!(taken, [true, true, true, false, false]);
    assert_eq!(sender.lost(), 2);
    let mut batch = Vec::new();
    assert!(receiver.receive(&mut batch));
    assert_eq!(ids(&batch), [1, 2, 3, 1_000_002]);
    assert!(sender.send(record(plain(6))));
    drop(sender);
    assert_eq!(ids(&drain(receiver)), [6]);
}

#[test]
fn nothing_is_lost_or_reordered_between_threads_beyond_what_is_counted() {
    for capacity in [1, 7, 4096] {
        let (sender, receiver) = queue(capacity);
        let reader = thread::spawn(move || drain(receiver));
        let taken: Vec<u64> = (1..=50_000)
            .filter(|&id| sender.send(record(plain(id))))
            .collect();
        let lost = sender.lost();
        drop(sender);
        let records = reader.join().unwrap();
        let got: Vec<u64> = ids(&records)
            .into_iter()
            .filter(|&id| id < 1_000_000)
            .collect();
        assert_eq!(got, taken);
        let gaps: u64 = records
            .iter()
            .map(|record| match record {
                Record::Gap { lost, .. } => *lost,
                Record::Call(_) => 0,
            })
            .sum();
        assert_eq!(gaps, lost);
        assert_eq!(taken.len() as u64 + lost, 50_000);
    }
}

#[test]
fn a_waiting_reader_is_woken() {
    let (sender, mut receiver) = queue(10);
    let (got, seen) = mpsc::channel();
    let reader = thread::spawn(move || {
        let mut batch = Vec::new();
        while receiver.receive(&mut batch) {
            got.send(batch.len()).unwrap();
        }
    });
    for id in 0..20 {
        assert!(sender.send(record(plain(id))));
        assert_eq!(seen.recv(), Ok(1));
    }
    drop(sender);
    reader.join().unwrap();
}

#[test]
fn nobody_wants_records_when_the_reader_is_gone() {
    let (sender, receiver) = queue(10);
    drop(receiver);
    assert!(sender.is_closed());
    assert!(!sender.send(record(plain(1))));
    assert_eq!(sender.lost(), 0);
}

/// Runs the loop over records that are all there, and says how it ended, what
/// the caller was told, and what was written.
fn run(
    records: Vec<Record>,
    selection: &Selection,
    to: Box<dyn Write + Send>,
    counters: &Counters,
) -> (io::Result<Stop>, Vec<Stop>) {
    let (sender, receiver) = queue(records.len());
    for record in records {
        assert!(sender.send(record));
    }
    drop(sender);
    let mut told = Vec::new();
    let mut sink = JsonSink::new(to);
    let end = run_sink(receiver, selection, &mut sink, counters, &mut |stop| {
        told.push(stop);
    });
    (end, told)
}

#[test]
fn a_call_told_of_while_it_ran_is_counted_once() {
    let open = |id| {
        record(Call {
            end: End::Open,
            n: None,
            ..read(id)
        })
    };
    let records = || {
        vec![
            open(1),
            open(2),
            record(read(1)),
            record(read(3)),
            record(read(4)),
        ]
    };
    let counts = |counters: &Counters| {
        [
            counters.seen(),
            counters.printed(),
            counters.filtered(),
            counters.open(),
        ]
    };
    let (kept, counters) = (Kept::default(), Counters::default());
    let all = Selection::default();
    run(records(), &all, kept.writer(), &counters).0.unwrap();
    assert_eq!(counts(&counters), [4, 4, 0, 1]);
    assert_eq!(kept.text().lines().count(), 5);

    let (kept, counters) = (Kept::default(), Counters::default());
    let ended = Selection {
        filter: Some(compile_condition("end == \"return\"", &CallNames::default()).unwrap()),
        limit: Some(2),
    };
    let (end, _) = run(records(), &ended, kept.writer(), &counters);
    assert_eq!(end.unwrap(), Stop::Limit);
    // What came after the limit is counted, not written.
    assert_eq!(counts(&counters), [4, 2, 1, 1]);
    assert_eq!(kept.text().lines().count(), 2);
}

/// A call is told of when `--slow` says so, and again at the end of tracing.
#[test]
fn a_call_still_open_is_written_once_when_it_is_wanted() {
    let open = |millis: u64| {
        record(Call {
            end: End::Open,
            dur_ns: Some(millis * 1_000_000),
            ..read(1)
        })
    };
    let outcome = |filter: Option<&str>| {
        let (kept, counters) = (Kept::default(), Counters::default());
        let selection = Selection {
            filter: filter.map(|f| compile_condition(f, &CallNames::default()).unwrap()),
            limit: None,
        };
        let records = vec![open(1), open(9)];
        run(records, &selection, kept.writer(), &counters)
            .0
            .unwrap();
        let counts = [counters.seen(), counters.filtered(), counters.open()];
        (kept.text().lines().count(), counts)
    };
    assert_eq!(outcome(None), (1, [1, 0, 1]));
    assert_eq!(outcome(Some("dur > 5ms")), (1, [1, 0, 1]));
    assert_eq!(outcome(Some("dur > 10ms")), (0, [1, 1, 1]));
}

#[test]
fn the_loop_filters_and_counts() {
    let kept = Kept::default();
    let counters = Counters::default();
    let selection = Selection {
        filter: Some(compile_condition("fd == 7 && args.b != 5", &CallNames::default()).unwrap()),
        limit: None,
    };
    let records = vec![
        record(plain(1)),
        record(read(2)),
        // `args.b` is text here: the comparison cannot be made.
        record(Call {
            args: vec![("b".into(), crate::value::Value::Int(5))].into(),
            ..read(3)
        }),
        record(Call {
            end: End::Open,
            args: Arc::default(),
            ..read(4)
        }),
        record(Call {
            args: vec![("b".into(), crate::value::Value::Int(6))].into(),
            ..read(5)
        }),
        Record::Gap {
            lost: 9,
            why: "queue",
        },
    ];
    let (end, told) = run(records, &selection, kept.writer(), &counters);
    assert_eq!((end.unwrap(), told), (Stop::Finished, vec![]));
    assert_eq!(
        [
            counters.seen(),
            counters.printed(),
            counters.filtered(),
            counters.open(),
            counters.lost(),
            counters.filter_errors(),
        ],
        [5, 1, 3, 1, 9, 1]
    );
    assert_eq!(
        counters.first_filter_error().unwrap(),
        "net.(*conn).Read: `!=` cannot compare text with an integer"
    );
    let lines: Vec<String> = kept.text().lines().map(str::to_owned).collect();
    assert!(lines[0].starts_with("{\"id\":5,"), "{lines:?}");
    assert_eq!(
        lines[1..],
        [
            "{\"lost\":9,\"why\":\"queue\"}",
            "{\"lost\":1,\"why\":\"filter error\"}"
        ]
    );
}

#[test]
fn the_loop_stops_at_the_limit() {
    let kept = Kept::default();
    let counters = Counters::default();
    let selection = Selection {
        filter: None,
        limit: Some(2),
    };
    let records = (1..=9).map(|id| record(plain(id))).collect();
    let (end, told) = run(records, &selection, kept.writer(), &counters);
    assert_eq!((end.unwrap(), told), (Stop::Limit, vec![Stop::Limit]));
    assert_eq!(kept.text().lines().count(), 2);
    assert_eq!(counters.printed(), 2);
}

struct Broken(io::ErrorKind);

impl Write for Broken {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Err(self.0.into())
    }
}

#[test]
fn a_closed_pipe_is_an_orderly_stop_and_a_full_disk_is_not() {
    let records = || vec![record(plain(1))];
    let (end, told) = run(
        records(),
        &Selection::default(),
        Box::new(Broken(io::ErrorKind::BrokenPipe)),
        &Counters::default(),
    );
    assert_eq!(
        (end.unwrap(), told),
        (Stop::BrokenPipe, vec![Stop::BrokenPipe])
    );
    let (end, told) = run(
        records(),
        &Selection::default(),
        Box::new(Broken(io::ErrorKind::StorageFull)),
        &Counters::default(),
    );
    assert_eq!(end.unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(told, [Stop::Failed]);
}

#[test]
fn what_was_written_is_seen_while_the_loop_waits() {
    let (sender, receiver) = queue(10);
    let kept = Kept::default();
    let mut sink = Tee(vec![Box::new(JsonSink::new(kept.writer()))]);
    let writer = thread::spawn(move || {
        let counters = Counters::default();
        run_sink(
            receiver,
            &Selection::default(),
            &mut sink,
            &counters,
            &mut |_| {},
        )
        .unwrap()
    });
    sender.send(record(plain(1)));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while kept.text().is_empty() {
        assert!(
            std::time::Instant::now() < deadline,
            "the record stays in a buffer"
        );
        thread::yield_now();
    }
    drop(sender);
    assert_eq!(writer.join().unwrap(), Stop::Finished);
}
