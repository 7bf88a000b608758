//! Does an item that ten million viewers like hold anyone up?
//!
//! One item with ten million likers: each call is timed by itself, like, unlike, `has_liked`, a page of `likers`, the
//! newest and from anywhere on. Then one thread likes that item, at 100,000 calls a second and as fast as it can,
//! while nothing else happens and while compactions run.
//!
//! Last, how long the walk that a snapshot makes holds the item's lock: `Likes::edges` takes the same steps, and the
//! time of a call that takes one is that of the lock and of a copy of what was found, so it is an upper bound.
//!
//! `PLAUDIT_BENCH_SCALE=0.01` shrinks everything for a quick check that it works.

mod support;

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;
use hdrhistogram::Histogram;
use plaudit::{Liker, Likes, Options, SnapshotHome, Store, Viewer};

use support::latency::{histogram, percentile, summary, time_each, time_while};
use support::likes::viewer;
use support::{Random, compact_for, scaled, scaled_time, verdict};

const LIKERS: u64 = 10_000_000;
const CALLS: u64 = 400_000;
const PAGES: u64 = 20_000;
const PAGE: usize = 50;
const PACE: Duration = Duration::from_micros(10);
const QUIET: Duration = Duration::from_secs(4);
const BUSY: Duration = Duration::from_secs(8);
const TARGET_CALL: Duration = Duration::from_micros(2);
const TARGET_PAGE: Duration = Duration::from_micros(100);
const TARGET_HOLD: Duration = Duration::from_millis(1);
const ITEM: &[u8] = b"the popular item";

fn main() {
    let mut criterion = support::criterion();
    for home in support::homes() {
        let dir = support::temp_dir();
        // Compacting only when asked.
        let options = Options { snapshot_home: home, compaction_threshold_bytes: u64::MAX, ..Options::default() };
        let store = Store::open_with(dir.path(), options).expect("a new store opens");
        let likes = store.likes("bench").expect("a namespace can be created");
        let mut popular = Popular::new(likes);
        store.sync().expect("the store can sync");
        if home == SnapshotHome::File {
            popular.measure(&mut criterion);
        }
        if support::is_list() {
            continue;
        }
        if home == SnapshotHome::File {
            popular.time_calls();
            popular.time_walk();
        }
        for pace in [Some(PACE), None] {
            popular.compare(&store, pace, home);
        }
    }
    criterion.final_summary();
}

/// The item, liked by the viewers with numbers below `likers`.
struct Popular {
    likes: Likes,
    likers: u64,
    /// When the first of them came, and how long it took until all had.
    since_ms: u64,
    span_ms: u64,
}

impl Popular {
    fn new(likes: Likes) -> Self {
        let mut popular = Self { likes, likers: scaled(LIKERS).max(10_000), since_ms: 0, span_ms: 0 };
        popular.like(0);
        popular.since_ms = popular.newest_ms();
        (1..popular.likers).for_each(|number| popular.like(number));
        popular.span_ms = popular.newest_ms() - popular.since_ms;
        popular
    }

    fn newest_ms(&self) -> u64 {
        self.likes.likers(ITEM, None, 1).expect("the store can be read")[0].time_ms
    }

    fn like(&self, number: u64) {
        black_box(self.likes.like(ITEM, viewer(number as u32)).expect("the store takes likes").value());
    }

    fn unlike(&self, number: u64) {
        black_box(self.likes.unlike(ITEM, viewer(number as u32)).expect("the store takes likes").value());
    }

    fn has_liked(&self, number: u64) -> bool {
        self.likes.has_liked(ITEM, viewer(number as u32)).expect("the store can be read")
    }

    fn page(&self, after: Option<&Liker>) -> usize {
        self.likes.likers(ITEM, after, PAGE).expect("the store can be read").len()
    }

    /// criterion's own figures.
    fn measure(&self, criterion: &mut Criterion) {
        let mut group = criterion.benchmark_group("popular item");
        let mut random = Random::new(1);
        group.bench_function("has_liked", |bencher| {
            bencher.iter(|| self.has_liked(random.next() % (self.likers * 2)));
        });
        group.bench_function("page", |bencher| bencher.iter(|| self.page(None)));
        group.finish();
    }

