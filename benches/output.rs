//! How many records a second each form takes, on one core, from a stream like
//! that of an echo server under `gotap trace 'net.(*conn)'`: arguments,
//! results, some errors, some calls of other functions. The goal for JSON is
//! 100,000 a second.

use std::hint::black_box;
use std::io;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use gotap::record::{Call, Conn, Direction, End, Endpoint, ErrorValue, Record};
use gotap::script::{CallNames, compile_condition};
use gotap::sink::dlv::DlvSink;
use gotap::sink::json::JsonSink;
use gotap::sink::queue::queue;
use gotap::sink::run::{Counters, Selection, run_sink};
use gotap::sink::summary::{SummarySink, SummaryStyle};
use gotap::sink::text::TextSink;
use gotap::sink::{Color, Sink};
use gotap::value::Value;
use jiff::tz::TimeZone;

const RECORDS: usize = 10_000;

fn stream() -> Vec<Record> {
    (0..RECORDS as u64)
        .map(|id| Record::Call(Box::new(call(id))))
        .collect()
}

fn call(id: u64) -> Call {
    let connection = id * 31 % 64;
    let inet = |port: u64| {
        let text = format!("10.1.{}.{}:{port}", connection % 8, connection);
        Some(Endpoint::Inet(text.parse().expect("an address"), "".into()))
    };
    let reads = id.is_multiple_of(2);
    let n = if id.is_multiple_of(97) {
        0
    } else {
        64 + id % 1400
    };
    let text = match id % 970 {
        0 => "EOF",
        97 => "read tcp 10.1.0.1:80->10.1.2.3:5: connection reset by peer",
        _ => "",
    };
    let err = if text.is_empty() {
        ErrorValue::Nil
    } else {
        ErrorValue::Text {
            text: text.into(),
            structural: false,
        }
    };
    let mut call = Call {
        id: id + 1,
        parent: None,
        time_ns: 1_767_268_862_000_000_000 + id as i64 * 10_137,
        dur_ns: Some(1_000 + id * id % 5_000_000),
        goid: Some(34 + connection),
        tid: 4242 + (id % 9) as i32,
        func: if reads {
            "net.(*conn).Read".into()
        } else {
            "net.(*conn).Write".into()
        },
        conn: Some(Arc::new(Conn {
            fd: Some(7 + connection as i64),
            network: Some("tcp".into()),
            local: inet(8080),
            remote: inet(50_000 + connection),
            note: None,
        })),
        direction: Some(if reads { Direction::In } else { Direction::Out }),
        asked: Some(4096),
        args: vec![
            (
                "c".into(),
                Value::Pointer {
                    ty: "*net.conn".into(),
                    addr: 0xc000_0000 + connection * 64,
                },
            ),
            (
                "b".into(),
                Value::Bytes {
                    bytes: b"GET /index.html HTTP/1.1\r\nHost: example.org\r\n".to_vec(),
                    len: 4096,
                },
            ),
        ]
        .into(),
        results: vec![
            ("n".into(), Value::Int(n as i64)),
            ("err".into(), Value::Nil),
        ]
        .into(),
        n: Some(n as i64),
        err: Some(err),
        end: End::Return,
        since_attach: false,
        entry_lost: false,
        doubtful: false,
        late: false,
        stack: Vec::new(),
        payload: None,
        taken: Vec::new(),
        locals: Vec::new(),
        no_locals: None,
        passed: None,
    };
    if id % 10 == 9 {
        call.func = "main.(*Server).handle".into();
        call.conn = None;
        call.direction = None;
        call.asked = None;
        call.n = None;
        call.args = vec![(
            "req".into(),
            Value::Struct {
                ty: "main.request".into(),
                fields: vec![
                    ("ID".into(), Value::Int(id as i64)),
                    (
                        "Path".into(),
                        Value::Str {
                            bytes: b"/index.html".to_vec(),
                            len: 11,
                        },
                    ),
                    ("Deadline".into(), Value::Duration(5_000_000_000)),
                ],
                omitted: 0,
            },
        )]
        .into();
        call.results = vec![("err".into(), Value::Nil)].into();
    }
    call
}

fn write(records: &[Record], sink: &mut dyn Sink) {
    for record in records {
        sink.record(black_box(record)).expect("a sink into nothing");
    }
    sink.finish().expect("a sink into nothing");
}

fn sinks(criterion: &mut Criterion) {
    let records = stream();
    let nowhere = || Box::new(io::sink());
    let mut group = criterion.benchmark_group("records");
    group.throughput(Throughput::Elements(RECORDS as u64));
    group.bench_function("json", |bencher| {
        bencher.iter(|| write(&records, &mut JsonSink::new(nowhere())));
    });
    group.bench_function("text", |bencher| {
        bencher.iter(|| {
            write(
                &records,
                &mut TextSink::new(nowhere(), Color::Never, TimeZone::system()),
            );
        });
    });
    group.bench_function("dlv", |bencher| {
        bencher.iter(|| write(&records, &mut DlvSink::new(nowhere())));
    });
    group.bench_function("summary", |bencher| {
        bencher.iter(|| {
            write(
                &records,
                &mut SummarySink::new(nowhere(), SummaryStyle::Text),
            );
        });
    });
    group.finish();
}

/// Everything that a record passes: queue, filter, JSON; on one thread.
fn whole_way(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("whole way");
    group.throughput(Throughput::Elements(RECORDS as u64));
    let source = "fd >= 7 && (err != nil || dur > 1ms || remote =~ `^10\\.1\\.`)";
    let selection = Selection {
        filter: Some(compile_condition(source, &CallNames::default()).expect("a filter")),
        limit: None,
    };
    group.bench_function("queue, filter, json", |bencher| {
        bencher.iter_batched(
            stream,
            |records| {
                let (sender, receiver) = queue(RECORDS);
                for record in records {
                    assert!(sender.send(record));
                }
                drop(sender);
                let counters = Counters::default();
                let mut sink = JsonSink::new(Box::new(io::sink()));
                run_sink(receiver, &selection, &mut sink, &counters, &mut |_| {})
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, sinks, whole_way);
criterion_main!(benches);
