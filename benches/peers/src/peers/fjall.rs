//! fjall. It has no merge operator: its documentation has counters updated in a transaction of its single-writer
//! database.

use std::path::Path;

use fjall::{KeyspaceCreateOptions, PersistMode, Readable, SingleWriterTxDatabase, SingleWriterTxKeyspace, UserValue};

use super::counter_of;
use crate::load::{Event, key};
use crate::peer::{Counting, Hand, Home, LikeHand, Liking, Peer, Sync};

pub(crate) struct Fjall;

impl Peer for Fjall {
    fn name(&self) -> &'static str {
        "fjall"
    }

    fn version(&self) -> String {
        super::locked("fjall")
    }

    fn settings(&self, sync: Sync) -> String {
        let journal = match sync {
            Sync::Relaxed => "`durability(None)`: the journal is written when its buffer is full",
            Sync::EachCall => "`PersistMode::SyncData` for each transaction",
        };
        format!("`SingleWriterTxDatabase`, `update_fetch`, 512 MiB cache; {journal}")
    }

    fn home(&self) -> Home {
        Home::Disk
    }

    fn batches(&self) -> bool {
        true
    }

    fn counting(&self, dir: &Path, sync: Sync) -> Box<dyn Counting> {
        let db = open(dir);
        let counters = db.keyspace("counters", point_reads).expect("a keyspace can be created");
        Box::new(Counted { db, counters, durability: durability(sync) })
    }

    fn liking(&self, dir: &Path, sync: Sync) -> Option<Box<dyn Liking>> {
        let db = open(dir);
        let edges = db.keyspace("edges", KeyspaceCreateOptions::default).expect("a keyspace can be created");
        let counts = db.keyspace("counts", point_reads).expect("a keyspace can be created");
        Some(Box::new(Liked { db, edges, counts, durability: durability(sync) }))
    }
}

fn open(dir: &Path) -> SingleWriterTxDatabase {
    SingleWriterTxDatabase::builder(dir).cache_size(512 << 20).open().expect("fjall opens")
}

/// Counters are mostly there when they are asked for.
fn point_reads() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().expect_point_read_hits(true)
}

fn durability(sync: Sync) -> Option<PersistMode> {
    (sync == Sync::EachCall).then_some(PersistMode::SyncData)
}

fn changed(old: Option<&UserValue>, delta: u64) -> Option<UserValue> {
    let sum = old.map_or(0, |old| counter_of(old)).wrapping_add(delta);
    Some(sum.to_le_bytes().into())
}

struct Counted {
    db: SingleWriterTxDatabase,
    counters: SingleWriterTxKeyspace,
    durability: Option<PersistMode>,
}

impl Counting for Counted {
    fn hand(&self, batch: usize) -> Box<dyn Hand + '_> {
        Box::new(move |numbers: &[u32]| {
            for call in numbers.chunks(batch) {
                let mut transaction = self.db.write_tx().durability(self.durability);
                for &number in call {
                    let counted = transaction.update_fetch(&self.counters, key(number), |old| changed(old, 1));
                    counted.expect("fjall takes changes");
                }
                transaction.commit().expect("fjall can commit");
            }
        })
    }

    fn sync(&self) {
        self.db.persist(PersistMode::SyncData).expect("fjall can sync");
    }

    fn sum(&self, _: u64) -> u64 {
        let values = self.counters.inner().iter().map(|pair| pair.value().expect("fjall can be read"));
        values.map(|value| counter_of(&value)).sum()
    }

    fn compact(&self) -> bool {
        self.counters.inner().major_compact().expect("fjall can compact");
        true
    }
}

struct Liked {
    db: SingleWriterTxDatabase,
    edges: SingleWriterTxKeyspace,
    counts: SingleWriterTxKeyspace,
    durability: Option<PersistMode>,
}

impl Liking for Liked {
    fn hand(&self, batch: usize) -> LikeHand<'_> {
        Box::new(move |events: &[Event]| {
            for call in events.chunks(batch) {
                let mut transaction = self.db.write_tx().durability(self.durability);
                for event in call {
                    let edge = event.edge();
                    let was_there = transaction.contains_key(self.edges.inner(), edge).expect("fjall can be read");
                    if was_there == event.liked {
                        continue;
                    }
                    let delta = if event.liked {
                        transaction.insert(&self.edges, edge, b"");
                        1
                    } else {
                        transaction.remove(&self.edges, edge);
                        u64::MAX
                    };
                    let counted = transaction.update_fetch(&self.counts, key(event.item), |old| changed(old, delta));
                    counted.expect("fjall takes changes");
                }
                transaction.commit().expect("fjall can commit");
            }
        })
    }

    fn sync(&self) {
        self.db.persist(PersistMode::SyncData).expect("fjall can sync");
    }

    fn count(&self, item: u32) -> u64 {
        self.counts.get(key(item)).expect("fjall can be read").map_or(0, |value| counter_of(&value))
    }
}
