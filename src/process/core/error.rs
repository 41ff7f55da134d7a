//! Why a core file could not be opened.

use crate::image::ImageError;

/// Why a core file could not be opened; each says which file, what is wrong
/// with it, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// The operating system refused.
    #[error("cannot open the core file {core}: {source}")]
    Open {
        /// The core file.
        core: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// Something else.
    #[error("{core} is not a core file of an x86-64 process: it is {what}")]
    NotACore {
        /// The file.
        core: String,
        /// What it is.
        what: String,
    },
    /// It ends before its notes do: nothing can be known of the process.
    #[error(
        "{core} is cut short: its {what} ends at byte {needs}, the file at {has}; \
         copy it again, or raise ulimit -c before the next one"
    )]
    Truncated {
        /// The core file.
        core: String,
        /// Which part is missing.
        what: &'static str,
        /// Where that part ends, in bytes.
        needs: u64,
        /// The file's length, in bytes.
        has: u64,
    },
    /// A note that every core has.
    #[error("{core} has no {what} note: it was not written by the kernel or by gcore")]
    NoNote {
        /// The core file.
        core: String,
        /// Which (elf.h).
        what: &'static str,
    },
    /// It does not tell what it is of.
    #[error("{core} does not name its executable; give it behind the core file")]
    NoBinary {
        /// The core file.
        core: String,
    },
    /// The file that it names cannot be had.
    #[error(
        "the executable of {core} cannot be opened ({path}: {why}); give the same build behind the core file"
    )]
    BinaryGone {
        /// The core file.
        core: String,
        /// The executable, as the core names it.
        path: String,
        /// Why not.
        why: String,
    },
    /// Build ids differ, or the layout cannot be that of this core.
    #[error(
        "{core} is of another build than {binary}: its build id is {of_core}, the file's is {of_binary}; \
         give the executable that crashed"
    )]
    OtherBinary {
        /// The core file.
        core: String,
        /// The executable that was given.
        binary: String,
        /// Build id found in the core.
        of_core: String,
        /// Build id of the executable.
        of_binary: String,
    },
    /// The executable.
    #[error(transparent)]
    Image(#[from] ImageError),
}
