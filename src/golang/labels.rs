//! pprof labels of a goroutine (runtime/pprof: labelMap).
//!
//! Up to Go 1.23 a `map[string]string`, from 1.24 on a list of pairs sorted by
//! key.

use crate::addr::LiveAddr;
use crate::golang::gs::word_at;
use crate::golang::net::read_go_string;
use crate::memory::{Memory, MemoryError};

/// Labels of one goroutine that are read.
const MAX_LABELS: u64 = 64;
/// Bytes of one text.
const MAX_TEXT: usize = 256;
/// Bytes of a bucket of such a map: tophash, eight keys, eight values, the
/// next bucket (runtime/map.go up to Go 1.23: bmap).
const BUCKET: usize = 8 + 8 * 16 + 8 * 16 + 8;
/// Slots with a smaller tophash are empty (runtime/map.go: minTopHash).
const MIN_TOP_HASH: u8 = 5;

/// Labels sorted by key.
pub type Labels = Vec<(String, String)>;

/// Reads the labels at `at`, as Go 1.`minor` keeps them. Only a target that is
/// gone is an error; what cannot be read has none.
pub fn read_labels(
    memory: &dyn Memory,
    minor: Option<u32>,
    at: LiveAddr,
) -> Result<Labels, MemoryError> {
    let read = if minor.is_some_and(|m| m <= 23) {
        of_map(memory, at)
    } else {
        of_list(memory, at)
    };
    match read {
        Ok(mut labels) => {
            labels.sort();
            Ok(labels)
        }
        Err(MemoryError::Unmapped { .. }) => Ok(Vec::new()),
        Err(gone @ MemoryError::Gone) => Err(gone),
    }
}

fn text(memory: &dyn Memory, ptr: u64, len: u64) -> Result<String, MemoryError> {
    let (bytes, _) = read_go_string(memory, ptr, len, MAX_TEXT)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn of_list(memory: &dyn Memory, at: LiveAddr) -> Result<Labels, MemoryError> {
    let (list, len) = (memory.read_u64(at)?, memory.read_u64(at.offset(8))?);
    let mut labels = Vec::new();
    for index in 0..len.min(MAX_LABELS) {
        let pair = memory.read_vec(LiveAddr(list).offset(index.wrapping_mul(32)), 32)?;
        let word = |offset| word_at(&pair, offset);
        labels.push((
            text(memory, word(0), word(8))?,
            text(memory, word(16), word(24))?,
        ));
    }
    Ok(labels)
}

fn of_map(memory: &dyn Memory, at: LiveAddr) -> Result<Labels, MemoryError> {
    let map = memory.read_addr(at)?;
    let head = memory.read_vec(map, 24)?;
    let (count, log) = (word_at(&head, 0), head.get(9).copied().unwrap_or(0));
    let buckets = LiveAddr(word_at(&head, 16));
    let mut labels = Vec::new();
    if count > MAX_LABELS || log > 4 {
        return Ok(labels);
    }
    for index in 0..1_u64 << log {
        let mut bucket = buckets.offset(index.wrapping_mul(BUCKET as u64));
        for _ in 0..MAX_LABELS {
            if bucket.is_null() || labels.len() as u64 >= count {
                break;
            }
            let bytes = memory.read_vec(bucket, BUCKET)?;
            for slot in 0..8_usize {
                if bytes.get(slot).is_none_or(|top| *top < MIN_TOP_HASH) {
                    continue;
                }
                let word = |offset: usize| word_at(&bytes, (offset + slot * 16) as u64);
                labels.push((
                    text(memory, word(8), word(16))?,
                    text(memory, word(136), word(144))?,
                ));
            }
            bucket = LiveAddr(word_at(&bytes, BUCKET as u64 - 8));
        }
    }
    Ok(labels)
}
