//! The part of a workload that likes, and what it finds of that when a store was opened.

use plaudit::storage::sim::SimClock;
use plaudit::{Batch, Clock, Error, Likes, Receipt, Result, Store, Viewer};

use super::{Process, State, Stop, Workload, for_a_look, open};
use crate::likes::{self, Done, Edge, Event, SHORT_MS, VIEWERS, When};
use crate::model::difference;
use crate::support::state;

/// What is older than the long horizon, whatever the time is now.
const LONG_AGO_MS: u64 = 1_000_000_000_000;

impl Workload {
    /// Everything that an open store has, found on a copy of its disk.
    pub(super) fn look_into(&self, listed: &State) -> Result<State, String> {
        let copy = self.disk.process_kill();
        copy.set_capacity(None);
        let (process, clock) = (Process::new(&copy, None), SimClock::new());
        let store = open(&process, &clock, self.seed, &for_a_look(&self.options)).map_err(|error| error.to_string())?;
        process.kill();
        let found = likes::everything(&store, &clock)?;
        if likes::listed(&found) == *listed { Ok(found) } else { Err(difference(listed, &found)) }
    }

    /// After a sync a store that runs shows everything, also in the viewers' lists.
    pub(super) fn look_at(&self, store: &Store) -> Result<(), Stop> {
        let (found, expected) = (state(store), likes::listed(&self.model.now));
        if found == expected { Ok(()) } else { Err(Stop::Wrong(difference(&expected, &found))) }
    }

    pub(super) fn create_likes(&mut self, store: &Store, number: u64) -> Result<(), Stop> {
        let name = format!("likes-{number}");
        if self.model.now.contains_key(&name) {
            return Ok(());
        }
        let insert = |state: &mut State| _ = state.insert(name.clone(), Default::default());
        self.at_once("creation of a namespace of likes", &insert, || {
            store.likes_with(&name, likes::options(&name)).map(drop)
        })
    }

    /// A namespace of likes.
    fn pick_likes(&mut self, store: &Store) -> Result<Option<(String, Likes)>> {
        let Some(name) = self.pick_of(&["likes-"]) else { return Ok(None) };
        let likes = store.existing_likes(&name)?;
        Ok(Some((name, likes)))
    }

    /// Mostly the same few, so that most events meet an edge that is there.
    fn item(&mut self) -> String {
        match self.random.below(8) {
            // So long that a few of it fill a segment.
            0 => format!("{:->700}", 0),
            1..=4 => "item-1".to_owned(),
            5 | 6 => "item-2".to_owned(),
            _ => "item-3".to_owned(),
        }
    }

    fn viewer(&mut self, name: &str) -> Viewer {
        let number = [0, 0, 0, 1, 1, VIEWERS - 1][self.random.below(6) as usize];
        likes::viewer(name, number)
    }

    /// An event that the model can tell the outcome of: mostly of about the time of what it meets.
    fn event(&mut self, name: &str, item: &str) -> Event {
        let viewer = self.viewer(name);
        let (liked, now_ms) = (self.random.below(3) > 0, self.clock.wall_ms());
        let when = match (likes::edge(&self.model.now, name, item, viewer), self.random.below(5)) {
            // Within the horizon, whatever was seen before.
            (_, 0..4) if likes::forgets(name) => When::At(now_ms - self.random.below(SHORT_MS)),
            (_, 0) => When::At(self.newest_ms + 1),
            (Edge::Liked(before_ms) | Edge::Unliked(before_ms), 1 | 2) => {
                When::At(before_ms + self.random.below(3) - 1)
            }
            // The clock has gone back since the edge last changed, or stands still.
            (Edge::Liked(before_ms) | Edge::Unliked(before_ms), 3) => {
                When::Now((before_ms + self.random.below(3) - 2).min(now_ms))
            }
            _ => When::Now(now_ms),
        };
        let (When::Now(time_ms) | When::At(time_ms)) = when;
        self.newest_ms = self.newest_ms.max(time_ms);
        Event { viewer, liked, when }
    }

    /// With the clock at the event's time, if it is of now.
    fn at_its_time<T>(&self, event: Event, call: impl FnOnce() -> T) -> T {
        let now_ms = self.clock.wall_ms();
        if let When::Now(time_ms) = event.when {
            self.clock.set_wall_ms(time_ms);
        }
        let answer = call();
        self.clock.set_wall_ms(now_ms);
        answer
    }

    pub(super) fn like(&mut self, store: &Store) -> Result<(), Stop> {
        let Some((name, likes)) = self.pick_likes(store)? else { return Ok(()) };
        let mut noted = false;
        for _ in 0..1 + self.random.below(3) {
            noted |= self.like_one(&name, &likes)?;
        }
        if noted { self.like_too_late(store, &likes) } else { Ok(()) }
    }

    /// Whether anything is different then.
    fn like_one(&mut self, name: &str, likes: &Likes) -> Result<bool, Stop> {
        let item = self.item();
        let event = self.event(name, &item);
        let Done { count, delta, noted } = likes::apply(&mut self.model.now, name, &item, event);
        self.begin_change();
        let Event { viewer, liked, when } = event;
        let changed = self.at_its_time(event, || match (liked, when) {
            (true, When::Now(_)) => likes.like(&item, viewer),
            (false, When::Now(_)) => likes.unlike(&item, viewer),
            (true, When::At(time_ms)) => likes.like_at(&item, viewer, time_ms),
            (false, When::At(time_ms)) => likes.unlike_at(&item, viewer, time_ms),
        });
        self.end_like(changed, count, delta, noted).map(|()| noted)
    }

