//! The part of a workload that likes.

use plaudit::{Likes, Receipt, Result, Store, Viewer};

use super::{Stop, Workload};
use crate::likes::{self, Edge, When};

/// So few that most events meet an edge that is there.
const VIEWERS: u64 = 4;

impl Workload {
    pub(super) fn create_likes(&mut self, store: &Store) -> Result<(), Stop> {
        let name = format!("likes-{}", self.random.below(2));
        if self.model.now.contains_key(&name) {
            return Ok(());
        }
        let insert = |state: &mut super::State| _ = state.insert(name.clone(), Default::default());
        self.at_once("creation of a namespace of likes", &insert, || {
            store.likes_with(&name, likes::options(&name)).map(drop)
        })
    }

    /// A namespace of likes.
    fn pick_likes(&mut self, store: &Store) -> Result<Option<(String, Likes)>> {
        let names: Vec<_> = self.model.now.keys().filter(|name| name.starts_with("likes-")).cloned().collect();
        let at = self.random.below(names.len().max(1) as u64) as usize;
        let Some(name) = names.get(at) else { return Ok(None) };
        Ok(Some((name.clone(), store.existing_likes(name)?)))
    }

    fn items() -> Vec<String> {
        (0..5).map(|item| if item == 0 { format!("{item:->700}") } else { format!("item-{item}") }).collect()
    }

    fn item(&mut self) -> String {
        Self::items().swap_remove(self.random.below(5) as usize)
    }

    /// An event, so that the model can tell what it does: mostly of about the time of what it meets.
    fn event(&mut self, name: &str, item: &str, viewer: Viewer) -> (bool, When) {
        let liked = self.random.below(3) > 0;
        let around = |before_ms: u64, random: u64| When::At((before_ms + random).saturating_sub(1));
        let when = match (likes::edge(&self.model.now, name, item, viewer), self.random.below(3)) {
            (Edge::Unknown, _) | (_, 0) => {
                self.newest_ms += 1;
                When::At(self.newest_ms)
            }
            (Edge::Liked(before_ms) | Edge::Unliked(before_ms), 1) => around(before_ms, self.random.below(3)),
            _ => When::Now(plaudit::Clock::wall_ms(&self.clock)),
        };
        if let When::At(time_ms) = when {
            self.newest_ms = self.newest_ms.max(time_ms);
        }
        (liked, when)
    }

    pub(super) fn like(&mut self, store: &Store) -> Result<(), Stop> {
        let Some((name, likes)) = self.pick_likes(store)? else { return Ok(()) };
        let (item, viewer) = (self.item(), likes::viewer(&likes, self.random.below(VIEWERS)));
        let (liked, when) = self.event(&name, &item, viewer);
        let (count, delta) = likes::apply(&mut self.model.now, &name, &item, viewer, liked, when);
        self.begin_change();
        let changed = match (liked, when) {
            (true, When::Now(_)) => likes.like(&item, viewer),
            (false, When::Now(_)) => likes.unlike(&item, viewer),
            (true, When::At(time_ms)) => likes.like_at(&item, viewer, time_ms),
            (false, When::At(time_ms)) => likes.unlike_at(&item, viewer, time_ms),
        };
        self.end_like(changed, count, delta)
    }

    pub(super) fn remove_item(&mut self, store: &Store) -> Result<(), Stop> {
        let Some((name, likes)) = self.pick_likes(store)? else { return Ok(()) };
        let item = self.item();
        let there = self.model.now[&name].contains_key(&item);
        let count = likes::remove_item(&mut self.model.now, &name, &item);
        self.begin_change();
        let removed = likes.remove_item(&item);
        let delta = if there { -count } else { 0 };
        self.meet("removal of an item");
        self.end_like(removed, 0, delta)
    }

    pub(super) fn forget_viewer(&mut self, store: &Store) -> Result<(), Stop> {
        let Some((name, likes)) = self.pick_likes(store)? else { return Ok(()) };
        let viewer = likes::viewer(&likes, self.random.below(VIEWERS));
        let forgotten = likes::forget_viewer(&mut self.model.now, &name, viewer, &Self::items());
        self.begin_change();
        let changed = likes.forget_viewer(viewer);
        self.meet("forgetting of a viewer");
        self.end_like(changed, 0, -forgotten)
    }

    fn end_like(&mut self, changed: Result<Receipt<'_>>, count: i64, delta: i64) -> Result<(), Stop> {
        match &changed {
            Ok(receipt) if (receipt.value(), receipt.delta()) != (count, i128::from(delta)) => {
                Err(Stop::Wrong(format!("{receipt:?}, and not {count} after {delta}")))
            }
            _ => self.end_change(changed.map(|receipt| receipt.changed())),
        }
    }

    /// A like in a batch, with a counter that follows the item's count.
    pub(super) fn like_in(&mut self, store: &Store, batch: &mut plaudit::Batch) -> Result<()> {
        let (Some((name, likes)), Some(followed)) = (self.pick_likes(store)?, self.pick()) else { return Ok(()) };
        let (item, viewer) = (self.item(), likes::viewer(&likes, self.random.below(VIEWERS)));
        let (liked, when) = self.event(&name, &item, viewer);
        let (_, delta) = likes::apply(&mut self.model.now, &name, &item, viewer, liked, when);
        match (liked, when) {
            (true, When::Now(_)) => batch.like(&likes, &item, viewer),
            (false, When::Now(_)) => batch.unlike(&likes, &item, viewer),
            (true, When::At(time_ms)) => batch.like_at(&likes, &item, viewer, time_ms),
            (false, When::At(time_ms)) => batch.unlike_at(&likes, &item, viewer, time_ms),
        };
        batch.tally(&store.existing_counters(&followed)?, "tally");
        if delta != 0 {
            *self.model.now.entry(followed).or_default().entry("tally".to_owned()).or_default() += delta;
        }
        Ok(())
    }
}
