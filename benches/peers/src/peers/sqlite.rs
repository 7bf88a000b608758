//! SQLite: an upsert for a counter, insert-or-ignore for a like; in WAL mode, prepared statements, one connection that
//! the threads share behind a mutex, because SQLite has one writer at a time and its own waiting is slower.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};

use rusqlite::{Connection, params, params_from_iter};

use crate::load::{Event, key};
use crate::peer::{Counting, Hand, Home, LikeHand, Liking, Peer, Sync, last_events};

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS counters (key BLOB PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS likes (item BLOB NOT NULL, viewer INTEGER NOT NULL, PRIMARY KEY (item, viewer))
        WITHOUT ROWID;";
const UPSERT: &str =
    "INSERT INTO counters VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = value + excluded.value";

/// 512 MiB; KiB are negative to SQLite.
const CACHE_KIB: i64 = -524_288;

/// Of one statement. SQLite's limit of parameters is far above.
const ROWS: usize = 100;

pub(crate) struct Sqlite;

impl Peer for Sqlite {
    fn name(&self) -> &'static str {
        "SQLite"
    }

    fn version(&self) -> String {
        rusqlite::version().to_owned()
    }

    fn settings(&self, sync: Sync) -> String {
        let synchronous = synchronous(sync);
        format!(
            "WAL, `synchronous={synchronous}`, exclusive locking, 512 MiB cache, prepared upsert `WITHOUT ROWID`; likes \
             set-based, 100 rows a statement"
        )
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

fn synchronous(sync: Sync) -> &'static str {
    match sync {
        Sync::Relaxed => "OFF",
        Sync::EachCall => "FULL",
    }
}

struct Opened {
    dir: PathBuf,
    connection: Mutex<Connection>,
}

impl Opened {
    fn new(dir: &Path, sync: Sync) -> Self {
        let connection = Connection::open(dir.join("sqlite")).expect("SQLite opens");
        let synchronous = synchronous(sync);
        let settings = format!(
            "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous={synchronous}; \
             PRAGMA cache_size={CACHE_KIB};"
        );
        connection.execute_batch(&settings).expect("SQLite takes its settings");
        connection.set_prepared_statement_cache_capacity(4 * ROWS); // a statement for each number of rows
        connection.execute_batch(SCHEMA).expect("tables can be created");
        Self { dir: dir.to_owned(), connection: Mutex::new(connection) }
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().expect("no writer panicked")
    }

    /// With `synchronous=OFF` nothing else ever would: a sync of a file is good for all who wrote to it.
    fn sync_files(&self) {
        let _writer = self.lock();
        for name in ["sqlite", "sqlite-wal"] {
            if let Ok(file) = File::open(self.dir.join(name)) {
                file.sync_data().expect("a file can be synced");
            }
        }
    }
}

impl Counting for Opened {
    fn hand(&self, batch: usize) -> Box<dyn Hand + '_> {
        Box::new(move |numbers: &[u32]| {
            for call in numbers.chunks(batch) {
                let connection = self.lock();
                let mut upsert = connection.prepare_cached(UPSERT).expect("the statement is sound");
                let mut add = |&number: &u32| {
                    upsert.execute(params![key(number), 1]).expect("SQLite takes changes");
                };
                match call {
                    [number] => add(number), // a transaction by itself
                    _ => transact(&connection, || call.iter().for_each(add)),
                }
            }
        })
    }

    fn sync(&self) {
        self.sync_files();
    }

    fn sum(&self, _: u64) -> u64 {
        let sum = self.lock().query_row("SELECT ifnull(sum(value), 0) FROM counters", [], |row| row.get::<_, i64>(0));
        sum.expect("SQLite can be read").unsigned_abs()
    }

    fn compact(&self) -> bool {
        let done = self.lock().query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
        done.expect("SQLite can write its WAL back");
        true
    }
}

impl Liking for Opened {
    fn hand(&self, batch: usize) -> LikeHand<'_> {
        Box::new(move |events: &[Event]| {
            for call in events.chunks(batch) {
                let connection = self.lock();
                transact(&connection, || match call {
                    [event] => apply_one(&connection, event),
                    _ => call.chunks(ROWS).for_each(|rows| apply(&connection, rows)),
                });
            }
        })
    }

    fn sync(&self) {
        self.sync_files();
    }

    fn count(&self, item: u32) -> u64 {
        let connection = self.lock();
        let mut select = connection.prepare_cached("SELECT value FROM counters WHERE key = ?1");
        let select = select.as_mut().expect("the statement is sound");
        let mut rows = select.query([key(item)]).expect("SQLite can be read");
        let row = rows.next().expect("SQLite can be read");
        row.map_or(0, |row| row.get::<_, i64>(0).expect("a count is a number").unsigned_abs())
    }
}

/// With prepared statements, which rusqlite's own transactions do not use.
fn transact(connection: &Connection, act: impl FnOnce()) {
    let run = |statement: &str| {
        let done = connection.prepare_cached(statement).and_then(|mut statement| statement.execute([]));
        done.expect("SQLite can write");
    };
    run("BEGIN IMMEDIATE");
    act();
    run("COMMIT");
}

fn apply_one(connection: &Connection, event: &Event) {
    let run = |statement: &str, values: &[&dyn rusqlite::ToSql]| {
        let changed = connection.prepare_cached(statement).and_then(|mut statement| statement.execute(values));
        changed.expect("SQLite takes changes")
    };
    let item = key(event.item);
    let (change, delta) = if event.liked {
        ("INSERT OR IGNORE INTO likes VALUES (?1, ?2)", 1)
    } else {
        ("DELETE FROM likes WHERE item = ?1 AND viewer = ?2", -1)
    };
    if run(change, &[&item, &(event.viewer as i64)]) > 0 {
        run(UPSERT, &[&item, &delta]);
    }
}

/// Likes and unlikes as one statement each, which tell the rows that they changed; the counts follow.
fn apply(connection: &Connection, events: &[Event]) {
    let (likes, unlikes): (Vec<Event>, Vec<Event>) = last_events(events).into_iter().partition(|event| event.liked);
    let mut deltas: HashMap<Vec<u8>, i64> = HashMap::new();
    let mut run = |before: &str, after: &str, rows: &[Event], delta: i64| {
        if rows.is_empty() {
            return;
        }
        let values = vec!["(?,?)"; rows.len()].join(",");
        let mut statement =
            connection.prepare_cached(&format!("{before} {values} {after}")).expect("the statement is sound");
        let items: Vec<_> = rows.iter().map(|event| (key(event.item), event.viewer as i64)).collect();
        let parameters = items.iter().flat_map(|(item, viewer)| [item as &dyn rusqlite::ToSql, viewer]);
        let mut changed = statement.query(params_from_iter(parameters)).expect("SQLite takes changes");
        while let Some(row) = changed.next().expect("SQLite takes changes") {
            *deltas.entry(row.get(0).expect("an item is bytes")).or_default() += delta;
        }
    };
    run("INSERT OR IGNORE INTO likes VALUES", "RETURNING item", &likes, 1);
    run("DELETE FROM likes WHERE (item, viewer) IN (VALUES", ") RETURNING item", &unlikes, -1);
    let mut upsert = connection.prepare_cached(UPSERT).expect("the statement is sound");
    for (item, delta) in deltas {
        upsert.execute(params![item, delta]).expect("SQLite takes changes");
    }
}
