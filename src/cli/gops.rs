//! `gotap memstats`, `gotap stats`, `gotap version`: what gops prints, with no
//! agent in the program.
//!
//! ```text
//! gotap memstats -p 4242                 # runtime.ReadMemStats, named as gops names it
//! gotap stats -p 4242                    # goroutines, threads, GOMAXPROCS, CPUs
//! gotap version -p 4242
//! gotap memstats --core core.4242 ./server -o json
//! ```
//!
//! The program is not stopped: figures of one that runs are approximate, which
//! is said on stderr and in JSON. `-o json` gives one object, whose `memstats`
//! is what encoding/json makes of runtime.MemStats.

use std::io::Write;

use serde::Serialize;

use super::subject::{Subject, SubjectArgs};
use crate::golang::dynamic::StructFields;
use crate::golang::globals::Globals;
use crate::golang::memstats::{self, MemStats, Places, Reading};
use crate::golang::vitals;

/// Arguments of the three.
#[derive(clap::Args, Debug, Clone)]
pub struct GopsArgs {
    #[command(flatten)]
    pub(super) subject: SubjectArgs,
    /// How to print: lines as gops prints them, or a JSON object
    #[arg(short, long, value_enum, default_value_t = GopsOutput::Text)]
    output: GopsOutput,
}

/// What is said of how to call one.
pub(super) fn usage(name: &str) -> String {
    format!("gotap {name} [OPTIONS] -p PID\n       gotap {name} [OPTIONS] --core CORE [BINARY]")
}

/// How they print.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub enum GopsOutput {
    /// Lines as gops prints them.
    Text,
    /// One object.
    Json,
}

/// What every object says of where it comes from.
#[derive(Serialize)]
struct Head {
    time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<i32>,
    go_version: String,
    /// The program ran while it was read.
    approximate: bool,
}

impl Head {
    fn of(subject: &Subject) -> Head {
        Head {
            time: jiff::Timestamp::now().to_string(),
            pid: subject.pid,
            go_version: subject.target.image.go_version().text().to_owned(),
            approximate: subject.moving,
        }
    }
}

/// `gotap version`
pub fn version(args: &GopsArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let subject = args.subject.open()?;
    subject.say_remarks();
    let version = subject.target.image.go_version().text();
    match args.output {
        GopsOutput::Text => writeln!(out, "{}", crate::value::escaped(version))?,
        GopsOutput::Json => {
            #[derive(Serialize)]
            struct Version<'a> {
                #[serde(skip_serializing_if = "Option::is_none")]
                pid: Option<i32>,
                go_version: &'a str,
            }
            let version = Version {
                pid: subject.pid,
                go_version: version,
            };
            writeln!(out, "{}", serde_json::to_string(&version)?)?;
        }
    }
    Ok(())
}

/// `gotap stats`
pub fn stats(args: &GopsArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let subject = args.subject.open()?;
    subject.say_remarks();
    let target = &subject.target;
    let globals = Globals::resolve(&target.image);
    let vitals = vitals::read(
        &*subject.memory,
        &target.image,
        &target.layouts,
        &globals,
        target.bias,
    )?;
    match args.output {
        GopsOutput::Text => {
            writeln!(out, "goroutines: {}", vitals.goroutines)?;
            writeln!(out, "OS threads: {}", vitals.threads)?;
            writeln!(out, "GOMAXPROCS: {}", vitals.gomaxprocs)?;
            match vitals.cpus {
                Some(cpus) => writeln!(out, "num CPU: {cpus}")?,
                None => writeln!(out, "num CPU: -")?,
            }
        }
        GopsOutput::Json => {
            #[derive(Serialize)]
            struct Stats {
                #[serde(flatten)]
                head: Head,
                goroutines: u64,
                threads: u64,
                gomaxprocs: u32,
                cpus: Option<u32>,
            }
            let stats = Stats {
                head: Head::of(&subject),
                goroutines: vitals.goroutines,
                threads: vitals.threads,
                gomaxprocs: vitals.gomaxprocs,
                cpus: vitals.cpus,
            };
            writeln!(out, "{}", serde_json::to_string(&stats)?)?;
        }
    }
    Ok(())
}

/// `gotap memstats`
pub fn memstats(args: &GopsArgs, out: &mut dyn Write) -> anyhow::Result<()> {
    let subject = args.subject.open()?;
    subject.say_remarks();
    let target = &subject.target;
    let globals = Globals::resolve(&target.image);
    let fields: &dyn StructFields = &*target.types;
    let places = Places::resolve(&target.image, &globals, Some(fields))?;
    let Reading { stats, torn } = memstats::read(&*subject.memory, &places, target.bias)?;
    match args.output {
        GopsOutput::Text => {
            write_lines(&stats, out)?;
            out.flush()?;
            if subject.moving {
                super::messages::print("approximate: the program ran while it was read");
            }
            if !torn.is_empty() {
                super::messages::print(&format!(
                    "figures that should be equal are not: {}",
                    torn.join("; ")
                ));
            }
        }
        GopsOutput::Json => {
            #[derive(Serialize)]
            struct Object {
                #[serde(flatten)]
                head: Head,
                /// What the runtime keeps twice and differed.
                torn: Vec<String>,
                memstats: MemStats,
            }
            let object = Object {
                head: Head::of(&subject),
                torn,
                memstats: stats,
            };
            writeln!(out, "{}", serde_json::to_string(&object)?)?;
        }
    }
    Ok(())
}

