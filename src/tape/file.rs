//! The file: blocks, one behind the other.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

use super::decode::{Decoder, Progress};
use super::encode::Encoder;
use super::wire::{MAX_RAW, Malformed};
use crate::record::Record;

/// What a file begins with; the last byte counts layouts.
pub const MAGIC: [u8; 8] = *b"GOTAPTR\x02";

/// A block is written when its records are so many bytes.
pub const BLOCK: usize = 256 << 10;

/// Nearly as fast as copying, and records repeat themselves.
const LEVEL: i32 = 1;

/// Longest head or tail that is believed.
const MAX_TOLD: usize = 1 << 20;

/// More than this zstd makes of no block (`ZSTD_COMPRESSBOUND`, zstd.h).
const MAX_PACKED: usize = MAX_RAW + (MAX_RAW >> 8) + 1024;

const MARK: [u8; 4] = *b"GTBK";
const HEADER: usize = 24;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Head = 1,
    Records = 2,
    Tail = 3,
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TapeError {
    /// Reading failed.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It begins with something else.
    #[error("is no recording of gotap's (gotap trace --record FILE makes one)")]
    NotOurs,
    /// A later gotap's.
    #[error("has layout {0}, which this gotap does not know: use the gotap that wrote it")]
    Layout(u8),
    /// Not even what tells of the program is whole.
    #[error("ends before its first record: gotap was killed while it was beginning")]
    NoHead,
}

/// What a recording tells of the program and of the command that made it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Head {
    /// The gotap that wrote it.
    pub gotap: String,
    /// The program's file.
    pub program: String,
    /// The Go that built it.
    pub go: String,
    /// Its process.
    pub pid: i32,
    /// The command line, as it was given.
    pub command: Vec<String>,
    /// Names of arguments of the functions traced: filters may ask for them.
    pub arguments: Vec<String>,
    /// Names of their results.
    pub results: Vec<String>,
}

/// What was not written, told when tracing ended in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tail {
    /// Calls that `--where` did not let through.
    pub filtered: u64,
}

/// Writes a recording.
pub struct TapeWriter {
    to: Box<dyn Write + Send>,
    encoder: Encoder,
    pack: Compressor<'static>,
    packed: Vec<u8>,
}

impl TapeWriter {
    /// Onto `to`, beginning with `head`.
    pub fn new(to: Box<dyn Write + Send>, head: &Head) -> io::Result<TapeWriter> {
        let mut pack = Compressor::new(LEVEL)?;
        pack.set_parameter(CParameter::ChecksumFlag(true))?;
        let mut writer = TapeWriter {
            to,
            encoder: Encoder::default(),
            pack,
            packed: Vec::new(),
        };
        writer.to.write_all(&MAGIC)?;
        writer.told(Kind::Head, head)?;
        Ok(writer)
    }

    /// Takes a record; it is in the file once a block is full, or after
    /// [`TapeWriter::write_block`].
    pub fn record(&mut self, record: &Record) -> io::Result<()> {
        self.encoder.record(record);
        if self.encoder.len() >= BLOCK {
            return self.write_block();
        }
        Ok(())
    }

    /// Hands all records to the system that were taken so far.
    pub fn write_block(&mut self) -> io::Result<()> {
        if self.encoder.is_empty() {
            return Ok(());
        }
        let (raw, records) = self.encoder.block();
        let written = write(
            &mut *self.to,
            &mut self.pack,
            &mut self.packed,
            (Kind::Records, raw, records),
        );
        // After an error nobody asks for these again.
        self.encoder.reset();
        written
    }

    /// No record follows.
    pub fn finish(&mut self, tail: &Tail) -> io::Result<()> {
        self.write_block()?;
        self.told(Kind::Tail, tail)
    }

    fn told(&mut self, kind: Kind, what: &impl Serialize) -> io::Result<()> {
        let raw = serde_json::to_vec(what)?;
        let raw = raw.get(..MAX_TOLD).unwrap_or(&raw);
        write(
            &mut *self.to,
            &mut self.pack,
            &mut self.packed,
            (kind, raw, 0),
        )
    }
}

