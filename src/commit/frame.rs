//! From the changes of an epoch to the body of its frame, and to the events of its subscribers.

use std::collections::HashMap;

use bytes::BytesMut;
use foldhash::fast::FixedState;

use crate::edge::Stamp;
use crate::log::{BodyEncoder, Record};
use crate::reuse;
use crate::shard::{Changes, EdgeChange, EdgeState, NamespaceId, Pending, Shards, reduce};
use crate::subscription::{RawEvent, RawEvents, RawLike};

/// Encodes epochs, and remembers which slots the current segment has named already.
#[derive(Debug, Default)]
pub(crate) struct FrameEncoder {
    body: BodyEncoder,
    /// For each namespace and shard one bit per slot: whether the segment has its key. At most one bit per counter.
    named: HashMap<(NamespaceId, usize), Vec<u64>, FixedState>,
    /// Slots whose counters were removed in the encoded epoch.
    removed: Vec<(usize, NamespaceId, u32)>,
    /// The edges of one item.
    edges: Vec<(u128, Option<Stamp>)>,
    events: RawEvents,
    arena: BytesMut,
    /// The changes of a group by slot: each slot with its change's place in one number, which sorts fastest.
    order: Vec<u64>,
    slots: Vec<u32>,
    ends: Vec<usize>,
}

impl FrameEncoder {
    /// Encodes what was collected from each shard, and with `events` also keeps it for subscribers. May be called
    /// again for the same epoch after [`FrameEncoder::forget_names`].
    pub(crate) fn encode(&mut self, shards: &Shards, collected: &mut [Changes], events: bool) {
        self.body.clear();
        self.removed.clear();
        self.events.clear();
        for (stripe, Changes { counters, edges, .. }) in collected.iter_mut().enumerate() {
            // Mostly all of a shard's changes are of one namespace.
            if !counters.is_sorted_by_key(|change| change.namespace) {
                counters.sort_unstable_by_key(|change| change.namespace);
            }
            for group in counters.chunk_by(|a, b| a.namespace == b.namespace) {
                self.encode_group(shards, stripe, group, events);
            }
            reduce(edges);
            for group in edges.chunk_by(|a, b| a.namespace == b.namespace) {
                self.encode_likes(shards, stripe, group, events);
            }
        }
    }

    fn encode_group(&mut self, shards: &Shards, stripe: usize, group: &[Pending], events: bool) {
        let namespace = group[0].namespace;
        let is_likes = events && shards.like_rules(namespace).is_some();
        let named = self.named.entry((namespace, stripe)).or_default();
        reuse::clear(&mut self.order);
        self.order.extend(group.iter().zip(0u64..).map(|(change, place)| u64::from(change.slot) << 32 | place));
        self.order.sort_unstable();
        reuse::clear(&mut self.slots);
        self.slots.extend(
            self.order.iter().map(|ordered| (ordered >> 32) as u32).filter(|&slot| events || !is_named(named, slot)),
        );
        reuse::clear(&mut self.ends);
        self.arena.clear();
        if !shards.copy_keys(stripe, namespace, &self.slots, &mut self.arena, &mut self.ends) {
            // The namespace is gone, durably, and its changes with it.
            self.named.remove(&(namespace, stripe));
            return;
        }
        let arena = self.arena.split().freeze();
        let mut keys = self.slots.iter().zip(key_ranges(&self.ends)).peekable();
        self.body.begin_group(namespace, stripe as u32);
        for &ordered in &self.order {
            let change = &group[ordered as u32 as usize];
            let slot = change.slot;
            let range = keys.next_if(|&(&wanted, _)| wanted == slot).map(|(_, range)| range);
            let key = range.clone().filter(|_| !is_named(named, slot)).map(|range| &arena[range]);
            self.body.push(match (key, change.value()) {
                (Some(key), Some(value)) => Record::NamedSet { slot, key, value },
                (Some(key), None) => Record::NamedRemoved { slot, key },
                (None, Some(value)) => Record::Set { slot, value },
                (None, None) => Record::Removed { slot },
            });
            // A removed counter's slot may be another key's next, which must be named then.
            set_named(named, slot, change.value().is_some());
            if change.value().is_none() {
                self.removed.push((stripe, namespace, slot));
            }
            if events && let Some(range) = range {
                let (key, delta, value) = (arena.slice(range), change.delta(), change.value());
                // An item is here also when its edges changed alone.
                if delta != 0 || value.is_none() || !is_likes {
                    self.events.counters.push(RawEvent { namespace, key, delta, value });
                }
            }
        }
        self.body.end_group();
    }

