//! What a process has used so far, as /proc tells (proc_pid_stat(5),
//! proc_pid_status(5)).

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// User and system time of a process with all its threads, in seconds.
pub fn cpu_seconds(pid: i32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name may hold anything; the last parenthesis ends it.
    let after = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: f64 = after
        .split_whitespace()
        .skip(11)
        .take(2)
        .filter_map(|w| w.parse::<f64>().ok())
        .sum();
    let hz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .unwrap_or(100);
    ticks / hz as f64
}

/// A field of /proc/PID/status that is given in kB, in bytes.
pub fn status_bytes(pid: i32, field: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find(|l| l.starts_with(field))?;
    let kb: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kb * 1024)
}

/// How many threads a process has.
pub fn threads(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

/// What happened between two looks.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Wall time, in seconds.
    pub seconds: f64,
    /// How far the counter went.
    pub count: f64,
    /// CPU of the tracer, in seconds; 0 without one.
    pub tracer_cpu: f64,
}

impl Window {
    /// A second's share of the counter.
    pub fn rate(&self) -> f64 {
        self.count / self.seconds
    }

    /// CPU of the tracer as a share of one core.
    pub fn cpu_share(&self) -> f64 {
        self.tracer_cpu / self.seconds
    }
}

/// Lets `length` pass between two readings of a counter.
pub fn window(length: Duration, tracer: Option<i32>, mut counter: impl FnMut() -> f64) -> Window {
    let cpu = || tracer.map_or(0.0, cpu_seconds);
    let (cpu_before, before, began) = (cpu(), counter(), Instant::now());
    std::thread::sleep(length);
    let (after, seconds) = (counter(), began.elapsed().as_secs_f64());
    Window {
        seconds,
        count: after - before,
        tracer_cpu: cpu() - cpu_before,
    }
}

/// Watches the anonymous memory of a process until told to stop.
pub struct AnonWatch {
    over: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl AnonWatch {
    /// Looks every 200 µs.
    pub fn start(pid: i32) -> AnonWatch {
        let over = Arc::new(AtomicBool::new(false));
        let peak = Arc::new(AtomicU64::new(0));
        let (stop, highest) = (over.clone(), peak.clone());
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Some(bytes) = status_bytes(pid, "RssAnon:") {
                    highest.fetch_max(bytes, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        AnonWatch { over, peak, thread }
    }

    /// The most that was seen, in bytes.
    pub fn stop(self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.thread.join();
        self.peak.load(Ordering::Relaxed)
    }
}

/// The middle one, and the largest.
pub fn median_and_max(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    let middle = values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    (middle, values.last().copied().unwrap_or(f64::NAN))
}
