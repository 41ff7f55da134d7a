//! The kernel's own probes on the same sites, by tracefs (kernel
//! Documentation/trace/uprobetracer.rst): nobody reads what they write.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use object::{Object as _, ObjectSegment as _};

use super::support::live::gotap;

const TRACEFS: &str = "/sys/kernel/tracing";
const GROUP: &str = "gotap_bench";

/// Probes that are set; dropped, they are taken out.
pub struct Uprobes(Vec<String>);

impl Uprobes {
    /// On all sites that `gotap trace` would arm for these patterns in process `pid`,
    /// which runs `program`.
    pub fn set(program: &Path, pid: i32, patterns: &[&str]) -> Result<Uprobes, String> {
        if !Path::new("/sys/bus/event_source/devices/uprobe").exists() {
            return Err("this kernel has none".to_owned());
        }
        let mut set = Uprobes(Vec::new());
        for (i, at) in sites(program, pid, patterns)?.into_iter().enumerate() {
            let name = format!("site{i}");
            let probe = format!("p:{GROUP}/{name} {}:{at:#x}\n", program.display());
            append("uprobe_events", &probe)?;
            set.0.push(name.clone());
            append(&format!("events/{GROUP}/{name}/enable"), "1")?;
        }
        Ok(set)
    }
}

impl Drop for Uprobes {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = append(&format!("events/{GROUP}/{name}/enable"), "0");
            let _ = append("uprobe_events", &format!("-:{GROUP}/{name}\n"));
        }
    }
}

fn append(file: &str, text: &str) -> Result<(), String> {
    let path = Path::new(TRACEFS).join(file);
    let written = OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|e| format!("cannot be set here, {}: {e}", path.display()))
}

/// Offsets in the file.
fn sites(program: &Path, pid: i32, patterns: &[&str]) -> Result<Vec<u64>, String> {
    let pid = pid.to_string();
    let mut args = vec!["trace", "--plan", "-p", &pid];
    args.extend(patterns);
    let plan = gotap::run(&args);
    let bytes = fs::read(program).map_err(|e| e.to_string())?;
    let file = object::File::parse(&*bytes).map_err(|e| e.to_string())?;
    let offset = |address: u64| {
        file.segments().find_map(|segment| {
            let (from, len) = segment.file_range();
            let at = address.checked_sub(segment.address())?;
            (at < len).then_some(from + at)
        })
    };
    let text = plan.text();
    let addresses = text
        .lines()
        .take_while(|line| !line.starts_with("how calls end"))
        .filter(|line| line.starts_with("  entry") || line.starts_with("  return"))
        .filter_map(|line| {
            let at = line.split_whitespace().nth(1)?;
            u64::from_str_radix(at.trim_start_matches("0x"), 16).ok()
        });
    let found: Option<Vec<u64>> = addresses.map(offset).collect();
    found
        .filter(|all| !all.is_empty())
        .ok_or_else(|| format!("the plan has no sites: {}", plan.errors()))
}