    /// Encodes the edges of one namespace and shard: what each is at the epoch's end. Their items are in the group of
    /// counters before, so the segment has their names.
    fn encode_likes(&mut self, shards: &Shards, stripe: usize, group: &[EdgeChange], events: bool) {
        let namespace = group[0].namespace;
        let Some(rules) = shards.like_rules(namespace) else { return };
        self.body.begin_likes(namespace, stripe as u32, rules.width);
        for item in group.chunk_by(|a, b| a.slot == b.slot) {
            let slot = item[0].slot;
            let cleared = item[0].state() == EdgeState::Cleared;
            reuse::clear(&mut self.edges);
            self.edges.extend(item.iter().filter_map(|change| match change.state() {
                EdgeState::Is { viewer, stamp } => Some((viewer, Some(stamp))),
                EdgeState::Gone { viewer } => Some((viewer, None)),
                EdgeState::Cleared => None,
            }));
            self.body.push_item(slot, cleared, self.edges.iter().copied());
            if events {
                self.note_likes(shards, stripe, namespace, slot, cleared);
            }
        }
        self.body.end_likes();
    }

    fn note_likes(&mut self, shards: &Shards, stripe: usize, namespace: NamespaceId, slot: u32, cleared: bool) {
        self.ends.clear();
        self.arena.clear();
        if shards.copy_keys(stripe, namespace, &[slot], &mut self.arena, &mut self.ends) {
            let item = self.arena.split().freeze();
            if cleared {
                self.events.cleared.push((namespace, item.clone()));
            }
            let liked_at = |stamp: Option<Stamp>| stamp.filter(|stamp| stamp.is_like()).map(Stamp::time_ms);
            self.events.likes.extend(self.edges.iter().map(|&(viewer, stamp)| RawLike {
                namespace,
                item: item.clone(),
                viewer,
                liked_at_ms: liked_at(stamp),
            }));
        }
    }

    /// The encoded frame body.
    pub(crate) fn body(&self) -> &[u8] {
        self.body.as_bytes()
    }

    /// The events of the encoded epoch; empty unless they were asked for.
    pub(crate) fn take_events(&mut self) -> RawEvents {
        std::mem::take(&mut self.events)
    }

    /// A new segment begins.
    pub(crate) fn forget_names(&mut self) {
        self.named.clear();
    }

    /// Lets the slots of removed counters be used again. Their keys must not be needed any more.
    pub(crate) fn release_removed(&mut self, shards: &Shards) {
        let same_table = |a: &(usize, NamespaceId, u32), b: &(usize, NamespaceId, u32)| (a.0, a.1) == (b.0, b.1);
        for run in self.removed.chunk_by(same_table) {
            shards.release_removed(run[0].0, run[0].1, run.iter().map(|&(_, _, slot)| slot));
        }
        reuse::clear(&mut self.removed);
    }
}

fn key_ranges(ends: &[usize]) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(ends.iter().copied()).map(|(start, end)| start..end)
}

fn is_named(named: &[u64], slot: u32) -> bool {
    named.get(slot as usize / 64).is_some_and(|word| word >> (slot % 64) & 1 == 1)
}

fn set_named(named: &mut Vec<u64>, slot: u32, is_named: bool) {
    let word = slot as usize / 64;
    if named.len() <= word {
        named.resize(word + 1, 0);
    }
    let bit = 1 << (slot % 64);
    if is_named { named[word] |= bit } else { named[word] &= !bit }
}
