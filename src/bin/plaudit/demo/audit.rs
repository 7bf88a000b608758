//! Whether a recovered store holds exactly what was counted.
//!
//! The changes of one thread get epochs that never decrease, and recovery restores whole epochs up to some
//! point. So what a thread counted must be there as exactly its first `n` likes, where `n` is the sum of its
//! counters; and `n` must not be below what was acknowledged.

use std::collections::HashMap;

use plaudit::Counters;

use super::likes::{Likes, VIDEOS};
use crate::failure::Failure;

/// What is wrong, in likes. All is well when both are 0.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) lost: u64,
    pub(crate) double_counted: u64,
}

impl Verdict {
    pub(crate) fn add(&mut self, other: Self) {
        self.lost += other.lost;
        self.double_counted += other.double_counted;
    }
}

/// A thread's share of a recovered store.
pub(crate) struct Recovered {
    /// How many likes it holds.
    pub(crate) likes: u64,
    /// The value for each video.
    pub(crate) values: Vec<i64>,
    pub(crate) verdict: Verdict,
}

/// The counts that the first likes of one thread must have led to.
pub(crate) struct Expected {
    thread: usize,
    /// How many of the thread's likes are in `counts`.
    likes: u64,
    counts: Vec<i64>,
}

impl Expected {
    pub(crate) fn new(thread: usize) -> Self {
        Self { thread, likes: 0, counts: vec![0; VIDEOS] }
    }

    /// Compares a thread's recovered counters with the sequence of its likes.
    pub(crate) fn check(&mut self, counters: &Counters, likes: &Likes, acked: u64) -> Result<Recovered, Failure> {
        let videos: HashMap<&[u8], usize> = (0..VIDEOS).map(|video| (likes.key(video), video)).collect();
        let mut values = vec![0; VIDEOS];
        let (mut total, mut stray) = (0i128, 0);
        for entry in counters.iter() {
            let (key, value) = entry?;
            match videos.get(key.as_ref()) {
                Some(video) => values[*video] = value,
                None => stray += value.unsigned_abs(),
            }
            total += i128::from(value);
        }
        let total = u64::try_from(total).unwrap_or(0);
        self.advance(likes, total.saturating_sub(stray));
        let mut verdict = self.compare(&values);
        verdict.double_counted += stray;
        verdict.lost = verdict.lost.max(acked.saturating_sub(total));
        Ok(Recovered { likes: total, values, verdict })
    }

    /// Counts on to the first `likes` likes; from the start again when there are fewer than before.
    fn advance(&mut self, sequence: &Likes, likes: u64) {
        if likes < self.likes {
            *self = Self::new(self.thread);
        }
        for index in self.likes..likes {
            self.counts[sequence.video(self.thread, index)] += 1;
        }
        self.likes = likes;
    }

    fn compare(&self, recovered: &[i64]) -> Verdict {
        let mut verdict = Verdict::default();
        for (recovered, expected) in recovered.iter().zip(&self.counts) {
            verdict.lost += expected.saturating_sub(*recovered).max(0).unsigned_abs();
            verdict.double_counted += recovered.saturating_sub(*expected).max(0).unsigned_abs();
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_like_too_many_or_too_few_is_seen() {
        let likes = Likes::new(3);
        let mut expected = Expected::new(0);
        expected.advance(&likes, 10_000);
        let mut recovered = expected.counts.clone();
        assert_eq!(expected.compare(&recovered), Verdict::default());

        recovered[0] += 2;
        recovered[1] -= 1;
        assert_eq!(expected.compare(&recovered), Verdict { lost: 1, double_counted: 2 });
    }

    #[test]
    fn going_back_counts_again_from_the_start() {
        let likes = Likes::new(3);
        let (mut forth_and_back, mut straight) = (Expected::new(2), Expected::new(2));
        forth_and_back.advance(&likes, 5_000);
        forth_and_back.advance(&likes, 1_000);
        straight.advance(&likes, 1_000);
        assert_eq!(forth_and_back.counts, straight.counts);
    }
}
