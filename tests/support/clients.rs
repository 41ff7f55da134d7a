//! Clients of the `snapshot` fixture, and its copies as /proc shows them.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Clients that ask one after another, each with numbers of its own.
pub struct Clients {
    stop: Arc<AtomicBool>,
    broken: Arc<AtomicU64>,
    threads: Vec<std::thread::JoinHandle<u64>>,
}

impl Clients {
    /// Starts `busy` clients that ask, and `idle` connections that do not.
    pub fn start(addr: &str, busy: usize, idle: usize) -> (Clients, Vec<TcpStream>) {
        let stop = Arc::new(AtomicBool::new(false));
        let broken = Arc::new(AtomicU64::new(0));
        let idle = (0..idle)
            .map(|_| TcpStream::connect(addr).expect("connect"))
            .collect();
        let threads = (0..busy)
            .map(|client| {
                let (stop, broken) = (stop.clone(), broken.clone());
                let mut conn = TcpStream::connect(addr).expect("connect");
                let mut answers = BufReader::new(conn.try_clone().expect("clone"));
                std::thread::spawn(move || {
                    let mut asked = 0;
                    let mut number = client as u64 * 1_000_000_000;
                    while !stop.load(Ordering::Relaxed) {
                        number += 1;
                        let mut answer = String::new();
                        let ok = writeln!(conn, "{number}").is_ok()
                            && answers.read_line(&mut answer).is_ok()
                            && answer.trim() == number.to_string();
                        if !ok {
                            broken.fetch_add(1, Ordering::Relaxed);
                            break;
                        }
                        asked += 1;
                    }
                    asked
                })
            })
            .collect();
        let clients = Clients {
            stop,
            broken,
            threads,
        };
        (clients, idle)
    }

    /// How many requests they made; none failed.
    pub fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let asked = self
            .threads
            .into_iter()
            .map(|t| t.join().expect("a client"))
            .sum();
        assert_eq!(
            self.broken.load(Ordering::Relaxed),
            0,
            "no connection breaks"
        );
        asked
    }
}

/// A copy that is still held. Dead ones are collected by whoever collects
/// orphans, which may take its time; never by the target.
pub fn is_there(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit_once(") ")
        .and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|s| !"ZX".contains(s))
}

/// The processes whose parent is `pid`.
pub fn children(pid: i32) -> Vec<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    std::fs::read_to_string(path)
        .unwrap_or_default()
        .split_whitespace()
        .filter_map(|p| p.parse().ok())
        .collect()
}

/// Processes whose command line holds `name`, but for `pid`: copies have the
/// memory of what they are copies of, and with it its command line.
pub fn copies_of(name: &str, pid: i32) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").expect("/proc");
    let pids = all
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|other| *other != pid)
        .filter(|other| {
            let line = std::fs::read(format!("/proc/{other}/cmdline")).unwrap_or_default();
            line.split(|b| *b == 0).any(|word| word == name.as_bytes())
        })
        .collect()
}
