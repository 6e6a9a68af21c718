//! Reading the bytes of a cursor. The kinds of cursors and their errors are in `list` and `feed`.

/// The first `N` bytes and the rest; `None` if there are fewer.
pub(super) fn split_bytes<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    let (first, rest) = bytes.split_first_chunk()?;
    Some((*first, rest))
}
