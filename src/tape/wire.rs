//! Numbers and bytes of a block: LEB128, and what its tags are.

/// Most bytes of a block when unpacked.
pub const MAX_RAW: usize = 4 << 20;

/// Most values of one record, those within others counted too.
pub const MAX_VALUES: usize = 1 << 17;

/// Deepest nesting of values.
pub const MAX_DEPTH: u32 = 64;

/// What a record begins with.
pub mod record {
    /// A call.
    pub const CALL: u8 = 1;
    /// A gap.
    pub const GAP: u8 = 2;
}

/// Bits that say which parts of a call follow.
pub mod part {
    /// The traced call that it happened in.
    pub const PARENT: u64 = 1;
    /// A duration.
    pub const DUR: u64 = 1 << 1;
    /// A goroutine.
    pub const GOID: u64 = 1 << 2;
    /// A connection.
    pub const CONN: u64 = 1 << 3;
    /// The length of the buffer.
    pub const ASKED: u64 = 1 << 4;
    /// The count of bytes.
    pub const N: u64 = 1 << 5;
    /// It was running at attach.
    pub const SINCE_ATTACH: u64 = 1 << 6;
    /// A call stack.
    pub const STACK: u64 = 1 << 7;
    /// A payload.
    pub const PAYLOAD: u64 = 1 << 8;
    /// Two bits: direction; none is 0.
    pub const DIRECTION: u32 = 9;
    /// Three bits: how it ended.
    pub const END: u32 = 11;
    /// Two bits: no error known, nil, a text, fields.
    pub const ERR: u32 = 14;
    /// Arguments.
    pub const ARGS: u64 = 1 << 16;
    /// Results.
    pub const RESULTS: u64 = 1 << 17;
    /// Something was read late.
    pub const LATE: u64 = 1 << 18;
    /// Its entry was lost. From layout 2 on, as are the next and ends by `lost`.
    pub const ENTRY_LOST: u64 = 1 << 19;
    /// Records were lost while it ran.
    pub const DOUBTFUL: u64 = 1 << 20;
}

/// Appends a number.
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a number that may be negative; small ones are short.
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(
        out,
        (value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned(),
    );
}

/// What a block's bytes are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record is not what a recording has: {0}")]
pub struct Malformed(pub &'static str);

/// Reads what was put.
#[derive(Debug, Clone, Copy)]
pub struct Wire<'a> {
    rest: &'a [u8],
}

impl<'a> Wire<'a> {
    /// From the first of these bytes on.
    pub fn new(rest: &'a [u8]) -> Wire<'a> {
        Wire { rest }
    }

    /// Nothing is left.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes that are left.
    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.rest.split_first().ok_or(Malformed("it is cut off"))?;
        self.rest = rest;
        Ok(*first)
    }

    /// A number.
    pub fn number(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("a number is too long"))
    }

    /// A number that may be negative.
    pub fn signed(&mut self) -> Result<i64, Malformed> {
        let value = self.number()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// So many bytes.
    pub fn bytes(&mut self, len: u64) -> Result<&'a [u8], Malformed> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let (bytes, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(Malformed("it is cut off"))?;
        self.rest = rest;
        Ok(bytes)
    }

    /// A length and so many bytes.
    pub fn counted(&mut self) -> Result<&'a [u8], Malformed> {
        let len = self.number()?;
        self.bytes(len)
    }
}
