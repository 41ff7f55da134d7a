//! What a frozen copy costs the target: the pause by size of the heap, as it was
//! estimated and as it was, printed as a table.
//!
//! ```text
//! cargo bench --bench snap                  # 64 MB to 2 GB
//! cargo bench --bench snap -- 256 1024      # these sizes, in MB
//! ```
//!
//! The server is asked by eight clients meanwhile; the longest that one of them
//! waited for an answer stands beside, with copies and without. Everything runs
//! on the machine as it is: its load is printed first.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gotap::addr::{ImageAddr, LiveAddr};
use gotap::arch::prologue::parse_stack_check;
use gotap::image::Image;
use gotap::process::region::SiteBytes;
use gotap::process::snapshot::{estimate, memory_of};
use gotap::process::{Event, Tracer};
use gotap::sys::signals;
use support::live::{Fixture, Target};
use support::meter::median_and_max;
use support::table::print;

/// Copies of each size.
const ROUNDS: usize = 15;
/// Who asks.
const CLIENTS: usize = 8;
/// Between two copies.
const BETWEEN: Duration = Duration::from_millis(200);

fn main() {
    let asked: Vec<u64> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let sizes = if asked.is_empty() {
        vec![64, 128, 256, 512, 1024, 2048]
    } else {
        asked
    };
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = load.split(' ').next().unwrap_or("?").to_owned();
    println!("{cores} cores, load before: {load}, {}", {
        support::live::Toolchain::Machine.version()
    });
    let fixture = Fixture::build("snapshot", &[]);
    let available = available();
    let mut rows = Vec::new();
    for mb in sizes {
        // The heap, its copy at the worst, and room for others.
        if available < 3 * mb {
            println!("{mb} MB is left out: {available} MB of memory are free");
            continue;
        }
        rows.push(measure(&fixture, mb));
    }
    print(
        "frozen copies: how long the target is held",
        &[
            "heap",
            "in memory",
            "estimated",
            "shortest",
            "median",
            "longest",
            "client's wait",
            "without",
            "copy's own",
        ],
        &rows,
        &[],
    );
}

fn available() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
    let kb = line.and_then(|l| l.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kb.unwrap_or(0) >> 10
}

fn measure(fixture: &Fixture, mb: u64) -> Vec<String> {
    let mut server = Target::start(fixture, &["-mb", &mb.to_string()]);
    let line = server.expect_line("listening ");
    let addr = line.split(' ').nth(1).expect("an address").to_owned();
    let pid = server.pid();
    let clients = Clients::start(&addr);
    std::thread::sleep(BETWEEN * 5);
    let without = clients.longest();
    let (site, text) = site(fixture);
    let cost = estimate(pid).expect("an estimate");
    let mut tracer = Tracer::attach(pid).expect("attach");
    tracer
        .install(std::slice::from_ref(&site), text, true)
        .expect("install");
    tracer.prepare_snapshots(text).expect("prepared");
    let index = tracer.site_index(site.at).expect("installed");
    let mut pauses = Vec::new();
    let mut own = 0;
    let ticking = ticker();
    clients.longest();
    for _ in 0..ROUNDS {
        tracer.arm(index).expect("arm");
        let hit = loop {
            if let Event::Hit(hit) = tracer.next_event() {
                break hit;
            }
        };
        tracer.disarm(index).expect("disarm");
        let copy = tracer.snapshot(Some(&hit), text, false).expect("a copy");
        tracer.pass(&hit);
        pauses.push(copy.pause.as_secs_f64());
        let until = Instant::now() + BETWEEN;
        own = own.max(memory_of(copy.pid).unwrap_or(0));
        drop(copy);
        // Threads that hit before it was disarmed are let go at once.
        while Instant::now() < until {
            if let Event::Hit(hit) = tracer.next_event() {
                tracer.pass(&hit);
            }
        }
    }
    ticking.store(false, Ordering::Relaxed);
    tracer.leave().expect("leave");
    drop(tracer);
    let with = clients.longest();
    clients.end();
    let shortest = pauses.iter().copied().fold(f64::INFINITY, f64::min);
    let (median, longest) = median_and_max(pauses);
    let ms = |seconds: f64| format!("{:.1} ms", seconds * 1e3);
    vec![
        format!("{mb} MB"),
        format!("{} MB", cost.resident >> 20),
        ms(cost.pause.as_secs_f64()),
        ms(shortest),
        ms(median),
        ms(longest),
        ms(with.as_secs_f64()),
        ms(without.as_secs_f64()),
        format!("{} MB", own >> 20),
    ]
}

/// Wakes this thread out of [`Tracer::next_event`] every few milliseconds until
/// told otherwise.
fn ticker() -> Arc<AtomicBool> {
    signals::prepare().expect("signals");
    let tid = nix::unistd::gettid().as_raw();
    let ticking = Arc::new(AtomicBool::new(true));
    let go_on = ticking.clone();
    std::thread::spawn(move || {
        while go_on.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(5));
            signals::nudge(tid);
        }
    });
    ticking
}

/// The site behind `main.handle`'s stack check, and the program's code.
fn site(fixture: &Fixture) -> (SiteBytes, (LiveAddr, LiveAddr)) {
    let image = Image::open(&fixture.path).expect("the fixture");
    let handle = image.functions().by_name("main.handle").pop();
    let entry = handle.expect("main.handle").entry();
    let code = image.bytes(entry, 64).expect("its code");
    let check = parse_stack_check(code).map_or(0, |c| c.len);
    let mut bytes = [0; 15];
    bytes.copy_from_slice(&code[check..check + 15]);
    let site = SiteBytes {
        at: LiveAddr(ImageAddr(entry.0 + check as u64).0),
        code: bytes,
        insn_len: 1,
        doubtful: false,
    };
    let text = image.module().text;
    (site, (LiveAddr(text.start.0), LiveAddr(text.end.0)))
}

/// Clients that ask one question after another.
struct Clients {
    stop: Arc<AtomicBool>,
    longest: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<()>>,
}

impl Clients {
    fn start(addr: &str) -> Clients {
        let stop = Arc::new(AtomicBool::new(false));
        let longest = Arc::new(AtomicU64::new(0));
        let threads = (0..CLIENTS)
            .map(|client| {
                let (stop, longest) = (stop.clone(), longest.clone());
                let mut conn = TcpStream::connect(addr).expect("connect");
                let mut answers = BufReader::new(conn.try_clone().expect("clone"));
                let mut answer = String::new();
                std::thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let began = Instant::now();
                        answer.clear();
                        // In one piece: a second one would wait for the first's ACK.
                        let question = format!("{}\n", client + 1);
                        conn.write_all(question.as_bytes()).expect("ask");
                        answers.read_line(&mut answer).expect("an answer");
                        let ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
                        longest.fetch_max(ns, Ordering::Relaxed);
                        // A thousand a second: the machine is not full.
                        std::thread::sleep(Duration::from_millis(8));
                    }
                })
            })
            .collect();
        Clients {
            stop,
            longest,
            threads,
        }
    }

    /// Since it was asked the last time.
    fn longest(&self) -> Duration {
        Duration::from_nanos(self.longest.swap(0, Ordering::Relaxed))
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("a client");
        }
    }
}
