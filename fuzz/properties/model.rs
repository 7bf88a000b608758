//! What a store has in memory and may have on disk, as plain maps.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use plaudit::{AtBound, CounterOptions, LikeOptions, MAX_TIME_MS, Store, Viewer, ViewerIds};

/// How many namespaces and keys there are to choose from. Those from the fifth on are of likes.
pub(crate) const NAMESPACES: u8 = 6;
pub(crate) const LIKES: u8 = 4;
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

/// Of a horizon that forgets no unlike.
pub(crate) fn like_options(namespace: u8) -> LikeOptions {
    let viewers = if namespace == LIKES { ViewerIds::U64 } else { ViewerIds::U128 };
    LikeOptions { viewers, horizon: Duration::from_millis(MAX_TIME_MS) }
}

pub(crate) fn viewer(namespace: u8, number: u8) -> Viewer {
    if namespace == LIKES { Viewer::from(u64::from(number)) } else { Viewer::from(u128::MAX - u128::from(number)) }
}

/// The namespaces that exist. One that is created again is another one, and has another number.
pub(crate) type Names = HashMap<u8, u32>;

/// Values by the namespace's number and the key; of items too.
pub(crate) type Counts = HashMap<(u32, u8), i64>;

/// What is known of a viewer and an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edge {
    pub(crate) time_ms: u64,
    pub(crate) liked: bool,
}

/// Everything but the names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) counts: Counts,
    /// By the namespace's number, the item and the viewer.
    pub(crate) edges: BTreeMap<(u32, u8, u8), Edge>,
}

/// What was found in a store, by namespace and key, and by namespace, item and viewer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) namespaces: Vec<u8>,
    pub(crate) counts: HashMap<(u8, u8), i64>,
    pub(crate) likes: BTreeMap<(u8, u8, u8), u64>,
    /// Only of a store that was just opened; see [`Found::listed`].
    pub(crate) unlikes: BTreeMap<(u8, u8, u8), u64>,
}

impl Found {
    /// All that a running store has.
    pub(crate) fn of(store: &Store) -> plaudit::Result<Self> {
        let mut found = Self::default();
        for info in store.namespaces() {
            let namespace = (0..NAMESPACES).find(|&namespace| name(namespace) == info.name);
            let namespace = namespace.unwrap_or_else(|| panic!("nobody created {:?}", info.name));
            found.namespaces.push(namespace);
            if namespace >= LIKES {
                super::likes::find(&store.existing_likes(&info.name)?, namespace, &mut found)?;
                continue;
            }
            assert_eq!(info.contents, plaudit::Contents::Counters(bounds(namespace)));
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

    /// Without what a running store does not show.
    pub(crate) fn listed(mut self) -> Self {
        self.unlikes.clear();
        self
    }

    fn at(names: &Names, contents: &Contents) -> Self {
        let mut namespaces: Vec<u8> = names.keys().copied().collect();
        namespaces.sort_unstable();
        let named = |id: u32| names.iter().find_map(|(&namespace, &of)| (of == id).then_some(namespace));
        let counts = contents.counts.iter();
        let counts = counts.filter_map(|(&(id, key), &value)| Some(((named(id)?, key), value))).collect();
        let edges = |liked: bool| {
            let edges = contents.edges.iter().filter(move |(_, edge)| edge.liked == liked);
            edges.filter_map(|(&(id, item, by), edge)| Some(((named(id)?, item, by), edge.time_ms))).collect()
        };
        Self { likes: edges(true), unlikes: edges(false), namespaces, counts }
    }
}

/// The contents at a moment, and the epoch that makes them durable, where it is known.
#[derive(Debug)]
struct Moment {
    contents: Contents,
    epoch: Option<u64>,
}

/// The manifest is replaced at once and the log follows by epochs. So the disk has the names of one moment and the
/// counts of another; neither is before what was acknowledged.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) names: Names,
    pub(crate) contents: Contents,
    /// What the disk may have, from what it must have on; never empty.
    moments: Vec<Moment>,
    possible_names: Vec<Names>,
    next_id: u32,
}

impl Model {
    pub(crate) fn new() -> Self {
        let (names, contents) = (Names::new(), Contents::default());
        let moments = vec![Moment { contents: contents.clone(), epoch: None }];
        Self { possible_names: vec![names.clone()], names, contents, moments, next_id: 0 }
    }

    /// The store has this and nothing else, in memory and durably.
    pub(crate) fn restart(&mut self, found: &Found) {
        self.names = found.namespaces.iter().zip(0..).map(|(&namespace, id)| (namespace, id)).collect();
        self.next_id = self.names.len() as u32;
        let id = |namespace: &u8| self.names[namespace];
        let counts = found.counts.iter().map(|((namespace, key), &value)| ((id(namespace), *key), value)).collect();
        let edges = |edges: &BTreeMap<(u8, u8, u8), u64>, liked| -> Vec<_> {
            let edge = |(&(namespace, item, by), &time_ms)| ((id(&namespace), item, by), Edge { time_ms, liked });
            edges.iter().map(edge).collect()
        };
        let edges = edges(&found.likes, true).into_iter().chain(edges(&found.unlikes, false)).collect();
        self.contents = Contents { counts, edges };
        self.possible_names = vec![self.names.clone()];
        self.all_durable();
    }

    pub(crate) fn in_memory(&self) -> Found {
        Found::at(&self.names, &self.contents)
    }

    pub(crate) fn may_be_on_disk(&self, found: &Found) -> bool {
        self.possible_names
            .iter()
            .any(|names| self.moments.iter().any(|moment| Found::at(names, &moment.contents) == *found))
    }

    /// The contents are now these, and the disk may have them.
    pub(crate) fn changed(&mut self, contents: Contents, epoch: Option<u64>) {
        self.moments.push(Moment { contents: contents.clone(), epoch });
        self.contents = contents;
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
        self.moments = vec![Moment { contents: self.contents.clone(), epoch: None }];
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
