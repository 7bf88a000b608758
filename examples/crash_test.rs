//! How a service tests itself against crashes: a like button on a simulated disk, whose power is cut at every
//! operation.
//!
//! ```console
//! cargo run --features sim --example crash_test
//! ```
//!
//! The button must count each viewer once for a video, whatever happens: a like that was answered is never lost, and
//! one that was not answered may be sent again. Take the two changes of [`LikeButton::like`] out of their batch, or
//! answer before the receipt is durable, and the test says which cut shows it.

use std::collections::BTreeSet;

use plaudit::storage::sim::{SimClock, SimDisk, Survival};
use plaudit::{
    BatchReceipt, CounterOptions, Counters, Environment, Error, Options, Result, SnapshotHome, Stepped, Store,
};

/// The service: counts likes, and each viewer once.
struct LikeButton {
    store: Store,
    likes: Counters,
    /// 1 for each viewer and video. The bound is what refuses a second like.
    liked: Counters,
}

impl LikeButton {
    fn open(environment: Environment) -> Result<Self> {
        // Small segments, so that a short test has many of them. Sled knows no simulated disk.
        let options = Options { segment_bytes: 4_096, snapshot_home: SnapshotHome::File, ..Options::default() };
        let store = Store::open_in(environment, "/srv/likes", options)?;
        let once = CounterOptions { min: 0, max: 1, ..CounterOptions::default() };
        let (likes, liked) = (store.counters("likes")?, store.counters_with("liked", once)?);
        Ok(Self { store, likes, liked })
    }

    /// Counts a like. Its caller answers the viewer once the receipt is durable; `None` is a like that is there
    /// already, and may be answered after a sync.
    fn like(&self, viewer: &str, video: &str) -> Result<Option<BatchReceipt>> {
        let mut batch = self.store.batch();
        batch.add(&self.liked, format!("{viewer} {video}"), 1).add(&self.likes, video, 1);
        match batch.commit() {
            Err(Error::OutOfBounds { .. }) => Ok(None),
            committed => committed.map(Some),
        }
    }
}

/// A viewer and a video.
type Like = (String, String);

/// What viewers do in the test: some like the same video again.
fn presses() -> Vec<Like> {
    let press = |n: u32| (format!("viewer-{}", n * 7 % 12), format!("video-{}", n % 5));
    (0..80).map(press).collect()
}

/// Runs the service until the power goes or all is done, and notes the likes that were answered.
fn serve(disk: &SimDisk, clock: &SimClock, answered: &mut BTreeSet<Like>) -> Result<()> {
    let button = LikeButton::open(Environment::simulated(disk, clock))?;
    let mut waiting = Vec::new();
    for (like, n) in presses().into_iter().zip(1..) {
        waiting.push((button.like(&like.0, &like.1)?, like));
        if n % 10 == 0 {
            // Here the test is the committer: it lets the group window pass, and steps until there is nothing to do.
            while let Stepped::Worked | Stepped::Pause(_) = step(&button.store, clock) {}
            waiting.retain(|(receipt, like)| {
                let is_durable = receipt.as_ref().is_some_and(BatchReceipt::is_durable);
                if is_durable {
                    answered.insert(like.clone());
                }
                !is_durable
            });
        }
        if n % 30 == 0 {
            button.store.compact()?;
        }
    }
    button.store.close()
}

/// Does one step, after the pause that the step before asked for.
fn step(store: &Store, clock: &SimClock) -> Stepped {
    let stepped = store.step();
    if let Stepped::Pause(rest) = stepped {
        clock.advance(rest);
    }
    stepped
}

/// What must hold on the disk that a cut left: nothing answered is lost, and both namespaces tell the same.
fn check(button: &LikeButton, answered: &BTreeSet<Like>, context: &str) -> Result<()> {
    for (viewer, video) in answered {
        let liked = button.liked.get(format!("{viewer} {video}"))?;
        assert_eq!(liked, 1, "{context}: {viewer} was told that the like of {video} is there");
    }
    for entry in &button.likes {
        let (video, likes) = entry?;
        let is_of_video = |key: &[u8]| key.ends_with(&video) && key[..key.len() - video.len()].ends_with(b" ");
        let liked: Result<Vec<_>> = button.liked.iter().collect();
        let viewers = liked?.iter().filter(|(key, _)| is_of_video(key)).count();
        assert_eq!(likes, viewers as i64, "{context}: likes and viewers of {}", video.escape_ascii());
    }
    Ok(())
}

fn main() -> Result<()> {
    let (mut cuts, mut likes) = (0, 0);
    let clock = SimClock::new();
    for survival in [Survival::Nothing, Survival::Everything, Survival::Prefix, Survival::Random] {
        for operation in 0.. {
            let (disk, mut answered) = (SimDisk::new(), BTreeSet::new());
            disk.cut_power_at(operation, survival, operation);
            let served = serve(&disk, &clock, &mut answered);
            if !disk.is_powered_off() {
                served?;
                break;
            }
            let context = format!("power cut in operation {operation}, {survival:?}");
            let disk = disk.power_cut(survival, operation);
            check(&LikeButton::open(Environment::simulated(&disk, &clock))?, &answered, &context)?;

            // Viewers who got no answer try again; so let all of them, and each must be counted once.
            likes += answered.len();
            serve(&disk, &clock, &mut answered)?;
            let button = LikeButton::open(Environment::simulated(&disk, &clock))?;
            let all: BTreeSet<Like> = presses().into_iter().collect();
            check(&button, &all, &context)?;
            let total: i64 = button.likes.iter().map(|entry| entry.map(|(_, likes)| likes)).sum::<Result<i64>>()?;
            assert_eq!(total, all.len() as i64, "{context}, after everybody tried again");
            cuts += 1;
        }
    }
    println!("{cuts} power cuts, {likes} likes answered before them, lost 0, counted twice 0");
    Ok(())
}
