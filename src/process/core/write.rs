//! A core file of a process that stands still, as core(5) and elf(5) have it: what
//! gdb, Delve and this gotap read.
//!
//! Every mapping that can be read is written whole, files' too, so that the core
//! needs nothing beside it; what holds zeros alone is left a hole.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::notes::{CoreThread, XMM_SPACE};
use crate::addr::LiveAddr;
use crate::memory::{Memory, MemoryError};
use crate::process::procfs::Mapping;
use crate::sys::Regs;

/// Bytes that are read and written at once.
const CHUNK: usize = 1 << 20;
/// Bytes of a page.
const PAGE: u64 = 4096;
/// Bytes of an ELF header, and of a program header (elf(5)).
const EHDR: u64 = 64;
const PHDR: u64 = 56;

/// What a core is made of.
pub struct Process<'a> {
    /// Process id.
    pub pid: i32,
    /// The chosen one first.
    pub threads: &'a [CoreThread],
    /// Its mappings.
    pub mappings: &'a [Mapping],
    /// `/proc/PID/auxv`
    pub auxv: &'a [u8],
    /// Its memory.
    pub memory: &'a dyn Memory,
}

/// Memory, but for the program's own code, which is as its file has it: no
/// breakpoint or jump that lies in it is written.
pub struct AsBuilt<'a> {
    /// The process.
    pub memory: &'a dyn Memory,
    /// Where its code begins.
    pub at: LiveAddr,
    /// The code.
    pub code: &'a [u8],
}

impl Memory for AsBuilt<'_> {
    fn read(&self, at: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
        self.memory.read(at, into)?;
        let (from, begin) = (at.0.max(self.at.0), at.0);
        let skip = |base: u64| usize::try_from(from.wrapping_sub(base)).unwrap_or(usize::MAX);
        let code = self.code.get(skip(self.at.0)..).unwrap_or_default();
        let part = into.get_mut(skip(begin)..).unwrap_or_default();
        for (to, byte) in part.iter_mut().zip(code) {
            *to = *byte;
        }
        Ok(())
    }
}

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Written {
    /// Mappings.
    pub mappings: usize,
    /// Bytes of memory, holes counted.
    pub bytes: u64,
    /// Bytes that could not be read: zeros stand for them.
    pub unreadable: u64,
}

/// Writes a file that must not be there yet; it can be read by its owner alone.
pub fn write_core(path: &Path, process: &Process<'_>) -> io::Result<Written> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let done = write(&mut file, process);
    if done.is_err() {
        // A part of a core is of no use, and may fill the disk.
        let _ = std::fs::remove_file(path);
    }
    done
}

fn write(file: &mut File, process: &Process<'_>) -> io::Result<Written> {
    let mappings: Vec<&Mapping> = process
        .mappings
        .iter()
        // The kernel's own pages cannot be read so.
        .filter(|m| m.read && m.start < m.end && m.end < 1 << 47 && !m.name.starts_with("[vvar"))
        .collect();
    let notes = notes(process);
    let count = u64::try_from(mappings.len())
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    let headers = u16::try_from(count).map_err(|_| io::Error::other("too many mappings"))?;
    let notes_at = EHDR.saturating_add(PHDR.saturating_mul(count));
    let mut at = up_to_page(notes_at.saturating_add(notes.len() as u64));
    let mut head = header(headers);
    head.extend(program_header(4, 0, (notes_at, 0, notes.len() as u64), 4));
    let mut places = Vec::with_capacity(mappings.len());
    for m in &mappings {
        let len = m.end.saturating_sub(m.start);
        let flags = u32::from(m.exec) | (u32::from(m.write) << 1) | 4;
        head.extend(program_header(1, flags, (at, m.start, len), PAGE));
        places.push((at, m.start, len));
        at = at.saturating_add(len);
    }
    head.extend_from_slice(&notes);
    file.write_all(&head)?;
    let mut written = Written {
        mappings: mappings.len(),
        ..Written::default()
    };
    let mut buffer = vec![0; CHUNK];
    for (at, start, len) in places {
        let mut done = 0;
        while done < len {
            let take = usize::try_from(len.saturating_sub(done))
                .unwrap_or(CHUNK)
                .min(CHUNK);
            let part = buffer.get_mut(..take).unwrap_or_default();
            let lost = read_pages(process.memory, LiveAddr(start.saturating_add(done)), part);
            written.unreadable = written.unreadable.saturating_add(lost);
            if part.iter().any(|byte| *byte != 0) {
                file.seek(SeekFrom::Start(at.saturating_add(done)))?;
                file.write_all(part)?;
            }
            done = done.saturating_add(take as u64);
        }
        written.bytes = written.bytes.saturating_add(len);
    }
    file.set_len(at)?;
    Ok(written)
}

/// Reads all, else page by page; how many bytes could not be read.
fn read_pages(memory: &dyn Memory, at: LiveAddr, into: &mut [u8]) -> u64 {
    if memory.read(at, into).is_ok() {
        return 0;
    }
    let mut lost = 0;
    for (index, page) in into.chunks_mut(4096).enumerate() {
        let from = at.offset(PAGE.saturating_mul(index as u64));
        if memory.read(from, page).is_err() {
            page.fill(0);
            lost += page.len() as u64;
        }
    }
    lost
}

fn up_to_page(at: u64) -> u64 {
    at.saturating_add(PAGE - 1) / PAGE * PAGE
}

