//! Likes in the states of the model. What can be listed of a namespace of likes is in its own map, as
//! [`state`] lists it. What cannot be, the remembered unlikes, is in the map [`UNLIKES`].

use std::collections::BTreeMap;
use std::time::Duration;

use plaudit::storage::sim::SimClock;
use plaudit::{LikeOptions, Likes, Store, Viewer, ViewerIds};

use super::support::{State, edge_key, state};

/// A name that no namespace has. Its map has the remembered unlikes of all of them.
pub const UNLIKES: &str = "\0unlikes";

/// The namespace with a horizon so short that unlikes are forgotten: the model can tell what it lists only.
const FORGETFUL: &str = "likes-2";

/// The horizon of that namespace.
pub const SHORT_MS: u64 = 1_000;

/// The viewers who unlike.
pub const VIEWERS: u64 = 3;

/// An edge as the model knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    None,
    Liked(u64),
    Unliked(u64),
}

/// When an event happens.
#[derive(Debug, Clone, Copy)]
pub enum When {
    Now(u64),
    At(u64),
}

/// A like or an unlike.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    pub viewer: Viewer,
    pub liked: bool,
    pub when: When,
}

/// What an event did.
#[derive(Debug, Clone, Copy)]
pub struct Done {
    /// The item's count.
    pub count: i64,
    /// By how much it changed.
    pub delta: i64,
    /// Whether the edge is different, if only by its time.
    pub noted: bool,
}

/// The options of a namespace of likes by its name: one has viewers of 128 bits, one a short horizon.
pub fn options(name: &str) -> LikeOptions {
    let viewers = if name == "likes-1" { ViewerIds::U128 } else { ViewerIds::U64 };
    let default = LikeOptions { viewers, ..LikeOptions::default() };
    if forgets(name) { LikeOptions { horizon: Duration::from_millis(SHORT_MS), ..default } } else { default }
}

/// Whether a namespace may forget unlikes within a workload.
pub fn forgets(name: &str) -> bool {
    name == FORGETFUL
}

/// The viewers of a namespace.
pub fn viewer(name: &str, number: u64) -> Viewer {
    if name == "likes-1" { Viewer::from(u128::MAX - u128::from(number)) } else { Viewer::from(number) }
}

/// Everything that a store has, with the unlikes that it remembers. Finding those changes the store, in memory: a like
/// of a clock that has gone back gets a time just after the unlike that it meets.
pub fn everything(store: &Store, clock: &SimClock) -> Result<State, String> {
    let mut all = state(store);
    clock.set_wall_ms(0);
    let mut unlikes = BTreeMap::new();
    for name in all.keys().filter(|name| name.starts_with("likes-") && !forgets(name)) {
        let likes = store.existing_likes(name).map_err(|error| error.to_string())?;
        remembered(&likes, &mut unlikes).map_err(|error| error.to_string())?;
    }
    all.insert(UNLIKES.to_owned(), unlikes);
    Ok(all)
}

fn remembered(likes: &Likes, unlikes: &mut BTreeMap<String, i64>) -> plaudit::Result<()> {
    let items: Vec<_> = likes.iter().map(|item| item.map(|(item, _)| item)).collect::<plaudit::Result<_>>()?;
    let started_ms = plaudit::Clock::wall_ms(&SimClock::new());
    for number in 0..VIEWERS {
        let viewer = viewer(likes.name(), number);
        let liked = likes.liked_among(viewer, &items)?;
        let listed = likes.liked_by(viewer, None, usize::MAX)?.len();
        assert_eq!(listed, liked.iter().filter(|liked| **liked).count(), "the list of viewer {viewer}");
        for (item, _) in items.iter().zip(&liked).filter(|(_, liked)| !**liked) {
            likes.like(item, viewer)?;
            let likers = likes.likers(item, None, usize::MAX)?;
            let time_ms = likers.iter().find(|liker| liker.viewer == viewer).map_or(0, |liker| liker.time_ms);
            // Without an unlike it is the beginning of the horizon.
            if time_ms > started_ms {
                let item = item.escape_ascii().to_string();
                unlikes.insert(unlike_key(likes.name(), &item, viewer), time_ms as i64 - 1);
            }
        }
    }
    Ok(())
}

