//! A running digest over checksums and lengths.

/// Folds pairs of a CRC-32C and the length it covers into 64 bits, in order.
///
/// Each step is a bijection of the state for a given pair, and of the pair's checksum for a given state, so a
/// change of one pair always changes the result. It guards against damage, not against an adversary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Digest(u64);

impl Digest {
    pub(super) fn new(generation: u64) -> Self {
        Self(mix(generation))
    }

    pub(super) fn add(&mut self, checksum: u32, len: u64) {
        self.0 = mix(mix(self.0 ^ u64::from(checksum)) ^ len);
    }

    pub(super) fn value(self) -> u64 {
        self.0
    }
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood 2014).
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
