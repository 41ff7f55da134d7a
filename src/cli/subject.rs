//! What a command that only looks is told to look at: a live process or a core
//! file. Nothing is stopped.

use std::path::PathBuf;

use crate::addr::LiveAddr;
use crate::memory::Memory;
use crate::process::{Core, ProcessMemory, procfs};
use crate::session::Target;

/// A process or a core file.
#[derive(clap::Args, Debug, Clone, Default)]
#[group(required = true, multiple = true)]
pub struct SubjectArgs {
    /// Look at this process
    #[arg(short, long, value_name = "PID", conflicts_with = "core")]
    pub pid: Option<i32>,
    /// Look at this core file (of the kernel, of gcore)
    #[arg(long, value_name = "CORE")]
    pub core: Option<PathBuf>,
    /// The core's executable (default: the file that the core names)
    #[arg(value_name = "BINARY", requires = "core")]
    pub binary: Option<PathBuf>,
}

/// It, opened.
pub struct Subject {
    /// Executable, types, layouts.
    pub target: Target,
    /// Its memory.
    pub memory: Box<dyn Memory>,
    /// The process, when it is one.
    pub pid: Option<i32>,
    /// It runs while it is read.
    pub moving: bool,
    /// What the user should know.
    pub remarks: Vec<String>,
}

impl SubjectArgs {
    /// Opens what they name.
    pub fn open(&self) -> anyhow::Result<Subject> {
        if let Some(path) = &self.core {
            let core = Core::open(path, self.binary.as_deref())?;
            return Ok(Subject {
                target: Target::of_core(&core),
                pid: None,
                moving: false,
                remarks: core.remarks().to_vec(),
                memory: Box::new(core),
            });
        }
        let pid = self.pid.unwrap_or_default();
        let target = Target::of_process(pid)?;
        let memory = ProcessMemory::read_only(pid);
        // Opening the executable takes less permission than reading memory.
        memory.check(LiveAddr(target.text().0.0))?;
        let state = procfs::status(pid)?.state;
        Ok(Subject {
            remarks: target.notes().to_vec(),
            target,
            memory: Box::new(memory),
            pid: Some(pid),
            moving: state != 'T' && state != 't',
        })
    }
}

impl Subject {
    /// Says on stderr what the user should know.
    pub fn say_remarks(&self) {
        for remark in &self.remarks {
            super::messages::print(remark);
        }
    }
}