/// The lines of gops (google/gops, agent/agent.go).
fn write_lines(s: &MemStats, out: &mut dyn Write) -> std::io::Result<()> {
    let last = |ring: &[u64]| {
        let at = (s.num_gc as usize).wrapping_add(255) % 256;
        ring.get(at).copied().unwrap_or_default()
    };
    let lines = [
        ("alloc", bytes(s.alloc)),
        ("total-alloc", bytes(s.total_alloc)),
        ("sys", bytes(s.sys)),
        ("lookups", s.lookups.to_string()),
        ("mallocs", s.mallocs.to_string()),
        ("frees", s.frees.to_string()),
        ("heap-alloc", bytes(s.heap_alloc)),
        ("heap-sys", bytes(s.heap_sys)),
        ("heap-idle", bytes(s.heap_idle)),
        ("heap-in-use", bytes(s.heap_inuse)),
        ("heap-released", bytes(s.heap_released)),
        ("heap-objects", s.heap_objects.to_string()),
        ("stack-in-use", bytes(s.stack_inuse)),
        ("stack-sys", bytes(s.stack_sys)),
        ("stack-mspan-inuse", bytes(s.mspan_inuse)),
        ("stack-mspan-sys", bytes(s.mspan_sys)),
        ("stack-mcache-inuse", bytes(s.mcache_inuse)),
        ("stack-mcache-sys", bytes(s.mcache_sys)),
        ("other-sys", bytes(s.other_sys)),
        ("gc-sys", bytes(s.gc_sys)),
        (
            "next-gc",
            format!("when heap-alloc >= {}", bytes(s.next_gc)),
        ),
        ("last-gc", moment(s.last_gc)),
        ("gc-pause-total", duration(s.pause_total_ns)),
        ("gc-pause", last(&s.pause_ns).to_string()),
        ("gc-pause-end", last(&s.pause_end).to_string()),
        ("num-gc", s.num_gc.to_string()),
        ("num-forced-gc", s.num_forced_gc.to_string()),
        ("gc-cpu-fraction", float(s.gc_cpu_fraction)),
        ("enable-gc", s.enable_gc.to_string()),
        ("debug-gc", s.debug_gc.to_string()),
    ];
    for (name, value) in lines {
        writeln!(out, "{name}: {value}")?;
    }
    Ok(())
}

/// `512 bytes`, `1.50KB (1536 bytes)`
fn bytes(n: u64) -> String {
    let units = ["KB", "MB", "GB", "TB", "PB"];
    let step = (n.max(1).ilog2() / 10).min(5);
    match units.get((step as usize).wrapping_sub(1)) {
        Some(unit) => {
            let scaled = n as f64 / (1_u64 << (10 * step)) as f64;
            format!("{scaled:.2}{unit} ({n} bytes)")
        }
        None => format!("{n} bytes"),
    }
}

/// As Go prints a time.Time of local time.
fn moment(ns: u64) -> String {
    if ns == 0 {
        return "-".to_owned();
    }
    match jiff::Timestamp::from_nanosecond(i128::from(ns)) {
        Ok(at) => at
            .to_zoned(jiff::tz::TimeZone::system())
            .strftime("%Y-%m-%d %H:%M:%S%.f %z %Z")
            .to_string(),
        Err(_) => format!("{ns} ns after 1970"),
    }
}

/// As Go prints a time.Duration (time.Duration.String).
fn duration(ns: u64) -> String {
    let decimal = |unit: u64| {
        let whole = ns / unit;
        let width = unit.ilog10() as usize;
        let fraction = format!("{:0width$}", ns % unit);
        match fraction.trim_end_matches('0') {
            "" => whole.to_string(),
            digits => format!("{whole}.{digits}"),
        }
    };
    match ns {
        0 => "0s".to_owned(),
        1..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => format!("{}µs", decimal(1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(1_000_000)),
        _ => {
            let minutes = ns / 60_000_000_000;
            let rest = ns % 60_000_000_000;
            let seconds = rest / 1_000_000_000;
            let digits = format!("{:09}", rest % 1_000_000_000);
            let seconds = match digits.trim_end_matches('0') {
                "" => format!("{seconds}s"),
                digits => format!("{seconds}.{digits}s"),
            };
            match (minutes / 60, minutes % 60) {
                (0, 0) => seconds,
                (0, m) => format!("{m}m{seconds}"),
                (h, m) => format!("{h}h{m}m{seconds}"),
            }
        }
    }
}

/// As Go's %v prints a float64: the shortest digits, an exponent of two
/// digits below 1e-4 and from 1e21 on.
fn float(x: f64) -> String {
    if x != 0.0 && !(1e-4..1e21).contains(&x.abs()) {
        let text = format!("{x:e}");
        if let Some((digits, exponent)) = text.split_once('e') {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(rest) => ('-', rest),
                None => ('+', exponent),
            };
            return format!("{digits}e{sign}{exponent:0>2}");
        }
        return text;
    }
    x.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_look_as_gops_prints_them() {
        assert_eq!(bytes(0), "0 bytes");
        assert_eq!(bytes(1023), "1023 bytes");
        assert_eq!(bytes(1024), "1.00KB (1024 bytes)");
        assert_eq!(bytes(24_005_552), "22.89MB (24005552 bytes)");
        assert_eq!(bytes(1_602_895_000), "1.49GB (1602895000 bytes)");
        assert!(bytes(u64::MAX).starts_with("16384.00PB "));
        assert_eq!(duration(0), "0s");
        assert_eq!(duration(950), "950ns");
        assert_eq!(duration(144_926), "144.926µs");
        assert_eq!(duration(10_939_682), "10.939682ms");
        assert_eq!(duration(1_500_000_000), "1.5s");
        assert_eq!(duration(3_661_000_000_000), "1h1m1s");
        assert_eq!(float(0.0), "0");
        assert_eq!(float(1.004_641_108_070_094_4e-6), "1.0046411080700944e-06");
        assert_eq!(float(0.25), "0.25");
        assert_eq!(moment(0), "-");
    }
}
