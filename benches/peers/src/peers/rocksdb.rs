//! RocksDB with a merge operator, set up as its wiki page "Setup Options and Basic Tuning" advises.

use std::path::Path;
use std::sync::Mutex;

use rocksdb::{
    BlockBasedOptions, CompactionPri, DB, DBCompressionType, IteratorMode, MergeOperands, Options, WriteBatch,
    WriteOptions,
};

use super::counter_of;
use crate::load::{Event, key};
use crate::peer::{Counting, Hand, Home, LikeHand, Liking, Peer, Sync, last_events};

pub(crate) struct RocksDb;

impl Peer for RocksDb {
    fn name(&self) -> &'static str {
        "RocksDB"
    }

    fn version(&self) -> String {
        let of_binding = super::locked("librocksdb-sys"); // such as 0.19.0+11.8.1
        of_binding.split('+').next_back().unwrap_or_default().to_owned()
    }

    fn settings(&self, sync: Sync) -> String {
        let wal = match sync {
            Sync::Relaxed => "WAL not synced",
            Sync::EachCall => "`sync` on each write (it gathers writers of several threads)",
        };
        format!("associative merge, `WriteBatch`, LZ4, bloom filter, dynamic levels, 6 background jobs; {wal}")
    }

    fn home(&self) -> Home {
        Home::Disk
    }

    fn batches(&self) -> bool {
        true
    }

    fn counting(&self, dir: &Path, sync: Sync) -> Box<dyn Counting> {
        Box::new(Counted { db: open(dir), options: write_options(sync) })
    }

    fn liking(&self, dir: &Path, sync: Sync) -> Option<Box<dyn Liking>> {
        Some(Box::new(Liked { db: open(dir), options: write_options(sync), writer: Mutex::new(()) }))
    }
}

fn open(dir: &Path) -> DB {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_size(16 << 10);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks.set_bloom_filter(10.0, false);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_block_based_table_factory(&blocks);
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_max_background_jobs(6);
    options.set_bytes_per_sync(1 << 20);
    options.set_compaction_pri(CompactionPri::MinOverlappingRatio);
    options.set_merge_operator_associative("sum", sum_of);
    DB::open(&options, dir).expect("RocksDB opens")
}

fn write_options(sync: Sync) -> WriteOptions {
    let mut options = WriteOptions::default();
    options.set_sync(sync == Sync::EachCall);
    options
}

/// Wraps round, so that a decrement is an addition too.
fn sum_of(_: &[u8], old: Option<&[u8]>, added: &MergeOperands) -> Option<Vec<u8>> {
    let sum = added.iter().fold(old.map_or(0, counter_of), |sum, added| sum.wrapping_add(counter_of(added)));
    Some(sum.to_le_bytes().to_vec())
}

struct Counted {
    db: DB,
    options: WriteOptions,
}

impl Counting for Counted {
    fn hand(&self, batch: usize) -> Box<dyn Hand + '_> {
        let one = 1u64.to_le_bytes();
        if batch == 1 {
            return Box::new(move |numbers: &[u32]| {
                for &number in numbers {
                    self.db.merge_opt(key(number), one, &self.options).expect("RocksDB takes changes");
                }
            });
        }
        Box::new(move |numbers: &[u32]| {
            for call in numbers.chunks(batch) {
                let mut changes = WriteBatch::default();
                for &number in call {
                    changes.merge(key(number), one);
                }
                self.db.write_opt(changes, &self.options).expect("RocksDB takes changes");
            }
        })
    }

    fn sync(&self) {
        self.db.flush_wal(true).expect("RocksDB can sync");
    }

    fn sum(&self, _: u64) -> u64 {
        self.db.iterator(IteratorMode::Start).map(|pair| counter_of(&pair.expect("RocksDB can be read").1)).sum()
    }

    fn compact(&self) -> bool {
        self.db.compact_range(None::<&[u8]>, None::<&[u8]>);
        true
    }
}

/// Whether a like is new must be read first, so one writer at a time, for which a mutex is cheaper than RocksDB's own
/// transactions. An edge and its count are in one atomic batch.
struct Liked {
    db: DB,
    options: WriteOptions,
    writer: Mutex<()>,
}

impl Liking for Liked {
    fn hand(&self, batch: usize) -> LikeHand<'_> {
        Box::new(move |events: &[Event]| {
            for call in events.chunks(batch) {
                let call = last_events(call);
                let _writer = self.writer.lock().expect("no writer panicked");
                let mut changes = WriteBatch::default();
                let before = self.db.multi_get(call.iter().map(Event::edge));
                for (event, before) in call.iter().zip(before) {
                    let was_there = before.expect("RocksDB can be read").is_some();
                    if was_there == event.liked {
                        continue;
                    }
                    if event.liked {
                        changes.put(event.edge(), b"");
                        changes.merge(key(event.item), 1u64.to_le_bytes());
                    } else {
                        changes.delete(event.edge());
                        changes.merge(key(event.item), u64::MAX.to_le_bytes());
                    }
                }
                if !changes.is_empty() {
                    self.db.write_opt(changes, &self.options).expect("RocksDB takes changes");
                }
            }
        })
    }

    fn sync(&self) {
        self.db.flush_wal(true).expect("RocksDB can sync");
    }

    fn count(&self, item: u32) -> u64 {
        self.db.get(key(item)).expect("RocksDB can be read").map_or(0, |value| counter_of(&value))
    }
}
