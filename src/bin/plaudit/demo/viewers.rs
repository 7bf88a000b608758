//! The viewers of the demo: an endless sequence of requests to like or unlike, and whether a recovered store holds
//! exactly what they come to.
//!
//! Each request has a time of its own, so sending it again does nothing, also late. The number of requests sent is
//! itself a counter, set in the batch of the requests that it counts: a recovered store must hold what exactly so many
//! come to, and that is no less than what was acknowledged.

use std::collections::HashMap;

use plaudit::{Batch, Counters, Store};

use super::audit::Verdict;
use super::likes::{Likes, REGIONS, VIDEOS};
use crate::failure::Failure;

/// The namespace of the likes.
pub(crate) const NAMESPACE: &str = "likes.viewers";

const REQUESTS_NAMESPACE: &str = "likes.requests";
const REQUESTS_KEY: &str = "sent";

/// How many viewers there are, and how many videos they watch. Few enough that a long demo has room for all likes.
const VIEWERS: usize = 1_000;
const WATCHED: usize = 1_000;

/// Requests in one atomic batch.
const BATCH: u64 = 64;

/// Each batch sends every fourth request of the one before it again.
const SENT_AGAIN_EVERY: usize = 4;

/// After a crash so many are sent again, as from a queue that does not know which of them got through.
const SENT_AGAIN_AFTER_A_KILL: u64 = 160 * BATCH;

/// The time of the first request; each later one is a millisecond later.
const START_MS: u64 = 1_700_000_000_000;

const _: () = assert!(WATCHED <= VIDEOS);

struct Request {
    video: usize,
    viewer: usize,
    liked: bool,
    time_ms: u64,
}

impl Request {
    /// The request of this number, from 0.
    fn number(likes: &Likes, index: u64) -> Self {
        // As the thread behind those that count.
        let (video, random) = likes.draw(REGIONS.len(), index);
        let viewer = (random >> 8) as usize % VIEWERS;
        Self { video: video % WATCHED, viewer, liked: !(random as u8).is_multiple_of(4), time_ms: START_MS + index }
    }
}

/// The namespaces of a store that is open.
pub(crate) struct Viewers<'a> {
    sequence: &'a Likes,
    likes: plaudit::Likes,
    requests: Counters,
}

impl<'a> Viewers<'a> {
    pub(crate) fn new(store: &Store, sequence: &'a Likes) -> Result<Self, Failure> {
        let (likes, requests) = (store.likes(NAMESPACE)?, store.counters(REQUESTS_NAMESPACE)?);
        Ok(Self { sequence, likes, requests })
    }

    /// Sends the last requests before this one again, and tells of nothing.
    pub(crate) fn send_again(&self, batch: &mut Batch, next: u64) -> Result<(), Failure> {
        for start in (next.saturating_sub(SENT_AGAIN_AFTER_A_KILL)..next).step_by(BATCH as usize) {
            for index in start..start + BATCH {
                self.gather(batch, index);
            }
            batch.commit()?;
        }
        Ok(())
    }

    /// Sends the next requests in one batch. Answers its epoch, and how many were sent then.
    pub(crate) fn send(&self, batch: &mut Batch, next: u64) -> Result<(u64, u64), Failure> {
        let sent = next + BATCH;
        for index in next..sent {
            self.gather(batch, index);
        }
        for index in (next.saturating_sub(BATCH)..next).step_by(SENT_AGAIN_EVERY) {
            self.gather(batch, index);
        }
        batch.set(&self.requests, REQUESTS_KEY, i64::try_from(sent).unwrap_or(i64::MAX));
        Ok((batch.commit()?.epoch(), sent))
    }

    fn gather(&self, batch: &mut Batch, index: u64) {
        let Request { video, viewer, liked, time_ms } = Request::number(self.sequence, index);
        let gather = if liked { Batch::like_at } else { Batch::unlike_at };
        gather(batch, &self.likes, self.sequence.key(video), viewer as u64, time_ms);
    }

    /// How many requests the store holds.
    fn sent(&self) -> Result<u64, Failure> {
        Ok(u64::try_from(self.requests.get(REQUESTS_KEY)?).unwrap_or(0))
    }

    /// Which viewer likes which video, by [`place`], how often each video says that it is liked, and how many likes
    /// there are that no request was sent for.
    fn recovered(&self) -> Result<(Vec<bool>, Vec<u64>, u64), Failure> {
        let videos: HashMap<&[u8], usize> = (0..WATCHED).map(|video| (self.sequence.key(video), video)).collect();
        let (mut liked, mut counts, mut stray) = (vec![false; WATCHED * VIEWERS], vec![0; WATCHED], 0);
        for edge in self.likes.edges() {
            let (video, liker) = edge?;
            let viewer = liker.viewer.as_u64().and_then(|viewer| usize::try_from(viewer).ok());
            match (videos.get(video.as_ref()), viewer.filter(|viewer| *viewer < VIEWERS)) {
                (Some(video), Some(viewer)) => liked[place(*video, viewer)] = true,
                _ => stray += 1,
            }
        }
        for entry in self.likes.iter() {
            let (video, count) = entry?;
            match videos.get(video.as_ref()) {
                Some(video) => counts[*video] = count,
                None => stray += count,
            }
        }
        Ok((liked, counts, stray))
    }
}

