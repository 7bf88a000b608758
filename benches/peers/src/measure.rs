//! Runs a peer for a while, beside plaudit, in turns.

use std::sync::Barrier;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::load::{Skew, in_key_order};
use crate::machine::temp_dir;
use crate::peer::{Counting, Peer, Sync};
use crate::peers::PLAUDIT;
use crate::scale;

/// Increments between two looks at the clock, where a call has fewer.
const CHUNK: usize = 1_000;

/// Increments of a call while counters are created.
const FILL_BATCH: usize = 10_000;

/// Choices of a table, used round and round; each slice goes on where the one before it ended.
const SAMPLES: u64 = 1 << 23;

/// Threads beyond this many start elsewhere in another's table.
const TABLES: usize = 4;

/// The key choices of every thread.
pub(crate) struct Load {
    tables: Vec<Vec<u32>>,
}

impl Load {
    pub(crate) fn new(skew: Skew, keys: u64) -> Self {
        let count = scale::count(SAMPLES, 100_000) as usize;
        Self { tables: (1..=TABLES).map(|seed| skew.samples(keys, count, seed as u64)).collect() }
    }

    pub(crate) fn of_thread(&self, thread: usize) -> impl Iterator<Item = u32> + '_ {
        self.tables[thread % TABLES].iter().copied().cycle()
    }

    /// Calls of `size` increments of a thread that made `before` already.
    fn chunks(&self, thread: usize, size: usize, before: u64) -> impl Iterator<Item = &[u32]> {
        let table = &self.tables[thread % TABLES];
        let chunks = table.len().div_ceil(size);
        let first = thread / TABLES * 7 + before as usize / size;
        table.chunks(size).cycle().skip(first % chunks)
    }
}

/// What all threads do in a slice.
#[derive(Clone, Copy)]
pub(crate) struct Work<'a> {
    pub(crate) load: &'a Load,
    pub(crate) threads: usize,
    /// Increments of a call.
    pub(crate) batch: usize,
    pub(crate) time: Duration,
    /// Ends earlier after this many on a thread.
    pub(crate) most: u64,
    /// From one look at the clock to the next, at the least.
    pub(crate) pace: Option<Duration>,
    /// What a thread does after each increment, which is a call then.
    pub(crate) between: Option<fn()>,
}

impl<'a> Work<'a> {
    pub(crate) fn new(load: &'a Load, threads: usize, batch: usize, time: Duration) -> Self {
        Self { load, threads, batch, time, most: u64::MAX, pace: None, between: None }
    }
}

/// A peer with what it has counted so far.
pub(crate) struct Opened {
    pub(crate) peer: &'static dyn Peer,
    pub(crate) counting: Box<dyn Counting>,
    sync: Sync,
    keys: u64,
    counted: u64,
    /// Dropped last.
    pub(crate) dir: TempDir,
}

/// What a slice counted, and in which time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ran {
    pub(crate) increments: u64,
    pub(crate) seconds: f64,
}

impl Ran {
    pub(crate) fn rate(self) -> f64 {
        self.increments as f64 / self.seconds
    }
}

impl Opened {
    /// An empty one.
    pub(crate) fn new(peer: &'static dyn Peer, sync: Sync) -> Self {
        let dir = temp_dir();
        Self { peer, counting: peer.counting(dir.path(), sync), sync, keys: 0, counted: 0, dir }
    }

    /// One with all the counters 0 to `keys`, each with value 1.
    pub(crate) fn filled(peer: &'static dyn Peer, sync: Sync, keys: u64) -> Self {
        let mut opened = Self::new(peer, sync);
        opened.fill(keys);
        opened
    }

    /// Creates the counters in the order of their keys, which suits trees.
    pub(crate) fn fill(&mut self, keys: u64) -> Ran {
        let numbers = in_key_order(keys);
        let started = Instant::now();
        let mut hand = self.counting.hand(FILL_BATCH);
        numbers.chunks(FILL_BATCH).for_each(|call| hand.add(call));
        hand.finish();
        let seconds = started.elapsed().as_secs_f64();
        drop(hand);
        self.counting.sync();
        self.counting.settle();
        self.keys = keys;
        self.counted += keys;
        Ran { increments: keys, seconds }
    }