/// elf(5): Elf64_Ehdr of an ET_CORE for EM_X86_64.
fn header(headers: u16) -> Vec<u8> {
    let mut out = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    out.extend(4_u16.to_le_bytes());
    out.extend(62_u16.to_le_bytes());
    out.extend(1_u32.to_le_bytes());
    out.extend(0_u64.to_le_bytes());
    out.extend(EHDR.to_le_bytes());
    out.extend(0_u64.to_le_bytes());
    out.extend(0_u32.to_le_bytes());
    out.extend(64_u16.to_le_bytes());
    out.extend(56_u16.to_le_bytes());
    out.extend(headers.to_le_bytes());
    out.extend([0; 6]);
    out
}

/// elf(5): Elf64_Phdr.
fn program_header(kind: u32, flags: u32, (at, vaddr, len): (u64, u64, u64), align: u64) -> Vec<u8> {
    let in_memory = if kind == 1 { len } else { 0 };
    let mut out = Vec::new();
    out.extend(kind.to_le_bytes());
    out.extend(flags.to_le_bytes());
    for word in [at, vaddr, 0, len, in_memory, align] {
        out.extend(word.to_le_bytes());
    }
    out
}

fn notes(process: &Process<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for (index, thread) in process.threads.iter().enumerate() {
        note(&mut out, 1, &status(thread.tid, &thread.regs));
        if index == 0 {
            // Readers take the first thread's notes up to the next one's.
            note(&mut out, 3, &info(process.pid));
            note(&mut out, 6, process.auxv);
            note(&mut out, 0x4649_4c45, &files(process));
        }
        if let Some(vectors) = &thread.vectors {
            note(&mut out, 2, &floats(vectors));
        }
    }
    out
}

fn note(out: &mut Vec<u8>, kind: u32, description: &[u8]) {
    let pad = |out: &mut Vec<u8>| out.resize(out.len().next_multiple_of(4), 0);
    out.extend(5_u32.to_le_bytes());
    out.extend(u32::try_from(description.len()).unwrap_or(0).to_le_bytes());
    out.extend(kind.to_le_bytes());
    out.extend(b"CORE\0");
    pad(out);
    out.extend(description);
    pad(out);
}

/// include/uapi/linux/elfcore.h, `elf_prstatus`, on amd64: the pid at 32, the
/// registers at 112, 336 bytes in all.
fn status(tid: i32, regs: &Regs) -> Vec<u8> {
    let mut out = vec![0; 32];
    out.extend(tid.to_le_bytes());
    out.resize(112, 0);
    for word in [
        regs.r15,
        regs.r14,
        regs.r13,
        regs.r12,
        regs.rbp,
        regs.rbx,
        regs.r11,
        regs.r10,
        regs.r9,
        regs.r8,
        regs.rax,
        regs.rcx,
        regs.rdx,
        regs.rsi,
        regs.rdi,
        regs.orig_rax,
        regs.rip,
        regs.cs,
        regs.eflags,
        regs.rsp,
        regs.ss,
        regs.fs_base,
        regs.gs_base,
        regs.ds,
        regs.es,
        regs.fs,
        regs.gs,
    ] {
        out.extend(word.to_le_bytes());
    }
    out.resize(336, 0);
    out
}

/// The same file, `elf_prpsinfo`: the pid at 24, 136 bytes.
fn info(pid: i32) -> Vec<u8> {
    let mut out = vec![0; 24];
    out.extend(pid.to_le_bytes());
    out.resize(136, 0);
    out
}

/// sys/user.h, `user_fpregs_struct`, of a note NT_FPREGSET: 512 bytes, the control words
/// at 0 and 24, then xmm0 to xmm15. Their high halves, which no value of Go's uses, are
/// zero.
fn floats(vectors: &[u64; 16]) -> Vec<u8> {
    let mut out = 0x37f_u16.to_le_bytes().to_vec();
    out.resize(24, 0);
    out.extend(0x1f80_u32.to_le_bytes());
    out.resize(XMM_SPACE, 0);
    for low in vectors {
        out.extend(low.to_le_bytes());
        out.extend([0; 8]);
    }
    out.resize(512, 0);
    out
}

/// fs/binfmt_elf.c, `fill_files_note`: count, page size, begin, end and page of
/// each, then the names.
fn files(process: &Process<'_>) -> Vec<u8> {
    let named: Vec<&Mapping> = process.mappings.iter().filter(|m| m.inode != 0).collect();
    let mut out = Vec::new();
    out.extend((named.len() as u64).to_le_bytes());
    out.extend(PAGE.to_le_bytes());
    for m in &named {
        for word in [m.start, m.end, m.offset / PAGE] {
            out.extend(word.to_le_bytes());
        }
    }
    for m in &named {
        out.extend(m.name.as_bytes());
        out.push(0);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Filled(u8);

    impl Memory for Filled {
        fn read(&self, _: LiveAddr, into: &mut [u8]) -> Result<(), MemoryError> {
            into.fill(self.0);
            Ok(())
        }
    }

    #[test]
    fn code_is_as_it_was_built() {
        let memory = AsBuilt {
            memory: &Filled(0xcc),
            at: LiveAddr(0x1010),
            code: &[1, 2, 3, 4],
        };
        let read = |at, len| {
            let mut into = vec![0; len];
            memory.read(LiveAddr(at), &mut into).unwrap();
            into
        };
        assert_eq!(read(0x100e, 8), [0xcc, 0xcc, 1, 2, 3, 4, 0xcc, 0xcc]);
        assert_eq!(read(0x1012, 4), [3, 4, 0xcc, 0xcc]);
        assert_eq!(read(0x1000, 4), [0xcc; 4]);
        assert_eq!(read(0x1014, 4), [0xcc; 4]);
    }
}
