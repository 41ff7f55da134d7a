//! The few numbers that say how big a program is: what runtime.NumGoroutine,
//! the threadcreate profile, GOMAXPROCS and NumCPU give inside it.

use crate::addr::Bias;
use crate::golang::census;
use crate::golang::globals::Globals;
use crate::golang::gs::{GsError, read_threads};
use crate::golang::layout::Layouts;
use crate::golang::memstats::find_cpus;
use crate::image::Image;
use crate::memory::Memory;

/// What runtime.NumGoroutine and the like give.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vitals {
    /// runtime.NumGoroutine: without those of the runtime itself.
    pub goroutines: u64,
    /// Threads that the runtime made: the count of its threadcreate profile.
    pub threads: u64,
    /// runtime.GOMAXPROCS(0)
    pub gomaxprocs: u32,
    /// runtime.NumCPU
    pub cpus: Option<u32>,
}

/// Reads them.
pub fn read(
    memory: &dyn Memory,
    image: &Image,
    layouts: &Layouts,
    globals: &Globals,
    bias: Bias,
) -> Result<Vitals, GsError> {
    let gomaxprocs = globals
        .gomaxprocs
        .ok_or(GsError::NoGlobal("runtime.gomaxprocs"))?;
    let mut goroutines = 0;
    census::walk::<GsError>(image, memory, layouts, globals, bias, &mut |_, system| {
        goroutines += u64::from(!system);
        Ok(())
    })?;
    Ok(Vitals {
        goroutines,
        threads: read_threads(memory, layouts, globals, bias)?.len() as u64,
        gomaxprocs: memory.read_u32(bias.live(gomaxprocs))?,
        cpus: find_cpus(image)
            .map(|at| memory.read_u32(bias.live(at)))
            .transpose()?,
    })
}
