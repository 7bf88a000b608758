//! The operations on likes, and what a model with plain maps expects of them.

use std::collections::BTreeMap;

use arbitrary::Arbitrary;
use plaudit::storage::sim::SimClock;
use plaudit::{Batch, Durability, Environment, Error, Likes, Options, Receipt, Result, Store, Viewer};

use super::model::{Contents, Edge, Found, KEYS, LIKES, key, like_options, name, viewer};
use super::{ROOT, Run, What};

/// So few that most events meet an edge that is there.
pub(super) const VIEWERS: u8 = 3;
const ITEMS: u8 = 3;

/// A like or an unlike, now by a clock that says anything, or at a time of its own.
#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) struct Event {
    namespace: bool,
    item: u8,
    viewer: u8,
    liked: bool,
    is_now: bool,
    time_ms: u8,
}

impl Event {
    fn namespace(self) -> u8 {
        LIKES + u8::from(self.namespace)
    }

    fn item(self) -> u8 {
        // From where the keys change from long to short.
        (self.item % ITEMS + 3) % KEYS
    }

    fn viewer(self) -> Viewer {
        viewer(self.namespace(), self.viewer % VIEWERS)
    }

    fn apply<'a>(self, likes: &'a Likes) -> Result<Receipt<'a>> {
        let (item, viewer, time_ms) = (key(self.item()), self.viewer(), self.time_ms.into());
        match (self.liked, self.is_now) {
            (true, true) => likes.like(item, viewer),
            (false, true) => likes.unlike(item, viewer),
            (true, false) => likes.like_at(item, viewer, time_ms),
            (false, false) => likes.unlike_at(item, viewer, time_ms),
        }
    }

    fn gather(self, batch: &mut Batch, likes: &Likes) {
        let (item, viewer, time_ms) = (key(self.item()), self.viewer(), self.time_ms.into());
        match (self.liked, self.is_now) {
            (true, true) => batch.like(likes, item, viewer),
            (false, true) => batch.unlike(likes, item, viewer),
            (true, false) => batch.like_at(likes, item, viewer, time_ms),
            (false, false) => batch.unlike_at(likes, item, viewer, time_ms),
        };
    }

    /// Applies the event to the model, and answers by how much the item's count changed.
    fn model(self, contents: &mut Contents, id: u32) -> i64 {
        let place = (id, self.item(), self.viewer % VIEWERS);
        let before = contents.edges.get(&place).copied();
        let is_liked = before.is_some_and(|edge| edge.liked);
        let mut time_ms = u64::from(self.time_ms);
        if self.is_now {
            if is_liked == self.liked {
                return 0;
            }
            // It takes effect whatever the clock says.
            time_ms = time_ms.max(before.map_or(0, |edge| edge.time_ms + u64::from(self.liked)));
        }
        let after = Edge { time_ms, liked: self.liked };
        // The newest counts, and at equal times the unlike.
        let rank = |edge: Edge| (edge.time_ms, !edge.liked);
        if before.is_some_and(|before| rank(before) >= rank(after)) {
            return 0;
        }
        contents.edges.insert(place, after);
        let delta = i64::from(self.liked) - i64::from(is_liked);
        *contents.counts.entry((id, self.item())).or_default() += delta;
        delta
    }
}

impl Run {
    /// The unlikes that a store remembers that was just opened, found on a copy of its disk.
    pub(super) fn remembered(&self, found: &Found) -> BTreeMap<(u8, u8, u8), u64> {
        let (copy, clock) = (self.disk.process_kill(), SimClock::new());
        copy.set_capacity(None);
        clock.set_wall_ms(0);
        let environment = Environment::simulated(&copy, &clock);
        let options = Options { durability: Durability::Manual, ..self.options.clone() };
        let store = Store::open_in(environment, ROOT, options);
        let unlikes = store.and_then(|store| unlikes(&store, found));
        unlikes.unwrap_or_else(|error| panic!("a copy of a store that was opened reads: {error:?}"))
    }

    fn likes(&self, namespace: u8) -> Likes {
        self.store().existing_likes(&name(namespace)).unwrap_or_else(|error| panic!("{error:?}"))
    }

    /// With the clock at the event's time.
    fn at_its_time<T>(&self, event: Event, call: impl FnOnce() -> T) -> T {
        if event.is_now {
            self.clock.set_wall_ms(event.time_ms.into());
        }
        call()
    }

    pub(super) fn like(&mut self, event: Event) {
        let Some(&id) = self.model.names.get(&event.namespace()) else { return };
        let mut contents = self.model.contents.clone();
        let delta = event.model(&mut contents, id);
        let expected = contents.counts.get(&(id, event.item())).copied().unwrap_or(0);
        let likes = self.likes(event.namespace());
        let result = self.at_its_time(event, || event.apply(&likes)).map(|receipt| {
            assert_eq!((receipt.value(), receipt.delta()), (expected, delta.into()), "{event:?}");
            Some(receipt.epoch())
        });
        self.applied(result, true, contents);
    }

    /// A batch of likes, each with a tally in a counter of a namespace that may have bounds.
    pub(super) fn like_in_batch(&mut self, events: &[Event], counted: u8) {
        let counted = counted % LIKES;
        let Some(&counted_id) = self.model.names.get(&counted) else { return };
        let store = self.store();
        let counters = store.existing_counters(&name(counted)).unwrap_or_else(|error| panic!("{error:?}"));
        let (mut batch, mut contents, mut deltas) = (store.batch(), self.model.contents.clone(), Vec::new());
        for &event in events.iter().take(8) {
            let Some(&id) = self.model.names.get(&event.namespace()) else { continue };
            let likes = self.likes(event.namespace());
            self.at_its_time(event, || event.gather(&mut batch, &likes));
            batch.tally(&counters, key(KEYS - 1));
            deltas.push(event.model(&mut contents, id));
        }
        let tally = |delta| super::apply(&mut contents.counts, counted_id, counted, KEYS - 1, What::AddLarge(delta));
        let is_accepted = deltas.into_iter().filter(|delta| *delta != 0).map(tally).all(|value| value.is_some());
        let result = batch.commit().map(|receipt| Some(receipt.epoch()));
        self.applied(result, is_accepted, contents);
    }

