//! What the store left is compared with what was done, and with what its subscriber was told.

use std::collections::BTreeMap;

use plaudit::{Delivery, Result, SealedEpoch, Store};

use crate::End;
use crate::journal::{Counts, Hot, Journal, add_counts};
use crate::likes::{audited, count_name, edge_counts};
use crate::support::{ROOT, World};
use plaudit::Driver;

/// Opens what the store left, compares it with what was done, and goes on with it. Returns the epoch that it reached.
pub(crate) fn check(world: &World, journal: &Journal, deliveries: &[Delivery], end: End, sealed: bool) -> u64 {
    let store = world.open().unwrap_or_else(|error| panic!("{end:?}: {error:?}\n{journal:#?}"));
    let (epoch, found, other) = (store.recovery().last_epoch, counts(&store), other(&store));
    let context = || format!("{end:?}, epoch {epoch}, found {found:?}\n{journal:#?}");
    assert!(journal.explains(epoch, &found), "a change is lost, or there twice: {}", context());
    assert_eq!(tally(&found), tallied(&found), "the tally is not that of its likes: {}", context());
    // An epoch without a change is acknowledged too, and never written.
    let acknowledged = journal.epochs.range(..=journal.acknowledged).next_back();
    assert!(acknowledged.is_none_or(|(last, _)| *last <= epoch), "an acknowledged epoch is lost: {}", context());
    assert!(journal.other.contains(&other.is_some()), "the other namespace: {}", context());
    if end.is_orderly() {
        assert!(journal.epochs.keys().all(|done| *done <= epoch), "a close forgot a change: {}", context());
    }
    check_hot(&store, journal, end);
    assert!(store.recovery().closed_cleanly || epoch == 0 || !sealed, "the log has no seal: {}", context());
    if journal.unknown.is_empty() {
        check_deliveries(journal, deliveries, epoch, end);
    }
    goes_on(world, store, found);
    epoch
}

/// The hot counter has what was acknowledged, and nothing that was not added.
fn check_hot(store: &Store, journal: &Journal, end: End) {
    let found = store.existing_counters("live").and_then(|live| live.get("stream")).unwrap_or(0);
    let Hot { added, acknowledged, unknown } = journal.hot;
    let least = if end.is_orderly() { added } else { acknowledged };
    assert!((least..=added + unknown).contains(&found), "{end:?}: {found} of {:?}", journal.hot);
}

/// Changes something more, and finds all of it.
fn goes_on(world: &World, store: Store, mut expected: Counts) {
    let other_before = other(&store);
    store.counters("totals").unwrap().add("after", 1).unwrap();
    store.likes("videos").unwrap().like_at("after", 1_u64, 5).unwrap();
    store.close().unwrap();
    let more = [("after", 1), ("count of after", 1), ("after by 1", 5)];
    expected.extend(more.map(|(name, count)| (name.to_owned(), count)));
    let store = world.open().unwrap();
    assert_eq!((counts(&store), other(&store)), (expected, other_before));
    store.close().unwrap();
    let report = Store::verify_in(world.environment(Driver::Caller), ROOT).unwrap();
    assert!(report.problems.is_empty(), "{report:?}");
}

/// What the store counts.
fn counts(store: &Store) -> Counts {
    let mut counts = audited(store);
    let totals = store.existing_counters("totals").unwrap();
    let read = totals.iter().map(|counter| {
        let (key, value) = counter.unwrap();
        (key.escape_ascii().to_string(), i128::from(value))
    });
    add_counts(&mut counts, &read.collect());
    counts
}

/// The namespace that comes and goes.
fn other(store: &Store) -> Option<Vec<(bytes::Bytes, i64)>> {
    let is_there = store.namespaces().iter().any(|namespace| namespace.name == "other");
    is_there.then(|| store.existing_counters("other").unwrap().iter().collect::<Result<_>>().unwrap())
}

fn tally(counts: &Counts) -> i128 {
    counts.get("tally").copied().unwrap_or(0)
}

/// What the tally hangs on.
fn tallied(counts: &Counts) -> i128 {
    ["t0", "t1"].iter().filter_map(|item| counts.get(&count_name(item))).sum()
}

/// What a subscriber was told so far.
#[derive(Debug, Default)]
struct Told {
    counts: Counts,
    /// The counts of items.
    items: BTreeMap<String, i64>,
    /// The times of likes by item and viewer.
    edges: BTreeMap<(String, u64), u64>,
}

impl Told {
    fn apply(&mut self, sealed: &SealedEpoch) {
        for change in &sealed.changes {
            let key = change.key.escape_ascii().to_string();
            match &*change.namespace {
                "totals" => {
                    add_counts(&mut self.counts, &Counts::from([(key.clone(), change.delta)]));
                    let value = self.counts.get(&key).copied().unwrap_or(0);
                    assert_eq!(change.value.map_or(0, i128::from), value, "{key} in {sealed:?}");
                }
                "videos" => {
                    add_counts(&mut self.counts, &Counts::from([(count_name(&key), change.delta)]));
                    let before = self.items.insert(key.clone(), change.value.unwrap_or(0)).unwrap_or(0);
                    assert_eq!(i128::from(change.value.unwrap_or(0) - before), change.delta, "{key} in {sealed:?}");
                    if change.value.is_none() {
                        self.edges.retain(|(item, _), _| *item != key);
                    }
                }
                _ => {}
            }
        }
        for like in &sealed.likes {
            let edge = (like.item.escape_ascii().to_string(), like.viewer.as_u64().unwrap());
            match like.liked_at_ms {
                Some(time_ms) => self.edges.insert(edge, time_ms),
                None => self.edges.remove(&edge),
            };
        }
    }

    /// Whether the likes that were told make the counts that were told. An item that is removed and liked anew within
    /// an epoch has no word for those that were removed.
    fn check_items(&self) {
        for (item, count) in self.items.iter().filter(|(item, _)| *item != "fleeting") {
            let likes = self.edges.keys().filter(|(of, _)| of == item).count();
            assert_eq!(*count, likes as i64, "{item}: {self:?}");
        }
    }

    fn all(&self) -> Counts {
        let mut all = self.counts.clone();
        all.extend(edge_counts(self.edges.iter().map(|((item, viewer), time_ms)| (&**item, *viewer, *time_ms))));
        all
    }
}

/// Each delivered epoch is durable, is delivered once, and has what was done in it.
fn check_deliveries(journal: &Journal, deliveries: &[Delivery], durable: u64, end: End) {
    let (mut told, mut last) = (Told::default(), 0);
    for delivery in deliveries {
        let Delivery::Epoch(sealed) = delivery else { panic!("the queue has room for all: {delivery:?}") };
        assert!(sealed.epoch > last && sealed.epoch <= durable, "{sealed:?} after {last}, of {durable}\n{journal:#?}");
        told.apply(sealed);
        told.check_items();
        last = sealed.epoch;
        let counts = told.all();
        assert_eq!(counts, journal.through(last), "through epoch {last}\n{journal:#?}");
        assert_eq!(tally(&counts), tallied(&counts), "{sealed:?}");
    }
    if end.is_orderly() {
        assert_eq!(told.all(), journal.through(u64::MAX), "{deliveries:#?}\n{journal:#?}");
    }
}
