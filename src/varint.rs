//! Integers in as few bytes as they need.
//!
//! An unsigned integer is LEB128: seven bits a byte, low bits first, the high bit set on every byte but the last.
//! A signed one is mapped to unsigned first, so that small magnitudes of either sign stay short (zigzag).
//! Each value has exactly one encoding; a longer one is refused.

/// The most bytes that one integer takes.
pub(crate) const MAX_BYTES: usize = 10;

/// Appends `value`.
#[inline]
pub(crate) fn put_u64(out: &mut Vec<u8>, value: u64) {
    if value < 0x80 {
        out.push(value as u8);
        return;
    }
    // Built aside and appended at once: one check of the vector's capacity instead of one a byte.
    let mut bytes = [0; MAX_BYTES];
    let mut len = 0;
    let mut rest = value;
    for byte in &mut bytes {
        len += 1;
        if rest < 0x80 {
            *byte = rest as u8;
            break;
        }
        *byte = rest as u8 | 0x80;
        rest >>= 7;
    }
    out.extend_from_slice(&bytes[..len]);
}

/// Appends `value` in zigzag order.
#[inline]
pub(crate) fn put_i64(out: &mut Vec<u8>, value: i64) {
    put_u64(out, zigzag(value));
}

/// The unsigned integer that stands for `value`.
#[inline]
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The signed integer that `folded` stands for.
#[inline]
pub(crate) fn unzigzag(folded: u64) -> i64 {
    (folded >> 1) as i64 ^ -((folded & 1) as i64)
}

/// Reads the integer at `*at` and moves `*at` behind it. `None`, and `*at` unmoved, when the bytes end within
/// it, when it is longer than it need be, or when it does not fit 64 bits.
#[inline]
pub(crate) fn get_u64(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let rest = bytes.get(*at..)?;
    let first = *rest.first()?;
    if first < 0x80 {
        *at += 1;
        return Some(u64::from(first));
    }
    let mut value = u64::from(first & 0x7f);
    for (index, &byte) in rest.iter().enumerate().take(MAX_BYTES).skip(1) {
        let last = byte < 0x80;
        let over_long = last && byte == 0;
        let too_large = index == MAX_BYTES - 1 && byte > 1;
        if over_long || too_large {
            return None;
        }
        value |= u64::from(byte & 0x7f) << (7 * index);
        if last {
            *at += index + 1;
            return Some(value);
        }
    }
    None
}

/// Reads a signed integer, under the rules of [`get_u64`].
#[inline]
pub(crate) fn get_i64(bytes: &[u8], at: &mut usize) -> Option<i64> {
    get_u64(bytes, at).map(unzigzag)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn unsigned(value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_u64(&mut out, value);
        out
    }

    fn signed(value: i64) -> Vec<u8> {
        let mut out = Vec::new();
        put_i64(&mut out, value);
        out
    }

    #[test]
    fn encodings_are_those_of_leb128_and_zigzag() {
        assert_eq!(unsigned(0), [0]);
        assert_eq!(unsigned(127), [0x7f]);
        assert_eq!(unsigned(128), [0x80, 1]);
        assert_eq!(unsigned(300), [0xac, 2]);
        assert_eq!(unsigned(u64::MAX), [255, 255, 255, 255, 255, 255, 255, 255, 255, 1]);
        assert_eq!(signed(-1), [1]);
        assert_eq!(signed(1), [2]);
        assert_eq!(signed(i64::MIN), unsigned(u64::MAX));
    }

    #[test]
    fn what_is_over_long_too_large_or_cut_off_is_refused_and_does_not_move() {
        let refused: [&[u8]; 6] = [
            &[],
            &[0x80],
            &[0x80, 0],
            &[0xff, 0x80, 0],
            &[255, 255, 255, 255, 255, 255, 255, 255, 255, 2],
            &[128, 128, 128, 128, 128, 128, 128, 128, 128, 129, 1],
        ];
        for bytes in refused {
            let mut at = 0;
            assert_eq!((get_u64(bytes, &mut at), at), (None, 0), "{bytes:?}");
        }
        assert_eq!(get_u64(&[1], &mut 2), None);
    }

    proptest! {
        #[test]
        fn every_integer_comes_back(shift in 0u32..64, value: u64) {
            let value = value >> shift;
            let (bytes, mut at) = (unsigned(value), 0);
            prop_assert_eq!(get_u64(&bytes, &mut at), Some(value));
            prop_assert_eq!(at, bytes.len());
            let value = value as i64;
            let (bytes, mut at) = (signed(value), 0);
            prop_assert_eq!(get_i64(&bytes, &mut at), Some(value));
            prop_assert_eq!(at, bytes.len());
        }

        #[test]
        fn what_is_accepted_encodes_to_the_same_bytes(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut at = 0;
            if let Some(value) = get_u64(&bytes, &mut at) {
                prop_assert_eq!(&unsigned(value)[..], &bytes[..at]);
            }
        }
    }
}
