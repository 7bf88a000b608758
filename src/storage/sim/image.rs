//! The bytes of one simulated file, as one of its views has them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

const PAGE_BYTES: usize = 4096;

type Page = [u8; PAGE_BYTES];

/// A sparse run of bytes. Pages are shared between images until one of them is written to, so a power cut
/// costs no copy of the disk; a page that is missing reads as zeros, so a preallocated file costs nothing.
///
/// Bytes of a page beyond the length are always zero.
#[derive(Clone, Default)]
pub(super) struct Image {
    len: u64,
    pages: BTreeMap<u64, Arc<Page>>,
}

impl Image {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Reads what lies in the file from `offset` on, and returns how much that was.
    pub(super) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let available = self.len.saturating_sub(offset);
        let count = usize::try_from(available).unwrap_or(usize::MAX).min(buf.len());
        let buf = buf.get_mut(..count).unwrap_or_default();
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let (page, within) = place(offset + done as u64);
            let piece = rest.len().min(PAGE_BYTES - within);
            match self.pages.get(&page) {
                Some(page) => rest[..piece].copy_from_slice(&page[within..within + piece]),
                None => rest[..piece].fill(0),
            }
            done += piece;
        }
        count
    }

    /// Writes `bytes` at `offset`, extending the image where needed. The end must fit a `u64`.
    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        let mut rest = bytes;
        let mut position = offset;
        while !rest.is_empty() {
            let (page, within) = place(position);
            let (piece, after) = rest.split_at(rest.len().min(PAGE_BYTES - within));
            let page = self.pages.entry(page).or_insert_with(|| Arc::new([0; PAGE_BYTES]));
            Arc::make_mut(page)[within..within + piece.len()].copy_from_slice(piece);
            position += piece.len() as u64;
            rest = after;
        }
        if !bytes.is_empty() {
            self.len = self.len.max(position);
        }
    }

    /// Cuts the image, or extends it with zeros.
    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let (last, within) = place(len);
            self.pages.split_off(&(last + 1));
            if let Some(page) = self.pages.get_mut(&last) {
                Arc::make_mut(page)[within..].fill(0);
            }
        }
        self.len = len;
    }

    /// Flips one bit of the byte at `offset`, if there is one.
    pub(super) fn flip(&mut self, offset: u64, mask: u8) {
        let mut byte = [0];
        if self.read(&mut byte, offset) == 1 {
            self.write(offset, &[byte[0] ^ mask]);
        }
    }

    /// All bytes, unless a hole makes them more than memory holds.
    pub(super) fn to_vec(&self) -> io::Result<Vec<u8>> {
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len)?;
        bytes.resize(len, 0);
        self.read(&mut bytes, 0);
        Ok(bytes)
    }
}

/// The page of an offset, and where in the page it lies.
fn place(offset: u64) -> (u64, usize) {
    (offset / PAGE_BYTES as u64, (offset % PAGE_BYTES as u64) as usize)
}