fn write(
    to: &mut dyn Write,
    pack: &mut Compressor<'_>,
    packed: &mut Vec<u8>,
    (kind, raw, records): (Kind, &[u8], u32),
) -> io::Result<()> {
    packed.clear();
    packed.resize(HEADER, 0);
    packed.extend_from_slice(&pack.compress(raw)?);
    let len = packed.len().saturating_sub(HEADER);
    let mut header = [0; HEADER];
    put(&mut header, 0, &MARK);
    put(&mut header, 4, &[kind as u8]);
    put(&mut header, 8, &(raw.len() as u32).to_le_bytes());
    put(&mut header, 12, &(len as u32).to_le_bytes());
    put(&mut header, 16, &records.to_le_bytes());
    let check = check(&header);
    put(&mut header, 20, &check.to_le_bytes());
    put(packed, 0, &header);
    // In one piece: a crash between two writes would tear it.
    to.write_all(packed)?;
    to.flush()
}

fn put(out: &mut [u8], at: usize, bytes: &[u8]) {
    for (to, from) in out.iter_mut().skip(at).zip(bytes) {
        *to = *from;
    }
}

/// FNV-1a of a header up to its check.
fn check(header: &[u8; HEADER]) -> u32 {
    header.iter().take(20).fold(0x811c_9dc5, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    })
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    let word = bytes.get(at..at.saturating_add(4));
    let word = word.and_then(|w| w.try_into().ok()).map(u32::from_le_bytes);
    word.map_or(usize::MAX, |w| w as usize)
}

/// What comes out of a recording.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// A record.
    Record(Record),
    /// A block is damaged; so many records are lost with it.
    Damaged {
        /// Where in the file the block begins.
        at: u64,
        /// How many records it had, or as many of them as could not be read.
        lost: u64,
    },
    /// The end, as gotap wrote it.
    End(Tail),
    /// The file ends without one: gotap was killed, or is still writing.
    Torn {
        /// Bytes behind the last whole block.
        rest: u64,
    },
    /// From here on it is not what gotap writes; nothing more is read.
    Garbage {
        /// Where in the file that begins.
        at: u64,
    },
}

/// Reads a recording; memory for one block at a time.
pub struct TapeReader<R> {
    from: R,
    at: u64,
    unpack: Decompressor<'static>,
    head: Head,
    /// The block of records that is being read.
    open: Option<Open>,
    raw: Vec<u8>,
    packed: Vec<u8>,
    over: bool,
}

struct Open {
    at: u64,
    left: u64,
    progress: Progress,
}

struct Header {
    kind: Option<Kind>,
    raw: usize,
    packed: usize,
    records: u64,
}

impl<R: Read> TapeReader<R> {
    /// From a file's beginning.
    pub fn new(from: R) -> Result<TapeReader<R>, TapeError> {
        let mut reader = TapeReader {
            from,
            at: 0,
            unpack: Decompressor::new()?,
            head: Head::default(),
            open: None,
            raw: Vec::new(),
            packed: Vec::new(),
            over: false,
        };
        let mut magic = [0; 8];
        if reader.fill(&mut magic)? < magic.len() {
            return Err(TapeError::NotOurs);
        }
        let ([name @ .., layout], [own @ .., version]) = (magic, MAGIC);
        if name != own {
            return Err(TapeError::NotOurs);
        }
        // What the first layout has the second has too.
        if !(1..=version).contains(&layout) {
            return Err(TapeError::Layout(layout));
        }
        match reader.block()? {
            Block::Whole(header) if header.kind == Some(Kind::Head) => {
                let known = reader.unpacked(&header).then_some(&reader.raw);
                let head = known.and_then(|raw| serde_json::from_slice(raw).ok());
                reader.head = head.ok_or(TapeError::NoHead)?;
                Ok(reader)
            }
            _ => Err(TapeError::NoHead),
        }
    }

