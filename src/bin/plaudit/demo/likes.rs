//! The likes of the demo: for each thread an endless sequence of videos that anyone can compute again.

use std::io::Write as _;

/// How many videos there are.
pub(crate) const VIDEOS: usize = 100_000;

/// One region for each counting thread; a namespace each.
pub(crate) const REGIONS: [&str; 4] = ["likes.eu", "likes.us", "likes.asia", "likes.africa"];

/// The skew of the popularity: the r-th most popular video gets likes in proportion to 1 / r^0.99.
const ZIPF_EXPONENT: f64 = 0.99;

/// `video-` and five digits.
const KEY_BYTES: usize = 11;

/// Relatively prime to [`VIDEOS`], so that multiplying by it scatters the popular videos over all numbers.
const SCATTER: usize = 48_271;

/// Makes the most popular video another one than number 0.
const OFFSET: usize = 31_337;

const _: () = assert!(VIDEOS <= 100_000, "a key has five digits");

/// The videos and how often each is liked.
pub(crate) struct Likes {
    seed: u64,
    keys: Vec<[u8; KEY_BYTES]>,
    /// Walker's alias method: each column is split between its own video and one other, so that drawing from
    /// any distribution takes one look. Michael D. Vose, "A linear algorithm for generating random numbers
    /// with a given distribution" (1991).
    columns: Vec<Column>,
}

#[derive(Clone, Copy)]
struct Column {
    /// The share of the column's own video, in units of 2^-32.
    own_share: u32,
    other: u32,
}

impl Likes {
    pub(crate) fn new(seed: u64) -> Self {
        let keys = (0..VIDEOS).map(key_of).collect();
        Self { seed, keys, columns: alias_table(&zipf_weights()) }
    }

    /// The number of the video that `thread` likes as its `index`-th, from 0.
    #[inline]
    pub(crate) fn video(&self, thread: usize, index: u64) -> usize {
        self.draw(thread, index).0
    }

    /// The same, and a random number.
    #[inline]
    pub(crate) fn draw(&self, thread: usize, index: u64) -> (usize, u64) {
        let random = mix(self.seed.wrapping_add((thread as u64) << 56).wrapping_add(index));
        let own = ((random >> 32) * VIDEOS as u64) >> 32;
        let column = self.columns[own as usize];
        let video = if random as u32 <= column.own_share { own as usize } else { column.other as usize };
        (video, mix(random))
    }

    /// The key of a video.
    #[inline]
    pub(crate) fn key(&self, video: usize) -> &[u8] {
        &self.keys[video]
    }
}

fn key_of(video: usize) -> [u8; KEY_BYTES] {
    let mut key = *b"video-00000";
    // The buffer has room for the five digits, and writing to a slice fails for no other reason.
    let _ = write!(&mut key[6..], "{:05}", (video * SCATTER + OFFSET) % VIDEOS);
    key
}

fn zipf_weights() -> Vec<f64> {
    let weights: Vec<f64> = (1..=VIDEOS).map(|rank| (rank as f64).powf(-ZIPF_EXPONENT)).collect();
    let total: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / total * VIDEOS as f64).collect()
}

/// Fills every column up to an average of 1: videos above it give what columns below it lack.
fn alias_table(weights: &[f64]) -> Vec<Column> {
    let mut left = weights.to_vec();
    let mut columns = vec![Column { own_share: u32::MAX, other: 0 }; weights.len()];
    let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..weights.len()).partition(|at| weights[*at] < 1.0);
    while let (Some(below), Some(above)) = (small.pop(), large.pop()) {
        columns[below] = Column { own_share: (left[below] * f64::from(u32::MAX)) as u32, other: above as u32 };
        left[above] -= 1.0 - left[below];
        if left[above] < 1.0 { small.push(above) } else { large.push(above) }
    }
    columns
}

/// The finalizer of splitmix64 over a counter: random access into a random sequence.
#[inline]
fn mix(counter: u64) -> u64 {
    let mut z = counter.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_video_has_its_own_key() {
        let likes = Likes::new(1);
        let mut keys: Vec<_> = likes.keys.clone();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), VIDEOS);
        assert!(keys.iter().all(|key| key.starts_with(b"video-")));
    }

    #[test]
    fn likes_follow_the_zipf_weights() {
        let (likes, drawn) = (Likes::new(7), 2_000_000u64);
        let mut counts = vec![0u64; VIDEOS];
        for index in 0..drawn {
            counts[likes.video(1, index)] += 1;
        }
        for (video, weight) in zipf_weights().iter().enumerate().take(50) {
            let expected = weight * drawn as f64 / VIDEOS as f64;
            let off = (counts[video] as f64 - expected).abs();
            assert!(off < 6.0 * expected.sqrt(), "video {video}: {} likes, {expected:.0} expected", counts[video]);
        }
    }
}
