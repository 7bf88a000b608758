//! The counting process of the demo, the one that is killed.
//!
//! It tells its parent on standard output how far each thread is, one line at a time: for each thread
//! `counted` and `acknowledged`, numbers of likes from the start of the thread's sequence. The last thread sends the
//! requests of viewers.

use std::collections::VecDeque;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use plaudit::{Counters, Store};

use super::likes::{Likes, REGIONS};
use super::viewers::Viewers;
use crate::failure::Failure;
use crate::stores::StoreArg;

/// How many likes a thread counts between two looks at what is durable.
const LIKES_BETWEEN_LOOKS: u64 = 1_024;

/// How often the parent is told.
const REPORT_EVERY: Duration = Duration::from_millis(10);

/// Counts for `plaudit demo` until it is killed
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArg,
    #[arg(long)]
    seed: u64,
    /// Where each thread's sequence goes on, that of the viewers' requests last
    #[arg(long, value_delimiter = ',', required = true)]
    start: Vec<u64>,
}

/// How far one thread is.
struct Progress {
    counted: AtomicU64,
    acknowledged: AtomicU64,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let store = args.store.open_or_create()?;
    let likes = Likes::new(args.seed);
    let stop = AtomicBool::new(false);
    let regions = REGIONS.iter().take(args.start.len() - 1).map(|region| store.counters(region));
    let regions = regions.collect::<Result<Vec<_>, _>>()?;
    let viewers = Viewers::new(&store, &likes)?;
    let progress: Vec<Progress> = (args.start.iter())
        .map(|start| Progress { counted: AtomicU64::new(*start), acknowledged: AtomicU64::new(*start) })
        .collect();
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for (thread, (counters, progress)) in regions.iter().zip(&progress).enumerate() {
            let (store, likes, stop) = (&store, &likes, &stop);
            threads.push(scope.spawn(move || count(store, counters, likes, thread, progress, stop)));
        }
        if let Some(progress) = progress.last() {
            let (store, viewers, stop) = (&store, &viewers, &stop);
            threads.push(scope.spawn(move || like(store, viewers, progress, stop)));
        }
        let mut outcome = Ok(());
        while outcome.is_ok() && !threads.iter().any(|thread| thread.is_finished()) {
            thread::sleep(REPORT_EVERY);
            outcome = report(&progress);
        }
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            outcome = outcome.and(thread.join().unwrap_or(Err(Failure::Panicked)));
        }
        outcome
    })
}

/// Counts the thread's likes at full speed, one call for each. It never waits for durability: it looks now
/// and then at the epochs of some of its receipts.
fn count(
    store: &Store,
    counters: &Counters,
    likes: &Likes,
    thread: usize,
    progress: &Progress,
    stop: &AtomicBool,
) -> Result<(), Failure> {
    let mut undurable = Undurable::default();
    let mut counted = progress.counted.load(Ordering::Relaxed);
    while !stop.load(Ordering::Relaxed) {
        for _ in 1..LIKES_BETWEEN_LOOKS {
            counters.add(likes.key(likes.video(thread, counted)), 1)?;
            counted += 1;
        }
        let receipt = counters.add(likes.key(likes.video(thread, counted)), 1)?;
        counted += 1;
        undurable.counted(receipt.epoch(), counted, store, progress);
    }
    Ok(())
}

/// Sends the viewers' requests at full speed, as [`count`] does, after those that may have been lost in the crash.
fn like(store: &Store, viewers: &Viewers<'_>, progress: &Progress, stop: &AtomicBool) -> Result<(), Failure> {
    let (mut undurable, mut batch) = (Undurable::default(), store.batch());
    let mut sent = progress.counted.load(Ordering::Relaxed);
    viewers.send_again(&mut batch, sent)?;
    while !stop.load(Ordering::Relaxed) {
        let epoch;
        (epoch, sent) = viewers.send(&mut batch, sent)?;
        undurable.counted(epoch, sent, store, progress);
    }
    Ok(())
}

/// The epochs that a thread does not know to be durable, and how far it was in each.
#[derive(Default)]
struct Undurable {
    epochs: VecDeque<(u64, u64)>,
}

impl Undurable {
    /// Notes how far the thread is, and tells what is durable by now.
    fn counted(&mut self, epoch: u64, counted: u64, store: &Store, progress: &Progress) {
        self.epochs.push_back((epoch, counted));
        progress.counted.store(counted, Ordering::Relaxed);
        let durable_epoch = store.durable_epoch();
        while let Some((epoch, counted)) = self.epochs.front() {
            if *epoch > durable_epoch {
                break;
            }
            progress.acknowledged.store(*counted, Ordering::Relaxed);
            self.epochs.pop_front();
        }
    }
}

fn report(progress: &[Progress]) -> Result<(), Failure> {
    let mut line = String::new();
    for one in progress {
        // Acknowledged first: read the other way round it could be ahead of counted.
        let acknowledged = one.acknowledged.load(Ordering::Relaxed);
        let counted = one.counted.load(Ordering::Relaxed);
        line.push_str(&format!("{counted} {acknowledged} "));
    }
    line.push('\n');
    // One write for each line, and the kernel does not tear one this short.
    Ok(io::stdout().write_all(line.as_bytes())?)
}
