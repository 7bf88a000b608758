//! What is counted: keys, the skew of their choice, and streams of likes. Seeded, so the same in every run.

use std::collections::HashSet;

/// A key as a service has it: an id of 16 bytes.
pub(crate) type Key = [u8; 16];

/// The key with this number. Neighbouring numbers have keys that are far apart.
#[inline]
pub(crate) fn key(number: u32) -> Key {
    let number = u64::from(number);
    let mut key = [0; 16];
    // An odd factor makes it a permutation, so that no two keys are equal.
    key[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// All key numbers in the order of their keys: the order that is best for trees, and the same for hash tables.
pub(crate) fn in_key_order(keys: u64) -> Vec<u32> {
    let mut numbers: Vec<u32> = (0..keys as u32).collect();
    numbers.sort_unstable_by_key(|number| key(*number));
    numbers
}

/// splitmix64: small, seeded, and good enough to choose keys with.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// In 0..1.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// How often each key is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skew {
    /// All keys alike.
    Uniform,
    /// Zipf's distribution with exponent 0.99, which is YCSB's.
    Zipf,
    /// One key only.
    Hot,
}

impl Skew {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Zipf => "Zipf 0.99",
            Self::Hot => "one hot key",
        }
    }

    /// A table of key numbers below `keys`, so that choosing one costs a sequential read.
    pub(crate) fn samples(self, keys: u64, count: usize, seed: u64) -> Vec<u32> {
        let mut random = Random::new(seed);
        match self {
            Self::Uniform => (0..count).map(|_| (random.next() % keys) as u32).collect(),
            Self::Zipf => {
                let zipf = Zipf::new(keys);
                (0..count).map(|_| zipf.sample(random.unit())).collect()
            }
            Self::Hot => vec![0; count],
        }
    }
}

/// The approximation of Gray et al., "Quickly Generating Billion-Record Synthetic Databases" (1994), as in YCSB.
struct Zipf {
    keys: f64,
    alpha: f64,
    zeta: f64,
    eta: f64,
}

const THETA: f64 = 0.99;

impl Zipf {
    fn new(keys: u64) -> Self {
        let zeta_of = |n: u64| (1..=n).map(|i| (i as f64).powf(-THETA)).sum::<f64>();
        let (n, zeta) = (keys as f64, zeta_of(keys));
        let eta = (1.0 - (2.0 / n).powf(1.0 - THETA)) / (1.0 - zeta_of(2.min(keys)) / zeta);
        Self { keys: n, alpha: 1.0 / (1.0 - THETA), zeta, eta }
    }

    fn sample(&self, unit: f64) -> u32 {
        let scaled = unit * self.zeta;
        let rank = if scaled < 1.0 {
            0.0
        } else if scaled < 1.0 + 0.5_f64.powf(THETA) {
            1.0
        } else {
            self.keys * (self.eta * unit - self.eta + 1.0).powf(self.alpha)
        };
        (rank as u32).min(self.keys as u32 - 1)
    }
}

/// A viewer likes an item, or does not any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) item: u32,
    pub(crate) viewer: u64,
    pub(crate) liked: bool,
}

impl Event {
    /// Item and viewer in one key, for stores that know only keys.
    pub(crate) fn edge(&self) -> [u8; 24] {
        let mut edge = [0; 24];
        edge[..16].copy_from_slice(&key(self.item));
        edge[16..].copy_from_slice(&self.viewer.to_be_bytes());
        edge
    }
}

const DUPLICATES: f64 = 0.10;
const UNLIKES: f64 = 0.05;

/// Who repeats or takes back does so with one of this many events before.
const RECENT: usize = 1 << 16;

/// Likes of items chosen by Zipf's distribution, by viewers of this thread only: 10 % repeat an earlier like, and 5 %
/// take one back.
pub(crate) fn events(items: u64, count: usize, thread: usize) -> Vec<Event> {
    const VIEWERS: u64 = 10_000_000;
    let mut random = Random::new(0x11ce + thread as u64);
    let zipf = Zipf::new(items);
    let mut events: Vec<Event> = Vec::with_capacity(count);
    for _ in 0..count {
        let kind = random.unit();
        let earlier = events.len().saturating_sub(1 + (random.next() as usize) % RECENT);
        let event = match events.get(earlier) {
            Some(earlier) if kind < UNLIKES => Event { liked: false, ..*earlier },
            Some(earlier) if kind < UNLIKES + DUPLICATES => Event { liked: true, ..*earlier },
            _ => {
                let viewer = (random.next() % VIEWERS) << 8 | thread as u64;
                Event { item: zipf.sample(random.unit()), viewer, liked: true }
            }
        };
        events.push(event);
    }
    events
}

/// How many likes there must be after all these events.
pub(crate) fn likes_after<'a>(events: impl Iterator<Item = &'a Event>) -> u64 {
    let mut likes = HashSet::new();
    for Event { item, viewer, liked } in events {
        if *liked {
            likes.insert((*item, *viewer));
        } else {
            likes.remove(&(*item, *viewer));
        }
    }
    likes.len() as u64
}