/// What can be listed of a state.
pub fn listed(state: &State) -> State {
    let mut listed = state.clone();
    listed.remove(UNLIKES);
    listed
}

fn unlike_key(name: &str, item: &str, viewer: Viewer) -> String {
    format!("{name} {}", edge_key(item, viewer))
}

pub fn edge(state: &State, name: &str, item: &str, viewer: Viewer) -> Edge {
    let of = |name: &str, key: &str| state.get(name).and_then(|map| map.get(key)).copied();
    match (of(name, &edge_key(item, viewer)), of(UNLIKES, &unlike_key(name, item, viewer))) {
        (Some(time_ms), _) => Edge::Liked(time_ms as u64),
        (None, Some(time_ms)) => Edge::Unliked(time_ms as u64),
        (None, None) => Edge::None,
    }
}

/// What an event makes of an edge; `None` when it stays as it is.
fn outcome(before: Edge, liked: bool, when: When) -> Option<Edge> {
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
    }
}

/// Applies an event.
pub fn apply(state: &mut State, name: &str, item: &str, event: Event) -> Done {
    let Event { viewer, liked, when } = event;
    let before = edge(state, name, item, viewer);
    let count = state.get(name).and_then(|map| map.get(item)).copied().unwrap_or(0);
    let Some(after) = outcome(before, liked, when) else { return Done { count, delta: 0, noted: false } };
    let is = |edge| i64::from(matches!(edge, Edge::Liked(_)));
    let delta = is(after) - is(before);
    set(state, name, item, viewer, after);
    state.entry(name.to_owned()).or_default().insert(item.to_owned(), count + delta);
    Done { count: count + delta, delta, noted: true }
}

fn set(state: &mut State, name: &str, item: &str, viewer: Viewer, edge: Edge) {
    let (liked, unliked) = (edge_key(item, viewer), unlike_key(name, item, viewer));
    state.entry(name.to_owned()).or_default().remove(&liked);
    unlikes(state).remove(&unliked);
    match edge {
        Edge::Liked(time_ms) => _ = state.entry(name.to_owned()).or_default().insert(liked, time_ms as i64),
        Edge::Unliked(time_ms) => _ = unlikes(state).insert(unliked, time_ms as i64),
        Edge::None => {}
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
pub fn forget_viewer(state: &mut State, name: &str, viewer: Viewer) -> i64 {
    let ending = edge_key("", viewer);
    let map = state.entry(name.to_owned()).or_default();
    let items: Vec<String> = map.keys().filter_map(|key| Some(key.strip_suffix(&ending)?.to_owned())).collect();
    for item in &items {
        map.remove(&edge_key(item, viewer));
        *map.entry(item.clone()).or_default() -= 1;
    }
    unlikes(state).retain(|key, _| !(key.starts_with(&format!("{name} ")) && key.ends_with(&ending)));
    items.len() as i64
}

/// Whether a store's state is the one of the model, but for unlikes that may be forgotten.
pub fn is_same(model: &State, found: &State) -> bool {
    let none = BTreeMap::new();
    let sure = |(key, _): &(&String, &i64)| !key.starts_with(FORGETFUL);
    let of = |state: &State| -> BTreeMap<String, i64> {
        let unlikes = state.get(UNLIKES).unwrap_or(&none).iter();
        unlikes.filter(sure).map(|(key, time_ms)| (key.clone(), *time_ms)).collect()
    };
    let listed = |state: &State| state.iter().filter(|(name, _)| *name != UNLIKES).count();
    listed(model) == listed(found)
        && found.iter().filter(|(name, _)| *name != UNLIKES).all(|(name, map)| model.get(name) == Some(map))
        && of(model) == of(found)
}
