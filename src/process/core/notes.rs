//! What the notes of a core say (elf.h, linux/elfcore.h, fs/binfmt_elf.c).

use goblin::elf::note::NoteDataIterator;

use super::CTX;
use crate::sys::Regs;

/// Registers and signal of a thread.
const NT_PRSTATUS: u32 = 1;
/// The same: a `user_fpregs_struct` (sys/user.h), of the thread before.
const NT_FPREGSET: u32 = 2;
/// Process id and the like.
const NT_PRPSINFO: u32 = 3;
/// The auxiliary vector.
const NT_AUXV: u32 = 6;
/// siginfo_t of the signal.
const NT_SIGINFO: u32 = 0x5349_4749;
/// Mapped files.
const NT_FILE: u32 = 0x4649_4c45;

/// getauxval(3): the program headers of the executable, its entry point.
const AT_PHDR: u64 = 3;
const AT_ENTRY: u64 = 9;

/// More mapped files than this are garbage.
const MAX_FILES: usize = 1 << 22;
/// Longest path of a mapped file.
const MAX_PATH: usize = 1 << 16;

/// Offsets in struct elf_prstatus (linux/elfcore.h, x86-64).
const PR_CURSIG: usize = 12;
const PR_PID: usize = 32;
const PR_REG: usize = 112;
/// Offset of xmm0 to xmm15 in struct user_fpregs_struct, 16 bytes each.
pub(super) const XMM_SPACE: usize = 160;
/// Offset of pr_pid in struct elf_prpsinfo.
const PS_PID: usize = 24;

/// A thread of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CoreThread {
    /// Thread id, in the process's pid namespace.
    pub tid: i32,
    /// Its registers.
    pub regs: Regs,
    /// The low halves of xmm0 to xmm15, where they are known.
    pub vectors: Option<[u64; 16]>,
    /// The signal it was handling; 0 for none.
    pub signal: i32,
}

/// The signal that ended the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CoreSignal {
    /// Its number.
    pub number: i32,
    /// `si_code` (sigaction(2)).
    pub code: i32,
    /// The address of a fault (SIGSEGV, SIGBUS, SIGILL, SIGFPE).
    pub address: Option<u64>,
}

/// A file that was mapped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MappedFile {
    /// First address.
    pub start: u64,
    /// First address behind it.
    pub end: u64,
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// Path, as the process saw it.
    pub path: String,
}

/// All of them that gotap asks for.
#[derive(Default, Debug)]
pub(super) struct Notes {
    pub(super) threads: Vec<CoreThread>,
    pub(super) pid: Option<i32>,
    pub(super) signal: Option<CoreSignal>,
    /// In order of address.
    pub(super) files: Vec<MappedFile>,
    /// Where the entry point of the executable lies.
    pub(super) entry: Option<u64>,
    program_headers: Option<u64>,
    /// Path of the executable.
    pub(super) executable: Option<String>,
}

impl Notes {
    /// Adds what the bytes of a PT_NOTE tell.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let notes = NoteDataIterator {
            data: bytes,
            size: bytes.len(),
            offset: 0,
            // Both writers align by 4, whatever p_align says.
            ctx: (4, CTX),
        };
        for note in notes.map_while(Result::ok) {
            match (note.name.trim_end_matches('\0'), note.n_type) {
                ("CORE", NT_PRSTATUS) => self.threads.extend(parse_thread(note.desc)),
                ("CORE", NT_FPREGSET) => {
                    if let Some(thread) = self.threads.last_mut() {
                        thread.vectors = parse_vectors(note.desc);
                    }
                }
                ("CORE", NT_PRPSINFO) => self.pid = self.pid.or(i32_at(note.desc, PS_PID)),
                // The first is that of the thread that crashed.
                ("CORE", NT_SIGINFO) => self.signal = self.signal.or(parse_signal(note.desc)),
                ("CORE", NT_AUXV) => self.parse_auxv(note.desc),
                ("CORE", NT_FILE) => self.files = parse_files(note.desc).unwrap_or_default(),
                _ => {}
            }
        }
    }

    fn parse_auxv(&mut self, bytes: &[u8]) {
        let (pairs, _) = bytes.as_chunks::<16>();
        for pair in pairs {
            match (u64_at(pair, 0), u64_at(pair, 8)) {
                (Some(AT_ENTRY), value) => self.entry = value,
                (Some(AT_PHDR), value) => self.program_headers = value,
                _ => {}
            }
        }
    }

    /// The file that an address was mapped from.
    pub(super) fn file_at(&self, at: u64) -> Option<&MappedFile> {
        let behind = self.files.partition_point(|f| f.start <= at);
        let file = self.files.get(behind.checked_sub(1)?)?;
        (at < file.end).then_some(file)
    }

    /// The executable is the file that the entry point was mapped from.
    pub(super) fn find_executable(&mut self) {
        let places = [self.entry, self.program_headers];
        let found = places.into_iter().flatten().find_map(|at| self.file_at(at));
        self.executable = found.map(|f| f.path.clone());
    }
}

