//! DashMap with atomics, as one would write it: no durability at all. With its default hasher, and with foldhash.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use crate::load::{Event, key};
use crate::peer::{Counting, Hand, Home, LikeHand, Liking, Peer, Sync};

pub(crate) struct DashMapPeer {
    pub(crate) is_foldhash: bool,
}

impl Peer for DashMapPeer {
    fn name(&self) -> &'static str {
        if self.is_foldhash { "DashMap, foldhash" } else { "DashMap" }
    }

    fn version(&self) -> String {
        super::locked("dashmap")
    }

    fn settings(&self, _: Sync) -> String {
        let hasher = if self.is_foldhash { "foldhash" } else { "default hasher" };
        format!("`DashMap<Box<[u8]>, AtomicU64>`, likes `HashSet<u64>`, {hasher}; no durability")
    }

    fn home(&self) -> Home {
        Home::Memory
    }

    fn counting(&self, _: &Path, _: Sync) -> Box<dyn Counting> {
        if self.is_foldhash {
            Box::new(Counted::<foldhash::fast::RandomState>(DashMap::default()))
        } else {
            Box::new(Counted::<RandomState>(DashMap::default()))
        }
    }

    fn liking(&self, _: &Path, _: Sync) -> Option<Box<dyn Liking>> {
        Some(if self.is_foldhash {
            Box::new(Liked::<foldhash::fast::RandomState>(DashMap::default()))
        } else {
            Box::new(Liked::<RandomState>(DashMap::default()))
        })
    }
}

struct Counted<S>(DashMap<Box<[u8]>, AtomicU64, S>);

impl<S: BuildHasher + Clone + Send + std::marker::Sync> Counting for Counted<S> {
    fn hand(&self, _: usize) -> Box<dyn Hand + '_> {
        Box::new(move |numbers: &[u32]| {
            for &number in numbers {
                let key = key(number);
                // A shared lock where the counter exists, and the entry where it does not.
                black_box(match self.0.get(&key[..]) {
                    Some(counter) => counter.fetch_add(1, Ordering::Relaxed),
                    None => self.0.entry(Box::from(&key[..])).or_default().fetch_add(1, Ordering::Relaxed),
                });
            }
        })
    }

    fn sync(&self) {}

    fn sum(&self, _: u64) -> u64 {
        self.0.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }
}

struct Liked<S>(DashMap<Box<[u8]>, HashSet<u64, S>, S>);

impl<S: BuildHasher + Clone + Default + Send + std::marker::Sync> Liking for Liked<S> {
    fn hand(&self, _: usize) -> LikeHand<'_> {
        let change = |viewers: &mut HashSet<u64, S>, event: &Event| {
            if event.liked { viewers.insert(event.viewer) } else { viewers.remove(&event.viewer) }
        };
        Box::new(move |events: &[Event]| {
            for event in events {
                let item = key(event.item);
                black_box(match self.0.get_mut(&item[..]) {
                    Some(mut viewers) => change(&mut viewers, event),
                    None => change(&mut self.0.entry(Box::from(&item[..])).or_default(), event),
                });
            }
        })
    }

    fn sync(&self) {}

    fn count(&self, item: u32) -> u64 {
        self.0.get(&key(item)[..]).map_or(0, |viewers| viewers.len() as u64)
    }
}
