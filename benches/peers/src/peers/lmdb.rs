//! LMDB through heed: read and write in a transaction.

use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, RwTxn};

use super::counter_of;
use crate::load::{Event, key};
use crate::peer::{Counting, Hand, Home, LikeHand, Liking, Peer, Sync};

/// More than any question needs: only address space.
const MAP_BYTES: usize = 64 << 30;

pub(crate) struct Lmdb;

impl Peer for Lmdb {
    fn name(&self) -> &'static str {
        "LMDB"
    }

    fn version(&self) -> String {
        let version = heed::lmdb_version();
        format!("{}.{}.{}, heed {}", version.major, version.minor, version.patch, super::locked("heed"))
    }

    fn settings(&self, sync: Sync) -> String {
        match sync {
            Sync::Relaxed => "read and write in a transaction; `MDB_WRITEMAP`, `MDB_MAPASYNC`: its fastest".to_owned(),
            Sync::EachCall => "read and write in a transaction; default flags: each commit is synced".to_owned(),
        }
    }

    fn home(&self) -> Home {
        Home::Disk
    }

    fn batches(&self) -> bool {
        true
    }

    fn counting(&self, dir: &Path, sync: Sync) -> Box<dyn Counting> {
        Box::new(Opened::new(dir, sync))
    }

    fn liking(&self, dir: &Path, sync: Sync) -> Option<Box<dyn Liking>> {
        Some(Box::new(Opened::new(dir, sync)))
    }
}

struct Opened {
    env: Env,
    counters: Database<'static, Bytes, Bytes>,
    edges: Database<'static, Bytes, Bytes>,
}

impl Opened {
    #[allow(unsafe_code, reason = "a memory map can only be opened so")]
    fn new(dir: &Path, sync: Sync) -> Self {
        let mut options = EnvOpenOptions::new();
        options.map_size(MAP_BYTES).max_dbs(2);
        if sync == Sync::Relaxed {
            // SAFETY: these flags weaken what a power cut leaves; memory is safe as long as nobody writes to the map.
            unsafe { options.flags(EnvFlags::WRITE_MAP | EnvFlags::MAP_ASYNC) };
        }
        // SAFETY: the directory is this process's own, so nobody else changes the mapped file.
        let env = unsafe { options.open(dir) }.expect("LMDB opens");
        let transaction = env.write_txn().expect("LMDB can write");
        let databases = env.create_databases_and_commit(transaction, |opener, transaction| {
            let counters: Database<'_, Bytes, Bytes> = opener.create_database(transaction, Some("counters"))?;
            let edges: Database<'_, Bytes, Bytes> = opener.create_database(transaction, Some("edges"))?;
            Ok::<_, heed::Error>(CommitOrAbort::<_, ()>::Commit((counters, edges)))
        });
        let (counters, edges) = databases.expect("databases can be created").unwrap_commit();
        Self { env, counters, edges }
    }

    fn change(&self, transaction: &mut RwTxn<'_>, number: u32, delta: u64) {
        let key = key(number);
        let old = self.counters.get(transaction, &key).expect("LMDB can be read").map_or(0, counter_of);
        let new = old.wrapping_add(delta).to_le_bytes();
        self.counters.put(transaction, &key, &new).expect("LMDB takes changes");
    }
}

impl Counting for Opened {
    fn hand(&self, batch: usize) -> Box<dyn Hand + '_> {
        Box::new(move |numbers: &[u32]| {
            for call in numbers.chunks(batch) {
                let mut transaction = self.env.write_txn().expect("LMDB can write");
                for &number in call {
                    self.change(&mut transaction, number, 1);
                }
                transaction.commit().expect("LMDB can commit");
            }
        })
    }

    fn sync(&self) {
        self.env.force_sync().expect("LMDB can sync");
    }

    /// After a sync each page of the map faults once more when it is written, which who leaves syncing to the system
    /// does not pay.
    fn settle(&self) {}

    fn sum(&self, _: u64) -> u64 {
        let transaction = self.env.read_txn().expect("LMDB can read");
        let pairs = self.counters.iter(&transaction).expect("LMDB can be read");
        pairs.map(|pair| counter_of(pair.expect("LMDB can be read").1)).sum()
    }
}

impl Liking for Opened {
    fn hand(&self, batch: usize) -> LikeHand<'_> {
        Box::new(move |events: &[Event]| {
            for call in events.chunks(batch) {
                let mut transaction = self.env.write_txn().expect("LMDB can write");
                for event in call {
                    let edge = event.edge();
                    let was_there = if event.liked {
                        let before = self.edges.get_or_put(&mut transaction, &edge, &[]);
                        before.expect("LMDB takes changes").is_some()
                    } else {
                        self.edges.delete(&mut transaction, &edge).expect("LMDB takes changes")
                    };
                    if was_there != event.liked {
                        self.change(&mut transaction, event.item, if event.liked { 1 } else { u64::MAX });
                    }
                }
                transaction.commit().expect("LMDB can commit");
            }
        })
    }

    fn sync(&self) {
        self.env.force_sync().expect("LMDB can sync");
    }

    fn count(&self, item: u32) -> u64 {
        let transaction = self.env.read_txn().expect("LMDB can read");
        self.counters.get(&transaction, &key(item)).expect("LMDB can be read").map_or(0, counter_of)
    }
}
