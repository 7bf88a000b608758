//! DashMap with atomics, as one would write it: no durability at all. With its default hasher, and with foldhash; and
//! with keys of a fixed length, for whom that is enough.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;

use crate::load::{Event, Key, key};
use crate::peer::{Counting, Hand, Home, LikeHand, Liking, Peer, Sync};

pub(crate) enum DashMapPeer {
    /// Keys of any length, the default hasher.
    AsItComes,
    /// Keys of any length, foldhash.
    Foldhash,
    /// Keys of 16 bytes in the map itself, foldhash.
    FixedKeys,
}

impl Peer for DashMapPeer {
    fn name(&self) -> &'static str {
        match self {
            Self::AsItComes => "DashMap",
            Self::Foldhash => "DashMap, foldhash",
            Self::FixedKeys => "DashMap, foldhash, fixed keys",
        }
    }

    fn version(&self) -> String {
        super::locked("dashmap")
    }

    fn settings(&self, _: Sync) -> String {
        let (key, hasher) = match self {
            Self::AsItComes => ("Box<[u8]>", "default hasher"),
            Self::Foldhash => ("Box<[u8]>", "foldhash"),
            Self::FixedKeys => ("[u8; 16]", "foldhash"),
        };
        format!("`DashMap<{key}, AtomicU64>`, likes `HashSet<u64>`, {hasher}; no durability")
    }

    fn home(&self) -> Home {
        Home::Memory
    }

    fn counting(&self, _: &Path, _: Sync) -> Box<dyn Counting> {
        match self {
            Self::AsItComes => Box::new(Counted::<Box<[u8]>, RandomState>(DashMap::default())),
            Self::Foldhash => Box::new(Counted::<Box<[u8]>, foldhash::fast::RandomState>(DashMap::default())),
            Self::FixedKeys => Box::new(Counted::<Key, foldhash::fast::RandomState>(DashMap::default())),
        }
    }

    fn liking(&self, _: &Path, _: Sync) -> Option<Box<dyn Liking>> {
        Some(match self {
            Self::AsItComes => Box::new(Liked::<Box<[u8]>, RandomState>(DashMap::default())),
            Self::Foldhash => Box::new(Liked::<Box<[u8]>, foldhash::fast::RandomState>(DashMap::default())),
            Self::FixedKeys => Box::new(Liked::<Key, foldhash::fast::RandomState>(DashMap::default())),
        })
    }
}

trait MapKey: Borrow<[u8]> + From<Key> + Eq + Hash + Send + std::marker::Sync {}

impl<K: Borrow<[u8]> + From<Key> + Eq + Hash + Send + std::marker::Sync> MapKey for K {}

trait MapHasher: BuildHasher + Clone + Default + Send + std::marker::Sync {}

impl<S: BuildHasher + Clone + Default + Send + std::marker::Sync> MapHasher for S {}

struct Counted<K, S>(DashMap<K, AtomicU64, S>);

impl<K: MapKey, S: MapHasher> Counting for Counted<K, S> {
    fn hand(&self, _: usize) -> Box<dyn Hand + '_> {
        Box::new(move |numbers: &[u32]| {
            for &number in numbers {
                let key = key(number);
                // A shared lock where the counter exists, and the entry where it does not.
                black_box(match self.0.get(&key[..]) {
                    Some(counter) => counter.fetch_add(1, Ordering::Relaxed),
                    None => self.0.entry(K::from(key)).or_default().fetch_add(1, Ordering::Relaxed),
                });
            }
        })
    }

    fn sync(&self) {}

    fn sum(&self, _: u64) -> u64 {
        self.0.iter().map(|counter| counter.load(Ordering::Relaxed)).sum()
    }
}

struct Liked<K, S>(DashMap<K, HashSet<u64, S>, S>);

impl<K: MapKey, S: MapHasher> Liking for Liked<K, S> {
    fn hand(&self, _: usize) -> LikeHand<'_> {
        let change = |viewers: &mut HashSet<u64, S>, event: &Event| {
            if event.liked { viewers.insert(event.viewer) } else { viewers.remove(&event.viewer) }
        };
        Box::new(move |events: &[Event]| {
            for event in events {
                let item = key(event.item);
                black_box(match self.0.get_mut(&item[..]) {
                    Some(mut viewers) => change(&mut viewers, event),
                    None => change(&mut self.0.entry(K::from(item)).or_default(), event),
                });
            }
        })
    }

    fn sync(&self) {}

    fn count(&self, item: u32) -> u64 {
        self.0.get(&key(item)[..]).map_or(0, |viewers| viewers.len() as u64)
    }
}