    pub(super) fn remove_item(&mut self, event: Event) {
        let Some(&id) = self.model.names.get(&event.namespace()) else { return };
        let mut contents = self.model.contents.clone();
        let count = contents.counts.remove(&(id, event.item())).unwrap_or(0);
        contents.edges.retain(|(of, item, _), _| (*of, *item) != (id, event.item()));
        let likes = self.likes(event.namespace());
        let result = likes.remove_item(key(event.item())).map(|receipt| {
            assert_eq!((receipt.previous(), receipt.value()), (count, 0));
            Some(receipt.epoch())
        });
        self.applied(result, true, contents);
    }

    pub(super) fn forget_viewer(&mut self, event: Event) {
        let Some(&id) = self.model.names.get(&event.namespace()) else { return };
        let (mut contents, forgotten) = (self.model.contents.clone(), event.viewer % VIEWERS);
        let mut likes = 0;
        contents.edges.retain(|&(of, item, viewer), edge| {
            let is_kept = (of, viewer) != (id, forgotten);
            if !is_kept {
                likes += i64::from(edge.liked);
                *contents.counts.entry((id, item)).or_default() -= i64::from(edge.liked);
            }
            is_kept
        });
        let result = self.likes(event.namespace()).forget_viewer(event.viewer()).map(|receipt| {
            assert_eq!(receipt.previous(), likes);
            Some(receipt.epoch())
        });
        self.applied(result, true, contents);
    }
}

/// All items and likes of a namespace, found on all ways. Lists of viewers may lag behind.
pub(super) fn find(likes: &Likes, namespace: u8, found: &mut Found) -> Result<()> {
    assert_eq!(likes.options(), like_options(namespace));
    let mut listed = BTreeMap::new();
    for item in likes.iter() {
        let (bytes, count) = item?;
        let number = (0..KEYS).find(|&number| key(number) == bytes);
        let number = number.unwrap_or_else(|| panic!("nobody liked {bytes:?}"));
        let mut likers = likes.likers(&bytes, None, 2)?;
        while let Some(last) = likers.last().copied() {
            let page = likes.likers(&bytes, Some(&last), 2)?;
            likers.extend(&page);
            if page.is_empty() {
                break;
            }
        }
        assert_eq!(likers.len() as u64, count, "the count is that of the likers");
        for liker in likers {
            let by = (0..VIEWERS).find(|&number| viewer(namespace, number) == liker.viewer);
            let by = by.unwrap_or_else(|| panic!("{liker:?} likes nothing"));
            assert_eq!(listed.insert((number, by), liker.time_ms), None, "a liker is listed once");
        }
        assert_eq!(found.counts.insert((namespace, number), count as i64), None, "an item is listed once");
    }
    for by in 0..VIEWERS {
        for liked in likes.liked_by(viewer(namespace, by), None, usize::MAX)? {
            let is_liked = listed.keys().any(|&(item, of)| of == by && key(item) == liked.item);
            assert!(is_liked, "{by} is listed with {liked:?}, and does not like it");
        }
    }
    found.likes.extend(listed.into_iter().map(|((item, by), time_ms)| ((namespace, item, by), time_ms)));
    Ok(())
}

/// The unlikes that a store remembers, by their times, and that the lists of its viewers are complete. Changes the
/// store: a like by a clock at its beginning gets a time just after the unlike that it meets.
fn unlikes(store: &Store, found: &Found) -> Result<BTreeMap<(u8, u8, u8), u64>> {
    let mut unlikes = BTreeMap::new();
    for namespace in found.namespaces.iter().copied().filter(|namespace| *namespace >= LIKES) {
        let likes = store.existing_likes(&name(namespace))?;
        for by in 0..VIEWERS {
            let liked = found.likes.keys().filter(|(of, _, viewer)| (*of, *viewer) == (namespace, by)).count();
            assert_eq!(likes.liked_by(viewer(namespace, by), None, usize::MAX)?.len(), liked, "the list of {by}");
        }
        for (&(_, item), _) in found.counts.iter().filter(|((of, _), _)| *of == namespace) {
            for by in (0..VIEWERS).filter(|by| !found.likes.contains_key(&(namespace, item, *by))) {
                likes.like(key(item), viewer(namespace, by))?;
                let likers = likes.likers(key(item), None, usize::MAX)?;
                let liker = likers.iter().find(|liker| liker.viewer == viewer(namespace, by));
                let time_ms = liker.unwrap_or_else(|| panic!("a direct like takes effect")).time_ms;
                if let Some(unliked_ms) = time_ms.checked_sub(1) {
                    unlikes.insert((namespace, item, by), unliked_ms);
                }
            }
        }
    }
    Ok(unlikes)
}

/// A namespace of likes has no counters, and the other way round.
pub(super) fn check_kind(store: &Store, namespace: u8) {
    let is_refused = if namespace < LIKES {
        matches!(store.existing_likes(&name(namespace)).map(drop), Err(Error::NamespaceKind { .. }))
    } else {
        matches!(store.existing_counters(&name(namespace)).map(drop), Err(Error::NamespaceKind { .. }))
    };
    assert!(is_refused || store.namespaces().iter().all(|info| info.name != name(namespace)));
}