    /// What it tells of the program.
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// What comes next; `None` behind the end.
    pub fn next_item(&mut self) -> Result<Option<Item>, TapeError> {
        loop {
            if let Some(open) = self.open.take() {
                if let Some(item) = self.item(open) {
                    return Ok(Some(item));
                }
                continue;
            }
            if self.over {
                return Ok(None);
            }
            let at = self.at;
            let last = match self.block()? {
                Block::Whole(header) => {
                    if let Some(item) = self.take(&header, at) {
                        return Ok(Some(item));
                    }
                    continue;
                }
                Block::Torn(rest) => Item::Torn { rest },
                Block::Garbage => Item::Garbage { at },
            };
            self.over = true;
            return Ok(Some(last));
        }
    }

    /// The next of the block that is open; `None` when that is read.
    fn item(&mut self, open: Open) -> Option<Item> {
        let Open { at, left, progress } = open;
        let mut decoder = Decoder::new(&self.raw, progress);
        match decoder.record() {
            Ok(Some(record)) => {
                self.open = Some(Open {
                    at,
                    left: left.saturating_sub(1),
                    progress: decoder.leave(),
                });
                Some(Item::Record(record))
            }
            Ok(None) => None,
            Err(Malformed(_)) => Some(Item::Damaged { at, lost: left }),
        }
    }

    fn take(&mut self, header: &Header, at: u64) -> Option<Item> {
        let left = header.records;
        if !self.unpacked(header) {
            return Some(Item::Damaged { at, lost: left });
        }
        match header.kind {
            Some(Kind::Records) => {
                let progress = Progress::default();
                self.open = Some(Open { at, left, progress });
                None
            }
            Some(Kind::Tail) => {
                self.over = true;
                Some(Item::End(
                    serde_json::from_slice(&self.raw).unwrap_or_default(),
                ))
            }
            // A second head, or what a later gotap has added: not for us.
            Some(Kind::Head) | None => None,
        }
    }

    /// Reads until `into` is full or the file ends.
    fn fill(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.from.read(rest) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.at += filled as u64;
        Ok(filled)
    }

    fn block(&mut self) -> io::Result<Block> {
        let mut header = [0; HEADER];
        let got = self.fill(&mut header)?;
        if got < HEADER {
            return Ok(Block::Torn(got as u64));
        }
        let (raw, packed) = (u32_at(&header, 8), u32_at(&header, 12));
        let sound = header.starts_with(&MARK)
            && u32_at(&header, 20) == check(&header) as usize
            && raw <= MAX_RAW
            && packed <= MAX_PACKED;
        if !sound {
            return Ok(Block::Garbage);
        }
        let [.., kind, _, _, _] = *header.first_chunk::<8>().unwrap_or(&[0; 8]);
        let mut bytes = std::mem::take(&mut self.packed);
        bytes.clear();
        bytes.resize(packed, 0);
        let got = self.fill(&mut bytes)?;
        self.packed = bytes;
        if got < packed {
            return Ok(Block::Torn((HEADER + got) as u64));
        }
        let kinds = [Kind::Head, Kind::Records, Kind::Tail];
        Ok(Block::Whole(Header {
            kind: kinds.into_iter().find(|k| *k as u8 == kind),
            raw,
            packed,
            records: u32_at(&header, 16) as u64,
        }))
    }

    /// Unpacks the block that was read; it must be as long as its header says.
    fn unpacked(&mut self, header: &Header) -> bool {
        self.raw.clear();
        self.raw.reserve_exact(header.raw);
        let packed = self.packed.get(..header.packed).unwrap_or_default();
        let done = self.unpack.decompress_to_buffer(packed, &mut self.raw);
        done.is_ok_and(|len| len == header.raw)
    }
}

enum Block {
    Whole(Header),
    /// Only so many bytes are there.
    Torn(u64),
    Garbage,
}
