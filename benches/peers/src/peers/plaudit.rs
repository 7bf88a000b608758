//! plaudit with its default options: group durability with a window of 5 ms, snapshots in sled. Where each thread waits
//! for each of its own, with immediate durability.

use std::collections::VecDeque;
use std::hint::black_box;
use std::path::Path;

use plaudit::{Counters, HotCounter, Likes, Options, Receipt, Store};

use crate::load::{Event, key};
use crate::peer::{Counting, Hand, Home, LikeHand, Liking, Peer, Sync};

pub(crate) struct Plaudit {
    pub(crate) name: &'static str,
    pub(crate) options: fn() -> Options,
}

impl Plaudit {
    fn open(&self, dir: &Path) -> Store {
        Store::open_with(dir, (self.options)()).expect("the store opens")
    }
}

impl Peer for Plaudit {
    fn name(&self) -> &'static str {
        self.name
    }

    fn version(&self) -> String {
        super::locked("plaudit")
    }

    fn settings(&self, sync: Sync) -> String {
        match sync {
            Sync::Relaxed => "defaults: everything is on disk within 5 ms and a sync".to_owned(),
            Sync::EachCall => "`Durability::Immediate`; defaults and `Receipt::wait` when pipelined".to_owned(),
        }
    }

    fn home(&self) -> Home {
        Home::MemoryAndDisk
    }

    fn counting(&self, dir: &Path, sync: Sync) -> Box<dyn Counting> {
        let store = self.open(dir);
        let counters = store.counters("peers").expect("a namespace can be created");
        Box::new(Counted { store, counters, sync })
    }

    fn liking(&self, dir: &Path, _: Sync) -> Option<Box<dyn Liking>> {
        let store = self.open(dir);
        let likes = store.likes("peers").expect("a namespace can be created");
        Some(Box::new(Liked { store, likes }))
    }
}

/// The same by a handle to a hot counter, a clone for each thread: for the question of one hot key only.
pub(crate) struct HotHandle;

impl Peer for HotHandle {
    fn name(&self) -> &'static str {
        "plaudit, by handle"
    }

    fn version(&self) -> String {
        super::locked("plaudit")
    }

    fn settings(&self, _: Sync) -> String {
        "defaults; `Counters::hot`, a clone of the handle for each thread".to_owned()
    }

    fn home(&self) -> Home {
        Home::MemoryAndDisk
    }

    fn counting(&self, dir: &Path, _: Sync) -> Box<dyn Counting> {
        let store = Store::open(dir).expect("the store opens");
        let hot = store.counters("peers").and_then(|counters| counters.hot(key(0))).expect("a counter can be created");
        Box::new(HotCounted { store, hot })
    }
}

struct HotCounted {
    store: Store,
    hot: HotCounter,
}

impl Counting for HotCounted {
    fn hand(&self, _: usize) -> Box<dyn Hand + '_> {
        let own = self.hot.clone();
        Box::new(move |numbers: &[u32]| {
            for _ in numbers {
                own.add(1).expect("the store takes changes");
            }
        })
    }

    fn sync(&self) {
        self.store.sync().expect("the store can sync");
    }

    fn sum(&self, _: u64) -> u64 {
        self.hot.get().expect("the counter can be read").unsigned_abs()
    }
}

struct Counted {
    store: Store,
    counters: Counters,
    sync: Sync,
}

impl Counting for Counted {
    fn hand(&self, batch: usize) -> Box<dyn Hand + '_> {
        match self.sync {
            Sync::Relaxed => Box::new(move |numbers: &[u32]| {
                for &number in numbers {
                    black_box(add(&self.counters, number).value());
                }
            }),
            Sync::EachCall => Box::new(Pipeline { counters: &self.counters, window: batch, receipts: VecDeque::new() }),
        }
    }

    fn sync(&self) {
        self.store.sync().expect("the store can sync");
    }

    fn sum(&self, _: u64) -> u64 {
        self.counters.iter().map(|counter| counter.expect("counters can be read").1.unsigned_abs()).sum()
    }

    fn compact(&self) -> bool {
        self.store.compact().expect("the store can compact");
        true
    }
}

#[inline]
fn add(counters: &Counters, number: u32) -> Receipt<'_> {
    counters.add(key(number), 1).expect("the store takes changes")
}

/// At most `window` increments are not acknowledged yet.
struct Pipeline<'a> {
    counters: &'a Counters,
    window: usize,
    receipts: VecDeque<Receipt<'a>>,
}

impl Pipeline<'_> {
    fn wait_for_oldest(&mut self) {
        let receipt = self.receipts.pop_front().expect("a receipt is left");
        receipt.wait().expect("the change becomes durable");
    }
}

impl Hand for Pipeline<'_> {
    fn add(&mut self, numbers: &[u32]) {
        for &number in numbers {
            self.receipts.push_back(add(self.counters, number));
            if self.receipts.len() >= self.window {
                self.wait_for_oldest();
            }
        }
    }

    fn finish(&mut self) {
        while !self.receipts.is_empty() {
            self.wait_for_oldest();
        }
    }
}

struct Liked {
    store: Store,
    likes: Likes,
}

impl Liking for Liked {
    fn hand(&self, _: usize) -> LikeHand<'_> {
        Box::new(move |events: &[Event]| {
            for event in events {
                let item = key(event.item);
                let change = if event.liked {
                    self.likes.like(item, event.viewer)
                } else {
                    self.likes.unlike(item, event.viewer)
                };
                black_box(change.expect("the store takes changes").changed());
            }
        })
    }

    fn sync(&self) {
        self.store.sync().expect("the store can sync");
    }

    fn count(&self, item: u32) -> u64 {
        self.likes.count(key(item)).expect("likes can be read")
    }
}
