//! All peers, one file each.

mod atomic;
mod dashmap;
mod fjall;
mod lmdb;
mod papaya;
mod plaudit;
mod redb;
mod redis;
#[cfg(feature = "rocksdb")]
mod rocksdb;
mod sled;
mod sqlite;

use std::time::Duration;

use ::plaudit::{Durability, Options, SnapshotHome};

use crate::peer::Peer;

pub(crate) static PLAUDIT: plaudit::Plaudit = plaudit::Plaudit { name: "plaudit", options: Options::default };

/// Loses up to a second in a crash: for the question of bytes written only.
pub(crate) static PLAUDIT_BY_SECOND: plaudit::Plaudit = plaudit::Plaudit {
    name: "plaudit, window of 1 s",
    options: || Options { group_window: Duration::from_secs(1), ..Options::default() },
};

/// Without sled: for the question of memory only.
pub(crate) static PLAUDIT_IN_FILES: plaudit::Plaudit = plaudit::Plaudit {
    name: "plaudit, snapshots in plain files",
    options: || Options { snapshot_home: SnapshotHome::File, ..Options::default() },
};

/// Returns from each call once that is on disk: for the question where every thread waits for each of its own.
pub(crate) static PLAUDIT_IMMEDIATE: plaudit::Plaudit = plaudit::Plaudit {
    name: "plaudit",
    options: || Options { durability: Durability::Immediate, ..Options::default() },
};

/// By a handle to its one counter: for the question of one hot key only.
pub(crate) static PLAUDIT_BY_HANDLE: plaudit::HotHandle = plaudit::HotHandle;

/// Those that plaudit is compared with.
pub(crate) fn all() -> Vec<&'static dyn Peer> {
    vec![
        &dashmap::DashMapPeer::AsItComes,
        &dashmap::DashMapPeer::Foldhash,
        &dashmap::DashMapPeer::FixedKeys,
        &papaya::Papaya,
        &redis::Redis,
        &sled::Sled,
        #[cfg(feature = "rocksdb")]
        &rocksdb::RocksDb,
        &fjall::Fjall,
        &lmdb::Lmdb,
        &sqlite::Sqlite,
        &redb::Redb,
    ]
}

/// The bare atomic, which has no keys: for the question of one hot key only.
pub(crate) static ATOMIC: atomic::Atomic = atomic::Atomic;

/// Peers that are in this build and can run here.
pub(crate) fn present() -> Vec<&'static dyn Peer> {
    all().into_iter().filter(|peer| peer.missing().is_none()).collect()
}

/// Why others are not.
pub(crate) fn absences() -> Vec<String> {
    let missing = |peer: &&dyn Peer| Some(format!("{}: not measured, {}", peer.name(), peer.missing()?));
    let mut absences: Vec<String> = all().iter().filter_map(missing).collect();
    if cfg!(not(feature = "rocksdb")) {
        absences.push("RocksDB: not measured, this build is without the feature `rocksdb`".to_owned());
    }
    absences
}

/// The version of a crate in the lock file that this was built with.
fn locked(crate_name: &str) -> String {
    let lock = include_str!("../Cargo.lock");
    let entry = lock.split_once(&format!("name = \"{crate_name}\"\nversion = \""));
    let version = entry.and_then(|(_, rest)| rest.split('"').next());
    version.unwrap_or_else(|| panic!("{crate_name} is not in Cargo.lock")).to_owned()
}

/// Counters as stores of bytes keep them.
fn counter_of(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("a counter has 8 bytes"))
}
