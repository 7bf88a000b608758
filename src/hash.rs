//! The hash of what callers choose: keys and viewers. It is seeded by the store, so that nobody can choose many that
//! meet in one place.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};

use foldhash::SharedSeed;
use foldhash::fast::{FoldHasher, SeedableRandomState};

/// foldhash with both of its seeds secret.
///
/// It multiplies parts of a key with each other, after an exclusive or of each with a seed. With `FixedState` one of
/// these seeds is a constant of the library's: whoever knows it makes one factor zero, and so any number of keys of 9
/// to 16 bytes with the same hash.
#[derive(Debug, Clone)]
pub(crate) struct KeyState(SeedableRandomState);

impl KeyState {
    /// The same seed gives the same hashes, in every process.
    pub(crate) fn with_seed(seed: u64) -> Self {
        Self(SeedableRandomState::with_seed(seed, shared_seed(seed)))
    }
}

impl BuildHasher for KeyState {
    type Hasher = FoldHasher<'static>;

    #[inline]
    fn build_hasher(&self) -> FoldHasher<'static> {
        self.0.build_hasher()
    }
}

/// The library wants it for ever: one for each store that the process has opened, of 48 bytes.
fn shared_seed(seed: u64) -> &'static SharedSeed {
    static SEEDS: Mutex<BTreeMap<u64, &'static SharedSeed>> = Mutex::new(BTreeMap::new());
    let mut seeds = SEEDS.lock().unwrap_or_else(PoisonError::into_inner);
    seeds.entry(seed).or_insert_with(|| Box::leak(Box::new(SharedSeed::from_u64(seed))))
}

#[cfg(test)]
mod tests {
    use std::hash::Hasher;

    use super::*;

    fn hash(state: &KeyState, key: &[u8]) -> u64 {
        let mut hasher = state.build_hasher();
        hasher.write(key);
        hasher.finish()
    }

    #[test]
    fn a_seed_gives_the_same_hashes_each_time_and_another_seed_others() {
        let [one, again, other] = [1, 1, 2].map(KeyState::with_seed);
        for key in [&b"a"[..], b"key", b"a key of 16 byte", b"a key that is much longer than that"] {
            assert_eq!(hash(&one, key), hash(&again, key));
            assert_ne!(hash(&one, key), hash(&other, key));
        }
    }

    #[test]
    fn no_end_of_a_key_makes_all_keys_alike() {
        // What makes a factor zero with the constants of `FixedState`.
        let end = 0x3f84_d5b5_b547_0917_u64.to_le_bytes();
        let state = KeyState::with_seed(7);
        let hashes: Vec<u64> = (0..100_u64).map(|n| hash(&state, &[n.to_le_bytes(), end].concat())).collect();
        assert!(hashes.iter().all(|hash| hashes.iter().filter(|other| *other == hash).count() == 1));
    }
}
