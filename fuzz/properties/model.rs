//! What a store has in memory and may have on disk, as plain maps.

use std::collections::HashMap;

use plaudit::{AtBound, CounterOptions, Store};

/// How many namespaces and keys there are to choose from.
pub(crate) const NAMESPACES: u8 = 4;
pub(crate) const KEYS: u8 = 12;

pub(crate) fn name(namespace: u8) -> String {
    format!("ns-{namespace}")
}

/// Some are so long that a few of them fill a segment.
pub(crate) fn key(key: u8) -> Vec<u8> {
    if key < 4 { format!("{key:->900}").into_bytes() } else { vec![key] }
}

/// The first has no bounds, the others have some that small values meet.
pub(crate) fn bounds(namespace: u8) -> CounterOptions {
    match namespace {
        0 => CounterOptions::default(),
        1 => CounterOptions { min: 0, max: i64::MAX, at_bound: AtBound::Reject },
        2 => CounterOptions { min: -3, max: 5, at_bound: AtBound::Clamp },
        _ => CounterOptions { min: i64::MIN, max: i64::MAX, at_bound: AtBound::Clamp },
    }
}

/// The namespaces that exist. One that is created again is another one, and has another number.
pub(crate) type Names = HashMap<u8, u32>;

/// Values by the namespace's number and the key.
pub(crate) type Counts = HashMap<(u32, u8), i64>;

/// What was found in a store, by namespace and key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) namespaces: Vec<u8>,
    pub(crate) counts: HashMap<(u8, u8), i64>,
}

impl Found {
    /// All that a running store has.
    pub(crate) fn of(store: &Store) -> plaudit::Result<Self> {
        let mut found = Self::default();
        for info in store.namespaces() {
            let namespace = (0..NAMESPACES).find(|&namespace| name(namespace) == info.name);
            let namespace = namespace.unwrap_or_else(|| panic!("nobody created {:?}", info.name));
            assert_eq!(info.contents, plaudit::Contents::Counters(bounds(namespace)));
            found.namespaces.push(namespace);
            for counter in &store.existing_counters(&info.name)? {
                let (bytes, value) = counter?;
                let number = (0..KEYS).find(|&number| key(number) == bytes);
                let number = number.unwrap_or_else(|| panic!("nobody counted {bytes:?}"));
                assert_eq!(found.counts.insert((namespace, number), value), None, "a counter is listed once");
            }
        }
        found.namespaces.sort_unstable();
        Ok(found)
    }

    fn at(names: &Names, counts: &Counts) -> Self {
        let mut namespaces: Vec<u8> = names.keys().copied().collect();
        namespaces.sort_unstable();
        let named = |id: u32| names.iter().find_map(|(&namespace, &of)| (of == id).then_some(namespace));
        let counts = counts.iter().filter_map(|(&(id, key), &value)| Some(((named(id)?, key), value))).collect();
        Self { namespaces, counts }
    }
}

/// The counts at a moment, and the epoch that makes them durable, where it is known.
#[derive(Debug)]
struct Moment {
    counts: Counts,
    epoch: Option<u64>,
}

/// The manifest is replaced at once and the log follows by epochs. So the disk has the names of one moment and the
/// counts of another; neither is before what was acknowledged.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) names: Names,
    pub(crate) counts: Counts,
    /// What the disk may have, from what it must have on; never empty.
    moments: Vec<Moment>,
    possible_names: Vec<Names>,
    next_id: u32,
}

impl Model {
    pub(crate) fn new() -> Self {
        let (names, counts) = (Names::new(), Counts::new());
        let moments = vec![Moment { counts: counts.clone(), epoch: None }];
        Self { possible_names: vec![names.clone()], names, counts, moments, next_id: 0 }
    }

    /// The store has this and nothing else, in memory and durably.
    pub(crate) fn restart(&mut self, found: &Found) {
        self.names = found.namespaces.iter().zip(0..).map(|(&namespace, id)| (namespace, id)).collect();
        self.next_id = self.names.len() as u32;
        let id = |namespace: &u8| self.names[namespace];
        self.counts = found.counts.iter().map(|((namespace, key), &value)| ((id(namespace), *key), value)).collect();
        self.possible_names = vec![self.names.clone()];
        self.all_durable();
    }

    pub(crate) fn in_memory(&self) -> Found {
        Found::at(&self.names, &self.counts)
    }

    pub(crate) fn may_be_on_disk(&self, found: &Found) -> bool {
        self.possible_names
            .iter()
            .any(|names| self.moments.iter().any(|moment| Found::at(names, &moment.counts) == *found))
    }

    /// The counts are now these, and the disk may have them.
    pub(crate) fn changed(&mut self, counts: Counts, epoch: Option<u64>) {
        self.moments.push(Moment { counts: counts.clone(), epoch });
        self.counts = counts;
    }

    /// Every change up to this epoch was acknowledged.
    pub(crate) fn durable(&mut self, epoch: u64) {
        let is_durable = |moment: &Moment| moment.epoch.is_some_and(|of| of <= epoch);
        if let Some(last) = self.moments.iter().rposition(is_durable) {
            self.moments.drain(..last);
        }
    }

    /// Whether a change of a known epoch was not acknowledged yet.
    pub(crate) fn waits(&self) -> bool {
        self.moments.iter().skip(1).any(|moment| moment.epoch.is_some())
    }

    /// Every change was acknowledged.
    pub(crate) fn all_durable(&mut self) {
        self.moments = vec![Moment { counts: self.counts.clone(), epoch: None }];
    }

    /// The names with a namespace more.
    pub(crate) fn with(&mut self, namespace: u8) -> Names {
        let mut names = self.names.clone();
        names.insert(namespace, self.next_id);
        self.next_id += 1;
        names
    }

    /// The names with a namespace less.
    pub(crate) fn without(&self, namespace: u8) -> Names {
        let mut names = self.names.clone();
        names.remove(&namespace);
        names
    }

    /// The names were replaced durably.
    pub(crate) fn renamed(&mut self, names: Names) {
        self.possible_names = vec![names.clone()];
        self.names = names;
    }

    /// Nobody knows whether the names were replaced.
    pub(crate) fn maybe_renamed(&mut self, names: Names) {
        self.possible_names.push(names);
    }
}
