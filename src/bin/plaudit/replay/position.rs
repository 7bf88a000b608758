//! Where a replay stopped in its source: how many events are counted, and a fingerprint of just these.
//!
//! Both are counters, set in the batch of the events that they stand for. Another file under the same name is told by
//! the fingerprint, before anything of it is counted.

use plaudit::{Batch, Counters, Store};

use crate::failure::Failure;
use crate::human::counted;
use crate::stores::counters_or_create;

/// The namespace that holds the positions.
const NAMESPACE: &str = "plaudit.replay";

/// The changes that a position takes in a batch.
pub(crate) const CHANGES: usize = 2;

/// Where a source is to be gone on with.
#[derive(Clone)]
pub(crate) struct Position {
    /// What error messages call the source; its name is what the position is kept under.
    pub(crate) file: String,
    pub(crate) source_name: String,
    /// How many events of the source are counted already.
    pub(crate) events: u64,
    /// The reader's fingerprint after these when they were counted.
    fingerprint: i64,
}

impl Position {
    /// Whether the file begins with the events that were counted, now that the reader passed over `events` of it.
    pub(crate) fn check(&self, events: u64, fingerprint: u32) -> Result<(), Failure> {
        let found = if events < self.events {
            format!("only {}", counted(events, "event"))
        } else if i64::from(fingerprint) != self.fingerprint {
            "other ones".to_owned()
        } else {
            return Ok(());
        };
        let (file, source_name) = (self.file.clone(), self.source_name.clone());
        Err(Failure::OtherEvents { file, source_name, expected: counted(self.events, "event"), found })
    }
}

/// The counters that hold the position of one source in one namespace.
pub(crate) struct PositionCounters {
    counters: Counters,
    events_key: String,
    fingerprint_key: String,
}

impl PositionCounters {
    pub(crate) fn new(store: &Store, namespace: &str, source_name: &str) -> Result<Self, Failure> {
        // No name of a namespace has a tab, so no two pairs share a key.
        let key = |what| format!("{namespace}\t{source_name}\t{what}");
        let counters = counters_or_create(store, NAMESPACE)?;
        Ok(Self { counters, events_key: key("position"), fingerprint_key: key("fingerprint") })
    }

    pub(crate) fn load(&self, file: String, source_name: String) -> Result<Position, Failure> {
        let [stored, fingerprint] = [self.counters.get(&self.events_key)?, self.counters.get(&self.fingerprint_key)?];
        match u64::try_from(stored) {
            Ok(events) => Ok(Position { file, source_name, events, fingerprint }),
            Err(_) => Err(Failure::BadPosition { source_name, position: stored }),
        }
    }

    /// Has the batch of the events before it take the position along.
    pub(crate) fn set(&self, batch: &mut Batch, events: u64, fingerprint: u32) {
        batch.set(&self.counters, &self.events_key, i64::try_from(events).unwrap_or(i64::MAX));
        batch.set(&self.counters, &self.fingerprint_key, fingerprint.into());
    }
}
