//! How fast are likes, of which some are sent again and some are taken back?

use std::time::{Duration, Instant};

use super::{Entry, entries};
use crate::load::{Event, events, likes_after};
use crate::machine::temp_dir;
use crate::measure::Compared;
use crate::peer::{Liking, Peer, Sync};
use crate::plot::Plot;
use crate::report::{Results, Section, compared_table, peer_median, plaudit_median};
use crate::{peers, scale};

const ITEMS: u64 = 100_000;
const THREADS: [usize; 2] = [1, 2];
const WARM_UP: u64 = 500_000;
const EVENTS: u64 = 200_000;
const ROUNDS: usize = 7;

/// A peer whose rounds took so long together gets no further one, but [`LEAST_ROUNDS`].
const ROUNDS_TIME: Duration = Duration::from_secs(15);
const LEAST_ROUNDS: usize = 3;

/// Events of a call while likes are warmed up.
const WARM_BATCH: usize = 1_000;

pub(crate) fn ask() -> Section {
    let items = scale::count(ITEMS, 100);
    let mut results = Results::new();
    let streams = THREADS.map(|threads| Stream::new(items, threads));
    for entry in entries() {
        println!("  {}", entry.name);
        let compared: Vec<Compared> = streams.iter().filter_map(|stream| stream.compare(&entry)).collect();
        if compared.len() == THREADS.len() {
            results.push((entry.name, compared));
        }
    }
    let columns = THREADS.map(|threads| format!("{threads} thread{}", if threads == 1 { "" } else { "s" }));
    Section {
        title: "Likes",
        method: format!(
            "Likes of {items} items (Zipf 0.99), of which 10 % repeat one of the last 65,536 events of their thread and \
             5 % take one back. Each peer must know the likers and the count of every item. No call waits for the disk, \
             as for counting. plaudit and one peer, both new, take the same events: {WARM_UP} as a warm-up, \
             then in turns {ROUNDS} rounds of {EVENTS}, or only {LEAST_ROUNDS} where the peer's take more than \
             {ROUNDS_TIME:?} together. The number of likes of every item is added up at the end and compared with that \
             of the events."
        ),
        tables: vec![compared_table("Likes", &columns, "plaudit", &results)],
        plots: vec![plot(&results)],
    }
}

/// What each thread sends.
struct Stream {
    items: u64,
    threads: Vec<Vec<Event>>,
    warm_up: usize,
    each: usize,
}

impl Stream {
    fn new(items: u64, threads: usize) -> Self {
        let of_thread = |events: u64| scale::count(events, 1_000) as usize / threads;
        let (warm_up, each) = (of_thread(WARM_UP), of_thread(EVENTS));
        let count = warm_up + scale::rounds(ROUNDS) * each;
        let threads = (0..threads).map(|thread| events(items, count, thread)).collect();
        Self { items, threads, warm_up, each }
    }

    /// `None` for a peer that has no likes.
    fn compare(&self, entry: &Entry) -> Option<Compared> {
        let dirs = [temp_dir(), temp_dir()];
        let peer = entry.peer.liking(dirs[0].path(), Sync::Relaxed)?;
        let plaudit = peers::PLAUDIT.liking(dirs[1].path(), Sync::Relaxed)?;
        let warm_up = 0..self.warm_up;
        self.run(&*plaudit, warm_up.clone(), WARM_BATCH);
        self.run(&*peer, warm_up, WARM_BATCH);
        let (mut compared, mut taken, mut end) = (Compared::default(), Duration::ZERO, self.warm_up);
        for round in 0..scale::rounds(ROUNDS) {
            if round >= LEAST_ROUNDS && taken >= ROUNDS_TIME {
                break;
            }
            let range = end..end + self.each;
            end = range.end;
            compared.plaudit.push(self.run(&*plaudit, range.clone(), 1));
            let started = Instant::now();
            compared.peer.push(self.run(&*peer, range, entry.batch));
            taken += started.elapsed();
        }
        let likes = likes_after(self.threads.iter().flat_map(|events| &events[..end]));
        self.check(&*plaudit, "plaudit", likes);
        self.check(&*peer, &entry.name, likes);
        Some(compared)
    }

    /// Events per second.
    fn run(&self, liking: &dyn Liking, range: std::ops::Range<usize>, batch: usize) -> f64 {
        // As many as one call of counting has.
        const CHUNK: usize = 1_000;
        let started = Instant::now();
        std::thread::scope(|scope| {
            for events in &self.threads {
                let events = &events[range.clone()];
                scope.spawn(move || {
                    let hand = liking.hand(batch);
                    events.chunks(CHUNK).for_each(hand);
                });
            }
        });
        let seconds = started.elapsed().as_secs_f64();
        liking.sync();
        (range.len() * self.threads.len()) as f64 / seconds
    }

    fn check(&self, liking: &dyn Liking, name: &str, expected: u64) {
        let likes: u64 = (0..self.items).map(|item| liking.count(item as u32)).sum();
        assert_eq!(likes, expected, "{name} has a wrong number of likes");
    }
}

fn plot(results: &Results) -> Plot {
    let mut bars = vec![("plaudit".to_owned(), plaudit_median(results, 1) / 1e3)];
    bars.extend(results.iter().map(|(name, all)| (name.clone(), peer_median(&all[1]) / 1e3)));
    Plot::Bars { title: "Likes on 2 threads".to_owned(), unit: "thousand events per second".to_owned(), bars }
}
