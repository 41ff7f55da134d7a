//! What a command that only looks is told to look at: a live process or a core
//! file. Nothing is stopped.

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;

use crate::addr::LiveAddr;
use crate::memory::Memory;
use crate::process::{Core, ProcessMemory, procfs};
use crate::session::Target;

/// A process or a core file.
#[derive(clap::Args, Debug, Clone, Default)]
#[group(multiple = true)]
pub struct SubjectArgs {
    /// Look at this process
    #[arg(short, long, value_name = "PID", conflicts_with = "core")]
    pub pid: Option<i32>,
    /// Look at this core file (of the kernel, of gcore)
    #[arg(long, value_name = "CORE")]
    pub core: Option<PathBuf>,
    /// The core's executable (default: the file that the core names)
    #[arg(value_name = "BINARY")]
    pub binary: Option<PathBuf>,
}

/// Why a command line is wrong.
pub type Misuse = (ErrorKind, &'static str);

/// The process that a bare word names where a core's executable could stand.
pub fn bare_pid(word: Option<&Path>) -> Option<i32> {
    word?.to_str()?.parse().ok()
}

/// A word that is neither.
pub const NO_SUBJECT: Misuse = (
    ErrorKind::MissingRequiredArgument,
    "say which process: -p PID (gotap ps lists the Go processes), or which core file: --core FILE",
);

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
    /// The process, when it is one.
    pub fn pid(&self) -> Option<i32> {
        match (&self.core, self.pid) {
            (None, None) => bare_pid(self.binary.as_deref()),
            (_, pid) => pid,
        }
    }

    /// What clap cannot tell.
    pub fn check(&self) -> Result<(), Misuse> {
        let named = self.pid.is_some() && self.binary.is_some();
        if (self.core.is_none() && self.pid().is_none()) || named {
            return Err(NO_SUBJECT);
        }
        Ok(())
    }

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
        let pid = self.pid().unwrap_or_default();
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