fn place(video: usize, viewer: usize) -> usize {
    video * VIEWERS + viewer
}

/// What the first requests come to.
pub(crate) struct Outcome {
    /// How many there are, those apart that were sent again.
    pub(crate) requests: u64,
    pub(crate) new_likes: u64,
    pub(crate) taken_back: u64,
    liked: Vec<bool>,
}

impl Outcome {
    pub(crate) fn new() -> Self {
        Self { requests: 0, new_likes: 0, taken_back: 0, liked: vec![false; WATCHED * VIEWERS] }
    }

    /// How many of what was sent changed nothing, but for what is sent again after a kill.
    pub(crate) fn absorbed(&self) -> u64 {
        let sent_again = self.requests.saturating_sub(BATCH) / SENT_AGAIN_EVERY as u64;
        self.requests + sent_again - self.new_likes - self.taken_back
    }

    /// Compares a recovered store with as many requests as it says that it holds.
    pub(crate) fn check(&mut self, viewers: &Viewers<'_>, acknowledged: u64) -> Result<Verdict, Failure> {
        let sent = viewers.sent()?;
        self.advance(viewers.sequence, sent);
        let (liked, counts, stray) = viewers.recovered()?;
        let mut verdict = self.compare(&liked, &counts);
        verdict.double_counted += stray;
        verdict.lost = verdict.lost.max(acknowledged.saturating_sub(sent));
        Ok(verdict)
    }

    /// Goes on to the first `requests`; from the start again when there are fewer than before.
    fn advance(&mut self, sequence: &Likes, requests: u64) {
        if requests < self.requests {
            *self = Self::new();
        }
        for index in self.requests..requests {
            let Request { video, viewer, liked, .. } = Request::number(sequence, index);
            let before = std::mem::replace(&mut self.liked[place(video, viewer)], liked);
            self.new_likes += u64::from(liked && !before);
            self.taken_back += u64::from(before && !liked);
        }
        self.requests = requests;
    }

    /// Every like must be there, no other, and each video's count must be that of its likes.
    fn compare(&self, liked: &[bool], counts: &[u64]) -> Verdict {
        let mut verdict = Verdict::default();
        for (found, expected) in liked.iter().zip(&self.liked) {
            verdict.lost += u64::from(*expected && !found);
            verdict.double_counted += u64::from(*found && !expected);
        }
        for (count, liked) in counts.iter().zip(liked.chunks(VIEWERS)) {
            let likes = liked.iter().filter(|liked| **liked).count() as u64;
            verdict.lost += likes.saturating_sub(*count);
            verdict.double_counted += count.saturating_sub(likes);
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(liked: &[bool]) -> Vec<u64> {
        liked.chunks(VIEWERS).map(|liked| liked.iter().filter(|liked| **liked).count() as u64).collect()
    }

    #[test]
    fn a_like_or_a_count_too_many_or_too_few_is_seen() {
        let mut outcome = Outcome::new();
        outcome.advance(&Likes::new(3), 50_000);
        assert_eq!(outcome.new_likes - outcome.taken_back, counts(&outcome.liked).iter().sum::<u64>());
        assert!(outcome.taken_back > 0 && outcome.absorbed() > outcome.taken_back);
        let (mut liked, mut found) = (outcome.liked.clone(), counts(&outcome.liked));
        assert_eq!(outcome.compare(&liked, &found), Verdict::default());

        found[5] += 2;
        assert_eq!(outcome.compare(&liked, &found), Verdict { lost: 0, double_counted: 2 });
        liked.iter_mut().take(10).for_each(|liked| *liked = !*liked);
        let wrong = outcome.liked.iter().take(10).filter(|liked| **liked).count() as u64;
        assert!(wrong > 0, "the first video is a popular one");
        let expected = Verdict { lost: wrong, double_counted: 10 - wrong };
        assert_eq!(outcome.compare(&liked, &counts(&liked)), expected);
    }

    #[test]
    fn going_back_applies_again_from_the_start() {
        let likes = Likes::new(3);
        let (mut forth_and_back, mut straight) = (Outcome::new(), Outcome::new());
        forth_and_back.advance(&likes, 5_000);
        forth_and_back.advance(&likes, 1_000);
        straight.advance(&likes, 1_000);
        assert!(forth_and_back.liked == straight.liked && forth_and_back.new_likes == straight.new_likes);
    }
}
