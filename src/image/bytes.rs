//! Little-endian numbers out of byte slices; every read is bounds-checked.

/// `N` bytes at `at`.
pub(crate) fn array_at<const N: usize>(data: &[u8], at: usize) -> Option<[u8; N]> {
    data.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// One byte at `at`.
pub(crate) fn u8_at(data: &[u8], at: usize) -> Option<u8> {
    data.get(at).copied()
}

/// A u32 at `at`.
pub(crate) fn u32_at(data: &[u8], at: usize) -> Option<u32> {
    array_at(data, at).map(u32::from_le_bytes)
}

/// An i32 at `at`.
pub(crate) fn i32_at(data: &[u8], at: usize) -> Option<i32> {
    array_at(data, at).map(i32::from_le_bytes)
}

/// A u64 at `at`.
pub(crate) fn u64_at(data: &[u8], at: usize) -> Option<u64> {
    array_at(data, at).map(u64::from_le_bytes)
}

/// A u64 at `at` that must fit an index.
pub(crate) fn index_at(data: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u64_at(data, at)?).ok()
}

/// An unsigned varint (encoding/binary.Uvarint) at `*at`, which moves past it.
pub(crate) fn uvarint(data: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let byte = *data.get(*at)?;
        *at = at.checked_add(1)?;
        value |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

/// The bytes at `at` up to the first NUL, which must come within the slice.
pub(crate) fn until_nul(data: &[u8], at: usize) -> Option<&[u8]> {
    let rest = data.get(at..)?;
    std::ffi::CStr::from_bytes_until_nul(rest)
        .ok()
        .map(std::ffi::CStr::to_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stop_at_the_end() {
        let data = [1, 2, 3, 4, 5, 6, 7];
        assert_eq!(u32_at(&data, 3), Some(0x0706_0504));
        assert_eq!(u32_at(&data, 4), None);
        assert_eq!(u64_at(&data, usize::MAX), None);
        assert_eq!(until_nul(&data, 0), None);
        assert_eq!(until_nul(b"ab\0c", 0), Some(&b"ab"[..]));
    }

    #[test]
    fn varints_are_bounded() {
        let mut at = 0;
        assert_eq!(uvarint(&[0xac, 0x02], &mut at), Some(300));
        assert_eq!(at, 2);
        assert_eq!(uvarint(&[0xff; 20], &mut 0), None);
        assert_eq!(uvarint(&[0x80], &mut 0), None);
    }
}
