//! The part of a life that likes. Each event is newer than all before, so the last one of an edge holds.

use std::collections::BTreeMap;

use plaudit::{Result, Store};

use super::Oracle;
use super::support::{Random, State, edge_key, note_like};

pub(super) const NAME: &str = "liked";

/// A time that no event was of, in a store that has lived once at most.
pub(super) fn after(found: &State) -> u64 {
    let newest = found.get(NAME).and_then(|likes| likes.values().max()).copied().unwrap_or(0);
    if found.is_empty() { 1_000 } else { newest as u64 + 2_000 }
}

pub(super) fn create(store: &Store, oracle: &mut Oracle) -> Result<()> {
    let insert = |state: &mut State| {
        state.entry(NAME.to_owned()).or_default();
    };
    oracle.at_once(insert, || store.likes(NAME).map(drop))
}

/// Likes, unlikes, a batch with a counter that follows, a viewer forgotten, an item removed.
pub(super) fn change(store: &Store, oracle: &mut Oracle, random: &mut Random, counted: &str) -> Result<()> {
    if !oracle.now.contains_key(NAME) {
        return create(store, oracle);
    }
    let likes = store.existing_likes(NAME)?;
    let (item, viewer) = (format!("{:->200}", random.below(3)), random.below(4));
    oracle.newest_ms += 1;
    let time_ms = oracle.newest_ms;
    match random.below(6) {
        0 => {
            let mut batch = store.batch();
            let (all, followed) = ("all-likes", store.existing_counters(counted)?);
            batch.like_at(&likes, &item, viewer, time_ms).tally(&followed, all);
            batch.unlike_at(&likes, "other", viewer, time_ms);
            batch.commit()?;
            let model = oracle.namespace(NAME);
            let is_new = !model.contains_key(&edge_key(&item, viewer));
            note_like(model, &item, viewer, Some(time_ms));
            note_like(model, "other", viewer, None);
            if is_new {
                *oracle.namespace(counted).entry(all.to_owned()).or_default() += 1;
            }
            oracle.changes += 1;
        }
        1 => {
            let receipt = likes.forget_viewer(viewer)?;
            // What found nothing to change waits for what it saw, which may be of an earlier epoch than others.
            if receipt.changed() {
                oracle.changed(receipt);
            }
            forget(oracle.namespace(NAME), viewer);
        }
        2 => {
            let receipt = likes.remove_item(&item)?;
            if receipt.changed() {
                oracle.changed(receipt);
            }
            oracle.namespace(NAME).retain(|key, _| !key.starts_with(&item));
        }
        3 => {
            oracle.changed(likes.unlike_at(&item, viewer, time_ms)?);
            note_like(oracle.namespace(NAME), &item, viewer, None);
        }
        _ => {
            oracle.changed(likes.like_at(&item, viewer, time_ms)?);
            note_like(oracle.namespace(NAME), &item, viewer, Some(time_ms));
        }
    }
    Ok(())
}

fn forget(model: &mut BTreeMap<String, i64>, viewer: u64) {
    let ending = edge_key("", viewer);
    let items: Vec<String> = model.keys().filter_map(|key| Some(key.strip_suffix(&ending)?.to_owned())).collect();
    for item in items {
        note_like(model, &item, viewer, None);
    }
}