fn parse_thread(bytes: &[u8]) -> Option<CoreThread> {
    let reg = |n: usize| u64_at(bytes, PR_REG.checked_add(n.checked_mul(8)?)?);
    Some(CoreThread {
        tid: i32_at(bytes, PR_PID)?,
        vectors: None,
        signal: i32::from(i16::from_le_bytes(*bytes.get(PR_CURSIG..)?.first_chunk()?)),
        // The order of struct user_regs_struct (asm/user_64.h).
        regs: Regs {
            r15: reg(0)?,
            r14: reg(1)?,
            r13: reg(2)?,
            r12: reg(3)?,
            rbp: reg(4)?,
            rbx: reg(5)?,
            r11: reg(6)?,
            r10: reg(7)?,
            r9: reg(8)?,
            r8: reg(9)?,
            rax: reg(10)?,
            rcx: reg(11)?,
            rdx: reg(12)?,
            rsi: reg(13)?,
            rdi: reg(14)?,
            orig_rax: reg(15)?,
            rip: reg(16)?,
            cs: reg(17)?,
            eflags: reg(18)?,
            rsp: reg(19)?,
            ss: reg(20)?,
            fs_base: reg(21)?,
            gs_base: reg(22)?,
            ds: reg(23)?,
            es: reg(24)?,
            fs: reg(25)?,
            gs: reg(26)?,
        },
    })
}

fn parse_vectors(bytes: &[u8]) -> Option<[u64; 16]> {
    let mut vectors = [0; 16];
    for (index, low) in vectors.iter_mut().enumerate() {
        *low = u64_at(bytes, XMM_SPACE.checked_add(index.checked_mul(16)?)?)?;
    }
    Some(vectors)
}

/// siginfo_t: si_signo, si_errno, si_code, then the union, of which si_addr is
/// the first word for faults.
fn parse_signal(bytes: &[u8]) -> Option<CoreSignal> {
    let number = i32_at(bytes, 0).filter(|n| *n != 0)?;
    let faults = [libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE];
    let code = i32_at(bytes, 8)?;
    // A code above 0 is the kernel's own (sigaction(2)).
    let fault = faults.contains(&number) && code > 0;
    Some(CoreSignal {
        number,
        code,
        address: fault.then(|| u64_at(bytes, 16)).flatten(),
    })
}

/// fs/binfmt_elf.c, fill_files_note: count, page size, triples of start, end
/// and offset in pages, then the names.
fn parse_files(bytes: &[u8]) -> Option<Vec<MappedFile>> {
    let count = usize::try_from(u64_at(bytes, 0)?).ok()?;
    let page = u64_at(bytes, 8)?;
    if count > MAX_FILES {
        return None;
    }
    let (triples, mut names) = bytes.get(16..)?.split_at_checked(count.checked_mul(24)?)?;
    let (triples, _) = triples.as_chunks::<24>();
    let mut files = Vec::with_capacity(count);
    for triple in triples {
        let name = std::ffi::CStr::from_bytes_until_nul(names).ok()?;
        names = names.get(name.count_bytes().checked_add(1)?..)?;
        if name.count_bytes() > MAX_PATH {
            return None;
        }
        files.push(MappedFile {
            start: u64_at(triple, 0)?,
            end: u64_at(triple, 8)?,
            offset: u64_at(triple, 16)?.wrapping_mul(page),
            path: name.to_string_lossy().into_owned(),
        });
    }
    files.sort_by_key(|f| f.start);
    Some(files)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_files_are_read_and_garbage_is_not() {
        let mut note = Vec::new();
        for word in [
            2_u64, 4096, 0x40_0000, 0x48_0000, 0, 0x48_0000, 0x50_0000, 0x80,
        ] {
            note.extend(word.to_le_bytes());
        }
        note.extend(b"/srv/my server\0/srv/my server\0");
        let files = parse_files(&note).expect("well formed");
        assert_eq!(files[1].offset, 0x8_0000);
        assert_eq!(files[0].path, "/srv/my server");
        assert_eq!(parse_files(&note[..note.len() - 4]), None);
        note[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(parse_files(&note), None);
    }

    #[test]
    fn a_fault_has_an_address_and_a_kill_has_none() {
        let mut info = vec![0; 128];
        info[0] = 11;
        info[8] = 1;
        info[16] = 8;
        let fault = CoreSignal {
            number: 11,
            code: 1,
            address: Some(8),
        };
        assert_eq!(parse_signal(&info), Some(fault));
        info[8] = 0;
        assert_eq!(parse_signal(&info).and_then(|s| s.address), None);
        assert_eq!(parse_signal(&info[..10]), None);
    }
}
