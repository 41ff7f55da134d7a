//! Why a file could not be opened as a Go program.

use std::io;

/// Why a file could not be opened as a Go program. Each says which file, what
/// is wrong with it, and what to do where something can be done.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// The operating system refused.
    #[error("cannot open {name}: {source}")]
    Open {
        /// The file as the user or /proc named it.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A directory, a device, a pipe.
    #[error("{name} is not a regular file")]
    NotAFile {
        /// The file.
        name: String,
    },
    /// No ELF magic.
    #[error("{name} is not an ELF file, so not a Linux program")]
    NotElf {
        /// The file.
        name: String,
    },
    /// ELFCLASS32.
    #[error("{name} is a 32-bit program; gotap reads 64-bit x86-64 programs only")]
    Bits32 {
        /// The file.
        name: String,
    },
    /// Not EM_X86_64.
    #[error("{name} is built for {machine}; gotap reads x86-64 programs only")]
    Architecture {
        /// The file.
        name: String,
        /// The CPU's name, or its ELF number.
        machine: String,
    },
    /// An object file or a core file.
    #[error("{name} is {kind}, not a program")]
    NotExecutable {
        /// The file.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// The file ends before what its headers announce.
    #[error(
        "{name} is cut short: its {what} ends at byte {needs}, the file at {has}; copy it again"
    )]
    Truncated {
        /// The file.
        name: String,
        /// Which part is missing.
        what: &'static str,
        /// Where that part ends, in bytes.
        needs: u64,
        /// The file's length, in bytes.
        has: u64,
    },
    /// Neither a function table nor build information of Go.
    #[error("{name} is not a Go program (it has no Go function table and no Go build information)")]
    NotGo {
        /// The file.
        name: String,
    },
    /// Compressed by UPX.
    #[error("{name} is packed by UPX; unpack it (upx -d) or trace a program that is not packed")]
    Packed {
        /// The file.
        name: String,
    },
    /// A function table in a format that is not read.
    #[error("{name} was built by Go {version}; gotap reads programs of Go 1.18 and later")]
    TooOld {
        /// The file.
        name: String,
        /// The versions that write this format.
        version: &'static str,
    },
    /// Go build information, but no function table that can be read.
    #[error(
        "{name} is a Go program whose function table cannot be read: it was obfuscated (garble changes the table's magic and names) or its pclntab was removed"
    )]
    Garbled {
        /// The file.
        name: String,
    },
    /// Headers or tables contradict themselves.
    #[error("{name} cannot be read: {what}")]
    Malformed {
        /// The file.
        name: String,
        /// What contradicts what.
        what: String,
    },
    /// A file of another build.
    #[error(
        "{symbols} is not of the same build as {program}: its build id is {symbols_id}, the program's {program_id}; give the file from which the program was stripped"
    )]
    OtherBuild {
        /// The program.
        program: String,
        /// Its build ids.
        program_id: String,
        /// The other file.
        symbols: String,
        /// Its build ids.
        symbols_id: String,
    },
    /// The same build id, linked anew.
    #[error(
        "{symbols} has the build id of {program}, but not its addresses ({what}); give the file from which the program was stripped"
    )]
    OtherAddresses {
        /// The program.
        program: String,
        /// The other file.
        symbols: String,
        /// What differs.
        what: String,
    },
    /// It was stripped as well.
    #[error("{name} has no debug information either (no .debug_info)")]
    NoDebugInfo {
        /// The file.
        name: String,
    },
}