    /// An event from before the horizon changes nothing. An event before has told the namespace what time it is.
    fn like_too_late(&mut self, store: &Store, likes: &Likes) -> Result<(), Stop> {
        let (item, viewer) = (self.item(), self.viewer(likes.name()));
        let late = if self.random.below(2) == 0 {
            likes.like_at(&item, viewer, LONG_AGO_MS).map(|receipt| receipt.changed())
        } else {
            // Neither does a batch with such an event, in which another one came before it.
            let mut batch = store.batch();
            let newer = if self.random.below(2) == 0 { Batch::like_at } else { Batch::unlike_at };
            newer(&mut batch, likes, &item, viewer, self.clock.wall_ms()).like_at(likes, &item, viewer, LONG_AGO_MS);
            batch.commit().map(|_| true)
        };
        self.meet("an event that is too old");
        match late {
            Err(Error::TooOld { .. }) => Ok(()),
            answer => Err(Stop::Wrong(format!("an event that is too old is answered {answer:?}"))),
        }
    }

    pub(super) fn remove_item(&mut self, store: &Store) -> Result<(), Stop> {
        let Some((name, likes)) = self.pick_likes(store)? else { return Ok(()) };
        let item = self.item();
        self.remove(&name, &likes, &item)
    }

    fn remove(&mut self, name: &str, likes: &Likes, item: &str) -> Result<(), Stop> {
        let count = likes::remove_item(&mut self.model.now, name, item);
        self.begin_change();
        let removed = likes.remove_item(item);
        self.meet("removal of an item");
        self.end_like(removed, 0, -count, false)
    }

    pub(super) fn forget_viewer(&mut self, store: &Store) -> Result<(), Stop> {
        let Some((name, likes)) = self.pick_likes(store)? else { return Ok(()) };
        let viewer = self.viewer(&name);
        self.forget(&name, &likes, viewer)
    }

    fn forget(&mut self, name: &str, likes: &Likes, viewer: Viewer) -> Result<(), Stop> {
        let forgotten = likes::forget_viewer(&mut self.model.now, name, viewer);
        self.begin_change();
        let changed = likes.forget_viewer(viewer);
        self.meet(if forgotten > 30 { "forgetting of a viewer of many items" } else { "forgetting of a viewer" });
        self.end_like(changed, 0, -forgotten, false)
    }

    fn end_like(&mut self, changed: Result<Receipt<'_>>, count: i64, delta: i64, noted: bool) -> Result<(), Stop> {
        match &changed {
            Ok(receipt) if (receipt.value(), receipt.delta()) != (count, i128::from(delta)) => {
                Err(Stop::Wrong(format!("{receipt:?}, and not {count} after {delta}")))
            }
            // A newer time alone is durable too.
            _ => self.end_change(changed.map(|receipt| receipt.changed() || noted)),
        }
    }

    /// A like in a batch, with a counter that follows the item's count.
    pub(super) fn like_in(&mut self, store: &Store, batch: &mut Batch) -> Result<()> {
        let (Some((name, likes)), Some(followed)) = (self.pick_likes(store)?, self.pick()) else { return Ok(()) };
        let item = self.item();
        let event = self.event(&name, &item);
        let Done { delta, .. } = likes::apply(&mut self.model.now, &name, &item, event);
        let Event { viewer, liked, when } = event;
        self.at_its_time(event, || {
            _ = match (liked, when) {
                (true, When::Now(_)) => batch.like(&likes, &item, viewer),
                (false, When::Now(_)) => batch.unlike(&likes, &item, viewer),
                (true, When::At(time_ms)) => batch.like_at(&likes, &item, viewer, time_ms),
                (false, When::At(time_ms)) => batch.unlike_at(&likes, &item, viewer, time_ms),
            };
        });
        batch.tally(&store.existing_counters(&followed)?, "tally");
        if delta != 0 {
            *self.model.now.entry(followed).or_default().entry("tally".to_owned()).or_default() += delta;
        }
        Ok(())
    }

    /// A batch of many likes: of one viewer, who is forgotten then or later, or of one item, which is removed.
    pub(super) fn like_many(&mut self, store: &Store) -> Result<(), Stop> {
        let Some((name, likes)) = self.pick_likes(store)? else { return Ok(()) };
        let (item, viewer) = (self.item(), self.viewer(&name));
        let now_ms = self.clock.wall_ms();
        let of_one_viewer = self.random.below(2) == 0;
        let mut batch = store.batch();
        let mut like = |item: &str, viewer| {
            let event = Event { viewer, liked: true, when: When::Now(now_ms) };
            likes::apply(&mut self.model.now, &name, item, event);
            batch.like(&likes, item, viewer);
        };
        if of_one_viewer {
            (0..40).for_each(|number| like(&format!("many-{number}"), viewer));
        } else {
            (100..240).for_each(|number| like(&item, likes::viewer(&name, number)));
        }
        self.meet(if of_one_viewer { "many likes of a viewer" } else { "many likes of an item" });
        self.begin_change();
        let changed = batch.commit().map(|receipt| receipt.changes().any(|change| change.changed));
        self.end_change(changed)?;
        self.seal(store)?;
        match self.random.below(4) {
            0 | 1 if of_one_viewer => self.forget(&name, &likes, viewer),
            0 | 1 => self.remove(&name, &likes, &item),
            _ => Ok(()),
        }
    }
}
