//! What is known of a process before it is touched: its image, where that
//! lies, its types and layouts. Opening one stops nothing.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use super::SessionError;
use super::adapters::{FileMemory, LiveTypes};
use crate::addr::{Bias, LiveAddr};
use crate::golang::dynamic::type_section;
use crate::golang::layout::Layouts;
use crate::image::Image;
use crate::image::dwarf::Dwarf;
use crate::image::rtti::RttiTypes;
use crate::process::{Core, procfs};

/// A program that can be traced: an image and where it lies.
pub struct Target {
    /// The executable.
    pub image: Arc<Image>,
    /// What the loader added to its addresses.
    pub bias: Bias,
    /// Struct layouts of its Go runtime and net package.
    pub layouts: Arc<Layouts>,
    /// Its types, by the runtime's descriptors.
    pub types: Arc<RttiTypes<FileMemory>>,
    debug: OnceLock<Option<Arc<Dwarf>>>,
    absent: OnceLock<Arc<Dwarf>>,
}

impl Target {
    /// Opens the executable of a process and finds where it lies.
    pub fn of_process(pid: i32) -> Result<Target, SessionError> {
        let image = open_executable(pid)?;
        let bias = find_bias(pid, &image)?;
        Ok(Target::new(Arc::new(image), bias))
    }

    /// An executable that does not run.
    pub fn of_file(path: &std::path::Path) -> Result<Target, SessionError> {
        Ok(Target::new(Arc::new(Image::open(path)?), Bias::default()))
    }

    /// A core file's executable, where it lay.
    pub fn of_core(core: &Core) -> Target {
        Target::new(core.image().clone(), core.bias())
    }

    /// The same with debug information from another file of the same build,
    /// when one is named (see [`Image::add_symbols`]).
    pub fn with_symbols(self, path: Option<&std::path::Path>) -> Result<Target, SessionError> {
        if let Some(path) = path {
            self.image.add_symbols(path)?;
        }
        Ok(self)
    }

    fn new(image: Arc<Image>, bias: Bias) -> Target {
        let types = Arc::new(RttiTypes::new(
            FileMemory(image.clone()),
            type_section(&image),
        ));
        let layouts = Layouts::resolve(image.go_version().minor(), Some(&*types));
        Target {
            image,
            bias,
            layouts: Arc::new(layouts),
            types,
            debug: OnceLock::new(),
            absent: OnceLock::new(),
        }
    }

    /// Its debug information, opened when it is first asked for; `None` when it
    /// has none. Types are told by one instance alone.
    pub fn debug_info(&self) -> Result<Option<Arc<Dwarf>>, SessionError> {
        if let Some(known) = self.debug.get() {
            return Ok(known.clone());
        }
        let opened = Dwarf::open(self.image.clone())?.map(Arc::new);
        Ok(self.debug.get_or_init(|| opened).clone())
    }

    /// The same, with one that knows nothing where it has none: frames have a
    /// place and no variables then.
    pub fn debug_info_or_absent(&self) -> Result<Arc<Dwarf>, SessionError> {
        Ok(self.debug_info()?.unwrap_or_else(|| {
            self.absent
                .get_or_init(|| Arc::new(Dwarf::absent()))
                .clone()
        }))
    }

    /// Its types by live address.
    pub fn live_types(&self) -> LiveTypes {
        LiveTypes {
            table: self.types.clone(),
            bias: self.bias,
        }
    }

    /// First and last address of its code, live.
    pub fn text(&self) -> (LiveAddr, LiveAddr) {
        let text = self.image.module().text;
        (self.bias.live(text.start), self.bias.live(text.end))
    }

    /// What a user should be told about how well this Go version is known.
    pub fn notes(&self) -> &[String] {
        &self.layouts.notes
    }
}

/// The executable is opened through the process itself: it may be deleted, or
/// lie in another mount namespace.
fn open_executable(pid: i32) -> Result<Image, SessionError> {
    procfs::check_traceable(pid)?;
    let path = PathBuf::from(format!("/proc/{pid}/exe"));
    match std::fs::File::open(&path) {
        Ok(file) => {
            let name = std::fs::read_link(&path)
                .map_or_else(|_| path.display().to_string(), |p| p.display().to_string());
            Ok(Image::from_file(file, &name)?)
        }
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(procfs::denied(pid).into())
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(crate::process::ProcessError::NoSuchProcess(pid).into())
        }
        Err(source) => Err(crate::process::ProcessError::Proc { path, source }.into()),
    }
}

/// `AT_ENTRY` of the auxiliary vector (getauxval(3)): where the loader says the
/// program's entry point lies.
const AT_ENTRY: u64 = 9;

fn find_bias(pid: i32, image: &Image) -> Result<Bias, SessionError> {
    if !image.is_pie() {
        return Ok(Bias::default());
    }
    let unreadable = SessionError::Unreadable {
        pid,
        what: "its auxiliary vector",
    };
    let Ok(auxv) = std::fs::read(format!("/proc/{pid}/auxv")) else {
        return Err(unreadable);
    };
    let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
    auxv.chunks_exact(16)
        .map(|pair| pair.split_at(8))
        .find(|(kind, _)| word(kind) == AT_ENTRY)
        .map(|(_, value)| Bias(word(value).wrapping_sub(image.entry().0)))
        .ok_or(unreadable)
}
