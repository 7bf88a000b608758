//! Likes in the states of the model. What can be listed of a namespace of likes is in its own map, as
//! [`state`](super::support::state) lists it. What cannot be, the remembered unlikes, is in the map [`UNLIKES`].

use std::collections::BTreeMap;

use plaudit::{LikeOptions, Likes, Viewer, ViewerIds};

use super::support::{State, edge_key};

/// A name that no namespace has. Its map has the remembered unlikes of all of them, and what is not known of one.
pub const UNLIKES: &str = "\0unlikes";

/// The time of an unlike that may be there or not.
const UNKNOWN: i64 = i64::MIN;

/// An edge as the model knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    None,
    Liked(u64),
    Unliked(u64),
    /// Not liked; whether an unlike is remembered depends on which of several states was restored.
    Unknown,
}

/// When an event happens.
#[derive(Debug, Clone, Copy)]
pub enum When {
    Now(u64),
    At(u64),
}

/// The options of a namespace of likes by its name: half of them have viewers of 128 bits.
pub fn options(name: &str) -> LikeOptions {
    let viewers = if name.ends_with('1') { ViewerIds::U128 } else { ViewerIds::U64 };
    LikeOptions { viewers, ..LikeOptions::default() }
}

/// The viewers of a namespace.
pub fn viewer(likes: &Likes, number: u64) -> Viewer {
    match likes.options().viewers {
        ViewerIds::U128 => Viewer::from(u128::MAX - u128::from(number)),
        _ => Viewer::from(number),
    }
}

fn unlike_key(name: &str, item: &str, viewer: Viewer) -> String {
    format!("{name} {}", edge_key(item, viewer))
}

pub fn edge(state: &State, name: &str, item: &str, viewer: Viewer) -> Edge {
    let of = |name: &str, key: &str| state.get(name).and_then(|map| map.get(key)).copied();
    match (of(name, &edge_key(item, viewer)), of(UNLIKES, &unlike_key(name, item, viewer))) {
        (Some(time_ms), _) => Edge::Liked(time_ms as u64),
        (None, Some(UNKNOWN)) => Edge::Unknown,
        (None, Some(time_ms)) => Edge::Unliked(time_ms as u64),
        (None, None) => Edge::None,
    }
}

/// What an event makes of an edge; `None` when it stays as it is.
pub fn outcome(before: Edge, liked: bool, when: When) -> Option<Edge> {
    let made = |time_ms| if liked { Edge::Liked(time_ms) } else { Edge::Unliked(time_ms) };
    let is_liked = matches!(before, Edge::Liked(_));
    match (before, when) {
        (Edge::None, When::At(time_ms)) => Some(made(time_ms)),
        (Edge::Liked(before_ms), When::At(time_ms)) => {
            let wins = time_ms > before_ms || time_ms == before_ms && !liked;
            wins.then(|| made(time_ms))
        }
        (Edge::Unliked(before_ms), When::At(time_ms)) => (time_ms > before_ms).then(|| made(time_ms)),
        (_, When::Now(_)) if is_liked == liked => None,
        (Edge::None, When::Now(now_ms)) => Some(made(now_ms)),
        (Edge::Liked(before_ms), When::Now(now_ms)) => Some(made(now_ms.max(before_ms))),
        (Edge::Unliked(before_ms), When::Now(now_ms)) => Some(made(now_ms.max(before_ms + 1))),
        (Edge::Unknown, _) => unreachable!("an edge that is not known gets only events that are newer than any"),
    }
}

/// Applies an event, and answers the item's count and by how much it changed.
pub fn apply(state: &mut State, name: &str, item: &str, viewer: Viewer, liked: bool, when: When) -> (i64, i64) {
    let before = match edge(state, name, item, viewer) {
        Edge::Unknown => Edge::None,
        known => known,
    };
    let after = outcome(before, liked, when);
    let count = state.get(name).and_then(|map| map.get(item)).copied();
    let Some(after) = after else { return (count.unwrap_or(0), 0) };
    let is = |edge| i64::from(matches!(edge, Edge::Liked(_)));
    let delta = is(after) - is(before);
    set(state, name, item, viewer, after);
    let count = count.unwrap_or(0) + delta;
    state.entry(name.to_owned()).or_default().insert(item.to_owned(), count);
    (count, delta)
}

fn set(state: &mut State, name: &str, item: &str, viewer: Viewer, edge: Edge) {
    let (liked, unliked) = (edge_key(item, viewer), unlike_key(name, item, viewer));
    state.entry(name.to_owned()).or_default().remove(&liked);
    unlikes(state).remove(&unliked);
    match edge {
        Edge::Liked(time_ms) => _ = state.entry(name.to_owned()).or_default().insert(liked, time_ms as i64),
        Edge::Unliked(time_ms) => _ = unlikes(state).insert(unliked, time_ms as i64),
        Edge::None | Edge::Unknown => {}
    }
}

fn unlikes(state: &mut State) -> &mut BTreeMap<String, i64> {
    state.entry(UNLIKES.to_owned()).or_default()
}

/// Removes a namespace.
pub fn remove_namespace(state: &mut State, name: &str) {
    state.remove(name);
    unlikes(state).retain(|key, _| !key.starts_with(&format!("{name} ")));
}

/// Removes an item, and answers how many liked it.
pub fn remove_item(state: &mut State, name: &str, item: &str) -> i64 {
    let prefix = edge_key(item, "");
    let map = state.entry(name.to_owned()).or_default();
    let count = map.remove(item).unwrap_or(0);
    map.retain(|key, _| !key.starts_with(&prefix));
    // An item that is not there has no unlikes either.
    unlikes(state).retain(|key, _| !key.starts_with(&format!("{name} {prefix}")));
    count
}

/// Forgets a viewer, and answers how many items they liked.
pub fn forget_viewer(state: &mut State, name: &str, viewer: Viewer, items: &[String]) -> i64 {
    let mut likes = 0;
    for item in items {
        if let Edge::Liked(_) = edge(state, name, item, viewer) {
            likes += 1;
            *state.entry(name.to_owned()).or_default().entry(item.clone()).or_default() -= 1;
        }
        set(state, name, item, viewer, Edge::None);
    }
    likes
}

/// Whether a store's state is the one of the model, as far as it can be listed.
pub fn is_same(model: &State, found: &State) -> bool {
    model.iter().filter(|(name, _)| *name != UNLIKES).eq(found.iter())
}

/// What is known once a state was restored that may have been any of these: an unlike that only some of them have is
/// not.
pub fn restored(found: State, candidates: &[&State]) -> State {
    let none = BTreeMap::new();
    let of = |state: &&State| state.get(UNLIKES).unwrap_or(&none).clone();
    let mut known = BTreeMap::new();
    for (key, time_ms) in candidates.iter().flat_map(of) {
        let is_sure = candidates.iter().all(|state| state.get(UNLIKES).and_then(|map| map.get(&key)) == Some(&time_ms));
        known.insert(key, if is_sure { time_ms } else { UNKNOWN });
    }
    let mut state = found;
    state.insert(UNLIKES.to_owned(), known);
    state
}
