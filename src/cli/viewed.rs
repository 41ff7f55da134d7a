//! What `gotap goroutines` and `gotap stack` look at: a running process, one
//! that is stopped for each look, or a core file.

use std::path::Path;

use crate::process::{ProcessError, procfs};
use crate::session::look::{Source, Stoppable, Wanted, look};
use crate::sink::format::Nanos;
use crate::survey::Survey;

/// Something whose goroutines can be looked at.
pub(super) enum Viewed {
    /// Read as it is.
    Source(Box<Source>),
    /// Stopped for the time of the read.
    Stoppable(Box<Stoppable>),
}

impl Viewed {
    /// A process.
    pub fn process(pid: i32, consistent: bool, symbols: Option<&Path>) -> anyhow::Result<Viewed> {
        let viewed = if consistent {
            Viewed::Stoppable(Box::new(Stoppable::process(pid)?))
        } else {
            Viewed::Source(Box::new(Source::process(pid)?))
        };
        viewed.made_ready(symbols)
    }

    /// A core file, and its executable.
    pub fn core(
        core: &Path,
        program: Option<&Path>,
        symbols: Option<&Path>,
    ) -> anyhow::Result<Viewed> {
        let source = Source::core(core, program)?;
        Viewed::Source(Box::new(source)).made_ready(symbols)
    }

    fn made_ready(self, symbols: Option<&Path>) -> anyhow::Result<Viewed> {
        if let Some(symbols) = symbols {
            self.source().target.image.add_symbols(symbols)?;
        }
        for remark in &self.source().remarks {
            super::messages::print(remark);
        }
        Ok(self)
    }

    /// The program.
    pub fn source(&self) -> &Source {
        match self {
            Viewed::Source(source) => source,
            Viewed::Stoppable(stoppable) => stoppable.source(),
        }
    }

    /// Looks once.
    pub fn look(&mut self, wanted: &Wanted) -> anyhow::Result<Survey> {
        let found = match self {
            Viewed::Source(source) => look(source, wanted),
            Viewed::Stoppable(stoppable) => stoppable.look(wanted),
        };
        found.map_err(|error| match self.source().pid {
            // What a dying process says is no news.
            Some(pid) if procfs::status(pid).is_ok_and(|s| "ZX".contains(s.state)) => {
                ProcessError::Gone(pid).into()
            }
            _ => error.into(),
        })
    }
}

/// Says on stderr for how long a program was stopped, where the output has no
/// place for it.
pub(super) fn say_stopped(survey: &Survey) {
    if let Some(ns) = survey.stopped_ns {
        super::messages::print(&format!("the program was stopped for {}", Nanos(ns)));
    }
}
