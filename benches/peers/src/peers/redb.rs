//! redb: read and write in a transaction. Without waiting for the disk it commits with `Durability::None`, and durably
//! every half second, because only a durable commit lets it use its freed pages again.

use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use redb::{Database, Durability, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::load::{Event, key};
use crate::peer::{Counting, Hand, Home, LikeHand, Liking, Peer, Sync};

const COUNTERS: TableDefinition<'_, &[u8; 16], u64> = TableDefinition::new("counters");
const EDGES: TableDefinition<'_, &[u8; 24], ()> = TableDefinition::new("edges");

const DURABLE_EVERY: Duration = Duration::from_millis(500);

pub(crate) struct Redb;

impl Peer for Redb {
    fn name(&self) -> &'static str {
        "redb"
    }

    fn version(&self) -> String {
        super::locked("redb")
    }

    fn settings(&self, sync: Sync) -> String {
        match sync {
            Sync::Relaxed => "read and write in a transaction; `Durability::None`, and durable every 500 ms".to_owned(),
            Sync::EachCall => "read and write in a transaction; `Durability::Immediate`".to_owned(),
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
    db: Database,
    sync: Sync,
    last_durable: Mutex<Instant>,
}

impl Opened {
    fn new(dir: &Path, sync: Sync) -> Self {
        let db = Database::create(dir.join("redb")).expect("redb opens");
        let opened = Self { db, sync, last_durable: Mutex::new(Instant::now()) };
        opened.make_durable();
        opened
    }

    fn transaction(&self) -> WriteTransaction {
        let mut transaction = self.db.begin_write().expect("redb can write");
        let mut last_durable = self.last_durable.lock().expect("no writer panicked");
        if self.sync == Sync::Relaxed && last_durable.elapsed() < DURABLE_EVERY {
            transaction.set_durability(Durability::None).expect("there are no savepoints");
        } else {
            *last_durable = Instant::now();
        }
        transaction
    }

    /// Creates the tables too.
    fn make_durable(&self) {
        let transaction = self.db.begin_write().expect("redb can write");
        transaction.open_table(COUNTERS).expect("a table opens");
        transaction.open_table(EDGES).expect("a table opens");
        transaction.commit().expect("redb can commit");
    }
}

fn change(counters: &mut Table<'_, &[u8; 16], u64>, number: u32, delta: u64) {
    let key = key(number);
    let old = counters.get(&key).expect("redb can be read").map_or(0, |old| old.value());
    counters.insert(&key, old.wrapping_add(delta)).expect("redb takes changes");
}

impl Counting for Opened {
    fn hand(&self, batch: usize) -> Box<dyn Hand + '_> {
        Box::new(move |numbers: &[u32]| {
            for call in numbers.chunks(batch) {
                let transaction = self.transaction();
                let mut counters = transaction.open_table(COUNTERS).expect("a table opens");
                for &number in call {
                    change(&mut counters, number, 1);
                }
                drop(counters);
                transaction.commit().expect("redb can commit");
            }
        })
    }

    fn sync(&self) {
        self.make_durable();
    }

    fn sum(&self, _: u64) -> u64 {
        let transaction = self.db.begin_read().expect("redb can read");
        let counters = transaction.open_table(COUNTERS).expect("a table opens");
        let pairs = counters.iter().expect("redb can be read");
        pairs.map(|pair| pair.expect("redb can be read").1.value()).sum()
    }
}

impl Liking for Opened {
    fn hand(&self, batch: usize) -> LikeHand<'_> {
        Box::new(move |events: &[Event]| {
            for call in events.chunks(batch) {
                let transaction = self.transaction();
                let mut edges = transaction.open_table(EDGES).expect("a table opens");
                let mut counts = transaction.open_table(COUNTERS).expect("a table opens");
                for event in call {
                    let edge = event.edge();
                    let before = if event.liked { edges.insert(&edge, ()) } else { edges.remove(&edge) };
                    if before.expect("redb takes changes").is_some() != event.liked {
                        change(&mut counts, event.item, if event.liked { 1 } else { u64::MAX });
                    }
                }
                drop((edges, counts));
                transaction.commit().expect("redb can commit");
            }
        })
    }

    fn sync(&self) {
        self.make_durable();
    }

    fn count(&self, item: u32) -> u64 {
        let transaction = self.db.begin_read().expect("redb can read");
        let counts = transaction.open_table(COUNTERS).expect("a table opens");
        let count = counts.get(&key(item)).expect("redb can be read");
        count.map_or(0, |count| count.value())
    }
}
