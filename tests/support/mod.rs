//! What the tests of the promises share: a simulated world, a seeded generator, and a store's contents as a value.

// Every test file uses a part of it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plaudit::storage::sim::{Fault, Operation, SimClock, SimDisk};
use plaudit::{Contents, Driver, Environment, Liker, Likes, Options, Result, SnapshotHome, Stepped, Store};

/// Where the store is on a simulated disk. Several levels deep, because creating it must make each of them durable.
pub const ROOT: &str = "/srv/app/store";

/// A disk and a clock.
#[derive(Debug, Clone, Default)]
pub struct World {
    pub disk: SimDisk,
    pub clock: SimClock,
    /// Of the stores that are created in it: the same workload writes the same bytes each time.
    pub seed: u64,
}

impl World {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn on(disk: SimDisk) -> Self {
        Self { disk, ..Self::default() }
    }

    pub fn environment(&self, driver: Driver) -> Environment {
        let seed = Some(self.seed);
        Environment { driver, seed, ..Environment::simulated(&self.disk, &self.clock) }
    }

    /// Opens the store with small segments and file snapshots, driven by the test.
    pub fn open(&self) -> Result<Store> {
        self.open_with(options())
    }

    pub fn open_with(&self, options: Options) -> Result<Store> {
        Store::open_in(self.environment(Driver::Caller), ROOT, options)
    }

    /// Opens the store with threads of its own.
    pub fn open_threaded(&self, options: Options) -> Result<Store> {
        let environment = Environment { clock: Environment::default().clock, ..self.environment(Driver::Threads) };
        Store::open_in(environment, ROOT, options)
    }

    /// Every file with its bytes.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        self.disk.files().into_iter().map(|path| (path.clone(), self.disk.read_file(&path).unwrap())).collect()
    }

    /// The paths of the store's log segments, oldest first.
    pub fn segments(&self) -> Vec<PathBuf> {
        self.with_suffix(".log")
    }

    /// The paths of the store's snapshots, oldest first.
    pub fn snapshots(&self) -> Vec<PathBuf> {
        self.with_suffix(".snap")
    }

    fn with_suffix(&self, suffix: &str) -> Vec<PathBuf> {
        self.disk.files().into_iter().filter(|path| path.to_string_lossy().ends_with(suffix)).collect()
    }
}

/// Small segments, so that a short test rotates them, and file snapshots, because sled knows no simulated disk.
pub fn options() -> Options {
    Options { shards: 4, segment_bytes: 4_096, snapshot_home: SnapshotHome::File, ..Options::default() }
}

pub fn path(name: &str) -> PathBuf {
    Path::new(ROOT).join(name)
}

/// Calls of this kind, on files whose path has this in it, fail from now on.
pub fn fault(operation: Operation, path: &str, kind: io::ErrorKind) -> Fault {
    Fault { operation, path_contains: Some(path.to_owned()), skip: 0, times: None, kind, done: false }
}

/// Steps the committer until it has nothing to do now.
pub fn step_until_quiet(store: &Store) -> Stepped {
    for _ in 0..1_000 {
        match store.step() {
            Stepped::Worked => {}
            other => return other,
        }
    }
    panic!("the committer never comes to rest");
}

/// Lets the group window pass, and the committer seal the open epoch without writing it.
pub fn seal(world: &World, store: &Store) -> Stepped {
    store.step();
    world.clock.advance(LONG);
    store.step()
}

/// Longer than any group window or pause of the tests' stores.
pub const LONG: Duration = Duration::from_secs(60);

/// All counters of a store by namespace, and for those of likes each item's count and the time of each like, by
/// [`edge_key`]. Bytes of keys that are no text are escaped.
pub type State = BTreeMap<String, BTreeMap<String, i64>>;

pub fn state(store: &Store) -> State {
    let counters = |name: &str| {
        let counters = store.existing_counters(name).unwrap();
        let all: Vec<_> = counters.iter().collect::<Result<_>>().unwrap();
        let map: BTreeMap<_, _> = all.iter().map(|(key, value)| (key.escape_ascii().to_string(), *value)).collect();
        assert_eq!((map.len(), all.len()), (all.len(), counters.len().unwrap()), "each counter is listed once");
        map
    };
    let inside = |info: plaudit::NamespaceInfo| {
        let inside = match info.contents {
            Contents::Likes(_) => {
                let likes = store.existing_likes(&info.name).unwrap();
                let listed = all_likes(&likes);
                check_viewers(&likes);
                listed
            }
            _ => counters(&info.name),
        };
        (info.name, inside)
    };
    store.namespaces().into_iter().map(inside).collect()
}

/// Who likes an item, read in pages of so many.
pub fn all_likers(likes: &Likes, item: impl AsRef<[u8]>, page: usize) -> Vec<Liker> {
    let mut all: Vec<Liker> = Vec::new();
    loop {
        let found = likes.likers(item.as_ref(), all.last(), page).unwrap();
        all.extend(&found);
        if found.len() < page {
            return all;
        }
    }
}

/// What a like is called in a [`State`].
pub fn edge_key(item: &str, viewer: impl std::fmt::Display) -> String {
    format!("{item} <- {viewer}")
}

/// Every item's count and every like, by the pages of the items' likers, which must agree with all edges.
pub fn all_likes(likes: &Likes) -> BTreeMap<String, i64> {
    let mut edges = BTreeMap::<_, Vec<Liker>>::new();
    for (item, liker) in likes.edges().map(Result::unwrap) {
        edges.entry(item).or_default().push(liker);
    }
    let mut all = BTreeMap::new();
    for (item, count) in likes.iter().map(Result::unwrap) {
        let likers = all_likers(likes, &item, 3);
        let mut listed = edges.remove(&item).unwrap_or_default();
        listed.sort_by_key(|liker| std::cmp::Reverse((liker.time_ms, liker.viewer)));
        assert_eq!((likers.len() as u64, &likers), (count, &listed), "{item:?}");
        let name = item.escape_ascii().to_string();
        for Liker { viewer, time_ms } in likers {
            assert!(likes.has_liked(&item, viewer).unwrap());
            all.insert(edge_key(&name, viewer), time_ms as i64);
        }
        all.insert(name, count as i64);
    }
    assert!(edges.is_empty(), "likes of items that are not listed: {edges:?}");
    all
}

/// Each viewer's list has what the items say. Of a store that was just opened or synced, because lists lag.
pub fn check_viewers(likes: &Likes) {
    let mut by_viewer = BTreeMap::<_, Vec<(u64, Vec<u8>)>>::new();
    for (item, Liker { viewer, time_ms }) in likes.edges().map(Result::unwrap) {
        by_viewer.entry(viewer).or_default().push((time_ms, item.to_vec()));
    }
    for (viewer, mut items) in by_viewer {
        items.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        let liked = likes.liked_by(viewer, None, usize::MAX).unwrap();
        let liked: Vec<_> = liked.into_iter().map(|liked| (liked.time_ms, liked.item.to_vec())).collect();
        assert_eq!(liked, items, "viewer {viewer}");
    }
}

/// Takes note of an event that is newer than all before: the viewer likes the item since then, or not any more.
pub fn note_like(of: &mut BTreeMap<String, i64>, item: &str, viewer: u64, since_ms: Option<u64>) {
    let edge = edge_key(item, viewer);
    let before = of.remove(&edge).is_some();
    since_ms.map(|since_ms| of.insert(edge, since_ms as i64));
    *of.entry(item.to_owned()).or_default() += i64::from(since_ms.is_some()) - i64::from(before);
}

/// SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.word() % bound
    }
}