    /// Each call by itself.
    fn time_calls(&mut self) {
        let (calls, likers) = (scaled(CALLS), self.likers);
        let mut random = Random::new(2);
        report("like by a new viewer", TARGET_CALL, &time_each(calls, |number| self.like(likers + number)));
        self.likers += calls;
        let chosen: Vec<u64> = (0..calls).map(|_| random.next() % likers).collect();
        let of = |number: u64| chosen[number as usize];
        report("like that is there already", TARGET_CALL, &time_each(calls, |number| self.like(of(number))));
        report("has_liked, a liker", TARGET_CALL, &time_each(calls, |number| assert!(self.has_liked(of(number)))));
        let other = |number| u64::from(u32::MAX) - of(number);
        report("has_liked, another", TARGET_CALL, &time_each(calls, |number| assert!(!self.has_liked(other(number)))));
        report("unlike of any age", TARGET_CALL, &time_each(calls, |number| self.unlike(of(number))));
        report("like again", TARGET_CALL, &time_each(calls, |number| self.like(of(number))));
        self.time_at(&mut random, calls);
        let page = time_each(scaled(PAGES), |_| assert_eq!(self.page(None), PAGE));
        report("first page of likers", TARGET_PAGE, &page);
        let after: Vec<Liker> = (0..scaled(PAGES)).map(|_| self.any_place(&mut random)).collect();
        let page = time_each(scaled(PAGES), |number| assert!(self.page(Some(&after[number as usize])) <= PAGE));
        report("page of likers from anywhere on", TARGET_PAGE, &page);
    }

    /// New viewers whose likes come in no order of time.
    fn time_at(&mut self, random: &mut Random, calls: u64) {
        let times: Vec<u64> = (0..calls).map(|_| self.any_place(random).time_ms).collect();
        let likers = self.likers;
        let times = time_each(calls, |number| {
            let receipt = self.likes.like_at(ITEM, viewer((likers + number) as u32), times[number as usize]);
            assert!(receipt.expect("the store takes likes").changed());
        });
        report("like_at by a new viewer, in no order of time", TARGET_CALL, &times);
        self.likers += calls;
    }

    /// A place somewhere in the list of the first likers.
    fn any_place(&self, random: &mut Random) -> Liker {
        let time_ms = self.since_ms + random.next() % self.span_ms.max(1);
        Liker { viewer: Viewer::from(random.next()), time_ms }
    }

    fn compare(&mut self, store: &Store, pace: Option<Duration>, home: SnapshotHome) {
        let at = if pace.is_some() { "100,000 likes/s" } else { "full speed" };
        let mut like_while = |act: &dyn Fn()| {
            let mut like = || {
                self.like(self.likers);
                self.likers += 1;
            };
            time_while(pace, &mut like, act)
        };
        let quiet = like_while(&|| std::thread::sleep(scaled_time(QUIET)));
        let busy = like_while(&|| compact_for(store, scaled_time(BUSY)));
        println!("likes of the item in {home:?} at {at}, without a compaction: {quiet}");
        println!("likes of the item in {home:?} at {at}, during compactions:   {busy}");
        let [quiet, busy] = [quiet, busy].map(|latencies| percentile(&latencies.calls, 99.9));
        println!("p99.9 in {home:?} at {at}: {busy:?} during compactions, {quiet:?} without");
        let what = format!("p99.9 of a like of the item during a compaction, {home:?}, {at}");
        verdict(&what, &format!("<= {TARGET_HOLD:?}"), &format!("{busy:?}"), busy <= TARGET_HOLD);
    }

    /// The steps of a walk over all edges.
    fn time_walk(&self) {
        let (mut steps, mut likes, mut edges) = (histogram(), 0, self.likes.edges());
        loop {
            let started = Instant::now();
            let Some(edge) = edges.next() else { break };
            let elapsed = started.elapsed();
            edge.expect("the store can be read");
            likes += 1;
            // A call that takes a step takes far longer than one that gives out what the step has found.
            if elapsed > Duration::from_micros(3) {
                steps.saturating_record(elapsed.as_nanos() as u64);
            }
        }
        println!("walk over {likes} likes: {} steps, {}", steps.len(), summary(&steps));
        let p999 = percentile(&steps, 99.9);
        verdict("p99.9 of a step of a walk", &format!("<= {TARGET_HOLD:?}"), &format!("{p999:?}"), p999 <= TARGET_HOLD);
    }
}

fn report(what: &str, target: Duration, times: &Histogram<u64>) {
    println!("{what}: {}", summary(times));
    let median = percentile(times, 50.0);
    verdict(&format!("median of {what}"), &format!("<= {target:?}"), &format!("{median:?}"), median <= target);
}
