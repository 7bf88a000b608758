//! papaya, a map without locks, with atomics: no durability at all.

use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use papaya::{HashMap, HashSet, ResizeMode};

use crate::load::{Event, key};
use crate::peer::{Counting, Hand, Home, LikeHand, Liking, Peer, Sync};

pub(crate) struct Papaya;

impl Peer for Papaya {
    fn name(&self) -> &'static str {
        "papaya"
    }

    fn version(&self) -> String {
        super::locked("papaya")
    }

    fn settings(&self, _: Sync) -> String {
        "`HashMap<Box<[u8]>, AtomicU64>`, likes `HashSet<u64>`, default hasher, `ResizeMode::Blocking`, one pin for \
         up to 1,000 changes; no durability"
            .to_owned()
    }

    fn home(&self) -> Home {
        Home::Memory
    }

    fn counting(&self, _: &Path, _: Sync) -> Box<dyn Counting> {
        Box::new(Counted(HashMap::builder().resize_mode(ResizeMode::Blocking).build()))
    }

    fn liking(&self, _: &Path, _: Sync) -> Option<Box<dyn Liking>> {
        Some(Box::new(Liked(HashMap::builder().resize_mode(ResizeMode::Blocking).build())))
    }
}

struct Counted(HashMap<Box<[u8]>, AtomicU64>);

impl Counting for Counted {
    fn hand(&self, _: usize) -> Box<dyn Hand + '_> {
        Box::new(move |numbers: &[u32]| {
            // Its documentation advises to pin for many operations.
            let map = self.0.pin();
            for &number in numbers {
                let key = key(number);
                let counter = match map.get(&key[..]) {
                    Some(counter) => counter,
                    None => map.get_or_insert_with(Box::from(&key[..]), AtomicU64::default),
                };
                black_box(counter.fetch_add(1, Ordering::Relaxed));
            }
        })
    }

    fn sync(&self) {}

    fn sum(&self, _: u64) -> u64 {
        self.0.pin().values().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }
}

struct Liked(HashMap<Box<[u8]>, HashSet<u64>>);

impl Liking for Liked {
    fn hand(&self, _: usize) -> LikeHand<'_> {
        Box::new(move |events: &[Event]| {
            let map = self.0.pin();
            for event in events {
                let item = key(event.item);
                let viewers = match map.get(&item[..]) {
                    Some(viewers) => viewers.pin(),
                    None => map.get_or_insert_with(Box::from(&item[..]), HashSet::new).pin(),
                };
                black_box(if event.liked { viewers.insert(event.viewer) } else { viewers.remove(&event.viewer) });
            }
        })
    }

    fn sync(&self) {}

    fn count(&self, item: u32) -> u64 {
        self.0.pin().get(&key(item)[..]).map_or(0, |viewers| viewers.len() as u64)
    }
}