    pub(crate) fn run(&mut self, work: &Work<'_>) -> Ran {
        let chunk = if self.sync == Sync::EachCall || work.pace.is_some() { work.batch } else { work.batch.max(CHUNK) };
        let (start, before) = (Barrier::new(work.threads), self.counted / work.threads as u64);
        let act = |thread: usize| {
            let mut hand = self.counting.hand(work.batch);
            start.wait();
            let started = Instant::now();
            let (mut done, mut due) = (0, started);
            for numbers in work.load.chunks(thread, chunk, before) {
                match work.between {
                    None => hand.add(numbers),
                    Some(between) => numbers.chunks(1).for_each(|one| {
                        hand.add(one);
                        between();
                    }),
                }
                done += numbers.len() as u64;
                if let Some(pace) = work.pace {
                    due += pace;
                    std::thread::sleep(due.saturating_duration_since(Instant::now()));
                }
                if done >= work.most || started.elapsed() >= work.time {
                    break;
                }
            }
            hand.finish();
            (started, Instant::now(), done)
        };
        let act = &act;
        let ran: Vec<(Instant, Instant, u64)> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..work.threads).map(|thread| scope.spawn(move || act(thread))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a load thread panicked")).collect()
        });
        let started = ran.iter().map(|(started, ..)| *started).min().expect("there are threads");
        let ended = ran.iter().map(|(_, ended, _)| *ended).max().expect("there are threads");
        let increments = ran.iter().map(|(.., done)| done).sum();
        self.counted += increments;
        // What is left to do must not run into the next one's slice.
        self.counting.settle();
        Ran { increments, seconds: (ended - started).as_secs_f64() }
    }

    /// For what was counted past `run`.
    pub(crate) fn has_counted(&mut self, increments: u64) {
        self.counted += increments;
    }

    /// Drops what it has in memory and opens it again from its directory, in this time.
    pub(crate) fn reopen(&mut self) -> Duration {
        // Closing is not in the time.
        self.counting = Box::new(Closed);
        let started = Instant::now();
        self.counting = self.peer.counting(self.dir.path(), self.sync);
        started.elapsed()
    }

    /// Every increment must be there, once.
    pub(crate) fn check(&self) {
        let sum = self.counting.sum(self.keys.max(1));
        assert_eq!(sum, self.counted, "{} has a wrong sum", self.peer.name());
    }
}

/// In the place of a peer that is just closed.
struct Closed;

impl Counting for Closed {
    fn hand(&self, _: usize) -> Box<dyn crate::peer::Hand + '_> {
        unreachable!("it is closed")
    }

    fn sync(&self) {}

    fn sum(&self, _: u64) -> u64 {
        unreachable!("it is closed")
    }
}

/// Rates of plaudit and of a peer, in turns.
#[derive(Debug, Clone, Default)]
pub(crate) struct Compared {
    pub(crate) plaudit: Vec<f64>,
    pub(crate) peer: Vec<f64>,
}

impl Compared {
    /// plaudit's rate divided by the peer's, of each round.
    pub(crate) fn ratio(&self) -> Spread {
        Spread::of(self.plaudit.iter().zip(&self.peer).map(|(plaudit, peer)| plaudit / peer))
    }
}

/// Figures of several rounds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        Self { median: figures[figures.len() / 2], least: figures[0], most: figures[figures.len() - 1] }
    }
}

/// Both do the same work in turns, after the same warm-up.
pub(crate) fn compare(
    plaudit: &mut Opened,
    peer: &mut Opened,
    work: &Work<'_>,
    batch: usize,
    rounds: usize,
) -> Compared {
    let of_peer = Work { batch, ..*work };
    plaudit.run(work);
    peer.run(&of_peer);
    let mut compared = Compared::default();
    for round in 0..rounds {
        // Each is first as often as the other.
        let first = (round % 2 == 1).then(|| peer.run(&of_peer));
        compared.plaudit.push(plaudit.run(work).rate());
        let ran = first.unwrap_or_else(|| peer.run(&of_peer));
        compared.peer.push(ran.rate());
    }
    compared
}

pub(crate) fn plaudit(sync: Sync, keys: u64) -> Opened {
    Opened::filled(&PLAUDIT, sync, keys)
}
