//! sled 0.34 with a merge operator. Its `flush` is what it offers as durable; a power cut may still lose what it
//! acknowledged, because it does not sync metadata.

use std::path::Path;

use sled::{Db, Mode, Tree};

use super::counter_of;
use crate::load::{Event, key};
use crate::peer::{Counting, Hand, Home, LikeHand, Liking, Peer, Sync};

pub(crate) struct Sled;

impl Peer for Sled {
    fn name(&self) -> &'static str {
        "sled"
    }

    fn version(&self) -> String {
        super::locked("sled")
    }

    fn settings(&self, sync: Sync) -> String {
        match sync {
            Sync::Relaxed => "merge operator, high throughput mode, flushed every 500 ms (its default)".to_owned(),
            Sync::EachCall => "merge operator, high throughput mode, `flush` after each call".to_owned(),
        }
    }

    fn home(&self) -> Home {
        Home::Disk
    }

    /// It takes kilobytes of memory for each key until it is closed.
    fn max_keys(&self) -> u64 {
        1_000_000
    }

    fn counting(&self, dir: &Path, sync: Sync) -> Box<dyn Counting> {
        let db = open(dir);
        let counters = db.open_tree("counters").expect("a tree can be created");
        counters.set_merge_operator(sum_of);
        Box::new(Counted { db, counters, sync })
    }

    fn liking(&self, dir: &Path, _: Sync) -> Option<Box<dyn Liking>> {
        let db = open(dir);
        let edges = db.open_tree("edges").expect("a tree can be created");
        let counts = db.open_tree("counts").expect("a tree can be created");
        counts.set_merge_operator(sum_of);
        Some(Box::new(Liked { db, edges, counts }))
    }
}

fn open(dir: &Path) -> Db {
    sled::Config::new().path(dir).mode(Mode::HighThroughput).open().expect("sled opens")
}

/// Wraps round, so that a decrement is an addition too.
fn sum_of(_: &[u8], old: Option<&[u8]>, added: &[u8]) -> Option<Vec<u8>> {
    let sum = old.map_or(0, counter_of).wrapping_add(counter_of(added));
    Some(sum.to_le_bytes().to_vec())
}

struct Counted {
    db: Db,
    counters: Tree,
    sync: Sync,
}

impl Counting for Counted {
    fn hand(&self, batch: usize) -> Box<dyn Hand + '_> {
        Box::new(move |numbers: &[u32]| {
            for call in numbers.chunks(batch) {
                for &number in call {
                    self.counters.merge(key(number), 1u64.to_le_bytes()).expect("sled takes changes");
                }
                if self.sync == Sync::EachCall {
                    self.counters.flush().expect("sled can flush");
                }
            }
        })
    }

    fn sync(&self) {
        self.db.flush().expect("sled can flush");
    }

    fn sum(&self, _: u64) -> u64 {
        self.counters.iter().values().map(|value| counter_of(&value.expect("sled can be read"))).sum()
    }
}

/// An edge and its count are changed one after the other: a transaction over both trees would be slower, and would keep
/// them together through a crash.
struct Liked {
    db: Db,
    edges: Tree,
    counts: Tree,
}

impl Liking for Liked {
    fn hand(&self, _: usize) -> LikeHand<'_> {
        Box::new(move |events: &[Event]| {
            for event in events {
                let edge = event.edge();
                let before = if event.liked { self.edges.insert(edge, &b""[..]) } else { self.edges.remove(edge) };
                let was_there = before.expect("sled takes changes").is_some();
                if was_there != event.liked {
                    let delta = if event.liked { 1 } else { u64::MAX };
                    self.counts.merge(key(event.item), delta.to_le_bytes()).expect("sled takes changes");
                }
            }
        })
    }

    fn sync(&self) {
        self.db.flush().expect("sled can flush");
    }

    fn count(&self, item: u32) -> u64 {
        self.counts.get(key(item)).expect("sled can be read").map_or(0, |value| counter_of(&value))
    }
}
