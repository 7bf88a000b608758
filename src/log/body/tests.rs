//! Bodies of counters and of likes have one encoding, come back, and are refused where they are malformed.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::limits::MAX_TIME_MS;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Owned {
    Set(i64),
    NamedSet(Vec<u8>, i64),
    Removed,
    NamedRemoved(Vec<u8>),
    Cleared,
    Edge(u128, Option<Stamp>),
}

impl Owned {
    fn record(&self, slot: u32) -> Record<'_> {
        match self {
            Self::Set(value) => Record::Set { slot, value: *value },
            Self::NamedSet(key, value) => Record::NamedSet { slot, key, value: *value },
            Self::Removed => Record::Removed { slot },
            Self::NamedRemoved(key) => Record::NamedRemoved { slot, key },
            Self::Cleared => Record::Cleared { slot },
            Self::Edge(viewer, stamp) => Record::Edge { slot, viewer: *viewer, stamp: *stamp },
        }
    }

    fn of(record: Record<'_>) -> Self {
        match record {
            Record::Set { value, .. } => Self::Set(value),
            Record::NamedSet { key, value, .. } => Self::NamedSet(key.to_vec(), value),
            Record::Removed { .. } => Self::Removed,
            Record::NamedRemoved { key, .. } => Self::NamedRemoved(key.to_vec()),
            Record::Cleared { .. } => Self::Cleared,
            Record::Edge { viewer, stamp, .. } => Self::Edge(viewer, stamp),
        }
    }
}

type Flat = Vec<(Group, u32, Owned)>;

fn decoded(body: &[u8]) -> Result<Flat, Malformed> {
    let mut flat = Flat::new();
    decode_body(body, |group, record| {
        flat.push((group, record.slot(), Owned::of(record)));
        Ok(())
    })?;
    Ok(flat)
}

fn example() -> BodyEncoder {
    let mut encoder = BodyEncoder::default();
    encoder.begin_group(1, 300);
    encoder.push(Record::Set { slot: 2, value: -1 });
    encoder.push(Record::NamedSet { slot: 3, key: b"ab", value: 64 });
    encoder.push(Record::Set { slot: 4, value: 5 });
    encoder.push(Record::Removed { slot: 7 });
    encoder.push(Record::NamedRemoved { slot: 9, key: b"z" });
    encoder.end_group();
    encoder
}

#[test]
fn a_body_has_the_bytes_that_the_grammar_says() {
    let golden = [4, 0xac, 2, 2, 1, 1, 1, 2, 1, 1, 10, 3, 2, b'a', b'b', 0x80, 1, 7, 9, 1, b'z'];
    assert_eq!(example().as_bytes(), golden);
}

#[test]
fn an_empty_group_leaves_no_trace_and_clear_starts_over() {
    let mut encoder = example();
    let one = encoder.as_bytes().to_vec();
    encoder.begin_group(2, 2);
    encoder.end_group();
    assert_eq!(encoder.as_bytes(), one);
    encoder.begin_group(2, 2);
    encoder.push(Record::Removed { slot: 1 });
    encoder.clear();
    encoder.end_group();
    assert_eq!(encoder.as_bytes(), [0u8; 0]);
}

#[test]
fn every_malformed_body_is_refused_where_it_is() {
    let long_key = [&[0, 0, 0, 1, 0, 0, 0, 0x81, 8][..], &[7; 1030]].concat();
    let cases: [(&[u8], usize, &str); 11] = [
        (&[0x80, 0x80, 16, 0, 1, 0, 0, 0, 0, 0], 0, "a namespace is not 16 bits"),
        (&[3, 0, 1, 0, 0, 0, 0, 0], 0, "a group is of a kind that there is not"),
        (&[0, 0x80, 0x80, 0x80, 0x80, 0x10, 1, 0, 0, 0, 0, 0], 1, "a shard is not 32 bits"),
        (&[0, 0, 0, 0, 0, 0], 0, "a group has no records"),
        (&[0, 0, 2, 0, 0, 0, 0, 0, 0], 0, "a group has more records than bytes"),
        (&[0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0, 0], 0, "a group has more records than bytes"),
        (&[0, 0, 0, 0, 2, 0, 255, 255, 255, 255, 15, 0], 11, "a slot is not 32 bits"),
        (&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0], 7, "a key is empty or too long"),
        (&long_key, 7, "a key is empty or too long"),
        (&[0, 0, 0, 1, 0, 0, 0, 9, 1, 1], 7, "a key is cut off"),
        (&[0, 0, 1, 0, 0, 0, 0, 0x80], 7, "a value is not 64 bits"),
    ];
    for (body, offset, what) in cases {
        assert_eq!(decoded(body), Err(Malformed { offset, what }));
    }
}

#[test]
fn what_the_visitor_refuses_is_malformed_at_that_record() {
    let refused = decode_body(example().as_bytes(), |_, record| match record {
        Record::Removed { .. } => Err("never named"),
        _ => Ok(()),
    });
    assert_eq!(refused, Err(Malformed { offset: 17, what: "never named" }));
}

fn like(time_ms: u64) -> Option<Stamp> {
    Some(Stamp::new(time_ms, true))
}

fn unlike(time_ms: u64) -> Option<Stamp> {
    Some(Stamp::new(time_ms, false))
}

#[test]
fn likes_have_the_bytes_that_the_grammar_says() {
    let mut encoder = BodyEncoder::default();
    encoder.begin_likes(1, 300, ViewerWidth::Bits64);
    encoder.push_item(2, false, [(300, like(100)), (1, None), (2, unlike(99))]);
    encoder.push_item(3, true, []);
    encoder.push_item(9, true, [(u128::from(u64::MAX), like(99))]);
    encoder.end_likes();
    let narrow = encoder.as_bytes().to_vec();
    let golden: &[u8] = &[
        5, 0xac, 2, 3, // namespace 1 and the kind, shard 300, three items
        2, 6, 0xac, 2, 0xa0, 6, 1, 2, 2, 5, // slot 2: three edges
        0, 1, // slot 3: cleared
        5, 3, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0, // slot 9: cleared, one edge of the same time
    ];
    assert_eq!(narrow, golden);

    encoder.begin_likes(0, 0, ViewerWidth::Bits128);
    encoder.push_item(0, false, [(1 << 120 | 2, like(0))]);
    encoder.end_likes();
    let wide = [2, 0, 1, 0, 2, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    assert_eq!(encoder.as_bytes(), [golden, &wide].concat());
}

#[test]
fn likes_without_a_change_leave_no_trace_and_clear_starts_over() {
    let mut encoder = BodyEncoder::default();
    encoder.begin_likes(1, 1, ViewerWidth::Bits64);
    encoder.push_item(7, false, []);
    encoder.end_likes();
    assert_eq!(encoder.as_bytes(), [0u8; 0]);
    encoder.begin_likes(1, 1, ViewerWidth::Bits64);
    encoder.push_item(7, true, []);
    encoder.clear();
    encoder.end_likes();
    assert_eq!(encoder.as_bytes(), [0u8; 0]);
    // A group goes on from nothing that another had.
    let mut twice = Vec::new();
    for _ in 0..2 {
        encoder.clear();
        encoder.begin_likes(1, 1, ViewerWidth::Bits64);
        encoder.push_item(7, false, [(1, like(1_000))]);
        encoder.end_likes();
        twice.push(encoder.as_bytes().to_vec());
    }
    assert_eq!(twice[0], twice[1]);
}

#[test]
fn malformed_likes_are_refused_where_they_are() {
    let most = [255, 255, 255, 255, 255, 255, 255, 255, 255, 1];
    let with = |start: &[u8], end: &[u8]| [start, end].concat();
    let latest = {
        let mut bytes = Vec::new();
        varint::put_u64(&mut bytes, varint::zigzag(MAX_TIME_MS as i64) << 2);
        bytes
    };
    let cases = [
        (vec![1, 0, 0], 0, "a group has no items"),
        (vec![1, 0, 1, 0], 0, "a group has more items than bytes"),
        (with(&[1, 0], &most), 0, "a group has more items than bytes"),
        (vec![1, 0, 0x80], 2, "an item count is not 64 bits"),
        (vec![1, 0, 1, 0, 0], 3, "an item has no change"),
        (vec![1, 0, 2, 0, 1, 255, 255, 255, 255, 15, 1], 5, "a slot is not 32 bits"),
        (vec![1, 0, 1, 0, 4, 1, 0, 1], 3, "an item has more edges than bytes"),
        (with(&[1, 0, 1, 0], &most), 3, "an item has more edges than bytes"),
        (vec![1, 0, 1, 0, 0x80], 4, "an edge count is not 63 bits"),
        (with(&[2, 0, 1, 0, 2, 0], &[0; 15]), 3, "an item has more edges than bytes"),
        (with(&[2, 0, 1, 0, 4], &[1; 17]), 3, "an item has more edges than bytes"),
        (vec![1, 0, 1, 0, 2, 0x80, 0x80], 5, "a viewer is not 64 bits"),
        (vec![1, 0, 1, 0, 2, 0, 0x80], 6, "an edge's state is not 64 bits"),
        (vec![1, 0, 1, 0, 2, 0, 3], 6, "an edge is in a state that there is not"),
        (vec![1, 0, 1, 0, 2, 0, 6], 6, "an edge that is gone has a time"),
        (vec![1, 0, 1, 0, 2, 0, 4], 6, "an edge has a time that none can have"),
        (
            with(&[1, 0, 1, 0, 4, 0], &with(&latest, &[0, 8])),
            6 + latest.len() + 1,
            "an edge has a time that none can have",
        ),
        (with(&[1, 0, 1, 0, 2, 0], &most), 6, "an edge is in a state that there is not"),
        (with(&[1, 0, 1, 0, 2, 0, 252], &most[1..]), 6, "an edge has a time that none can have"),
    ];
    for (body, offset, what) in cases {
        assert_eq!(decoded(&body), Err(Malformed { offset, what }), "{body:?}");
    }
    let mut visited = Vec::new();
    let refused = decode_body(&[1, 0, 1, 0, 3, 7, 0], |_, record| {
        visited.push(Owned::of(record));
        if let Record::Edge { .. } = record { Err("never named") } else { Ok(()) }
    });
    assert_eq!(refused, Err(Malformed { offset: 5, what: "never named" }));
    assert_eq!(visited, [Owned::Cleared, Owned::Edge(7, like(0))]);
    let refused = decode_body(&[1, 0, 1, 0, 3, 7, 0], |_, _| Err("never named"));
    assert_eq!(refused, Err(Malformed { offset: 3, what: "never named" }));
}

fn change() -> impl Strategy<Value = Owned> {
    let key = || prop::collection::vec(any::<u8>(), 1..40);
    prop_oneof![
        any::<i64>().prop_map(Owned::Set),
        (key(), any::<i64>()).prop_map(|(key, value)| Owned::NamedSet(key, value)),
        Just(Owned::Removed),
        key().prop_map(Owned::NamedRemoved),
    ]
}

/// The counters and the likes of a shard of a namespace.
type Counters = BTreeMap<u32, Owned>;
type Likes = (ViewerWidth, BTreeMap<u32, (bool, Vec<(u128, Option<Stamp>)>)>);
type Groups = BTreeMap<(u16, u32), (Counters, Likes)>;

fn slot() -> impl Strategy<Value = u32> {
    prop_oneof![0u32..50, any::<u32>(), Just(u32::MAX)]
}

fn stamp() -> impl Strategy<Value = Option<Stamp>> {
    let time = prop_oneof![Just(0), 1_700_000_000_000u64..1_700_000_001_000, 0..=MAX_TIME_MS, Just(MAX_TIME_MS)];
    prop::option::weighted(0.8, (time, any::<bool>()).prop_map(|(time_ms, liked)| Stamp::new(time_ms, liked)))
}

fn likes() -> impl Strategy<Value = Likes> {
    any::<bool>().prop_flat_map(|is_narrow| {
        let (width, widest) =
            if is_narrow { (ViewerWidth::Bits64, u128::from(u64::MAX)) } else { (ViewerWidth::Bits128, u128::MAX) };
        let viewer = prop_oneof![0..200u128, 0..=widest, Just(widest)];
        let edges = prop::collection::vec((viewer, stamp()), 0..8);
        let items = prop::collection::btree_map(slot(), (any::<bool>(), edges), 0..10);
        items.prop_map(move |items| (width, items))
    })
}

fn groups() -> impl Strategy<Value = Groups> {
    let counters = prop::collection::btree_map(slot(), change(), 0..30);
    prop::collection::btree_map((any::<u16>(), any::<u32>()), (counters, likes()), 0..4)
}

/// The body of the groups, and the records that it has.
fn encoded(groups: &Groups) -> (Vec<u8>, Flat) {
    let mut encoder = BodyEncoder::default();
    let mut expected = Flat::new();
    for (&(namespace, shard), (counters, (width, items))) in groups {
        encoder.begin_group(namespace, shard);
        let group = Group { namespace, shard, kind: Content::Counters };
        for (&slot, change) in counters {
            encoder.push(change.record(slot));
            expected.push((group, slot, change.clone()));
        }
        encoder.end_group();
        encoder.begin_likes(namespace, shard, *width);
        let group = Group { namespace, shard, kind: Content::Edges(*width) };
        for (&slot, (cleared, edges)) in items {
            encoder.push_item(slot, *cleared, edges.iter().copied());
            expected.extend(cleared.then_some((group, slot, Owned::Cleared)));
            expected.extend(edges.iter().map(|&(viewer, stamp)| (group, slot, Owned::Edge(viewer, stamp))));
        }
        encoder.end_likes();
    }
    (encoder.as_bytes().to_vec(), expected)
}

/// The body of records that are of one group of likes.
fn encoded_again(found: &Flat) -> Option<Vec<u8>> {
    let (group, ..) = *found.first()?;
    let Group { namespace, shard, kind: Content::Edges(width) } = group else { return None };
    if found.iter().any(|(other, ..)| *other != group) {
        return None;
    }
    let mut encoder = BodyEncoder::default();
    encoder.begin_likes(namespace, shard, width);
    for item in found.chunk_by(|(_, a, _), (_, b, _)| a == b) {
        let edges = item.iter().filter_map(|(.., change)| match change {
            Owned::Edge(viewer, stamp) => Some((*viewer, *stamp)),
            _ => None,
        });
        encoder.push_item(item[0].1, item[0].2 == Owned::Cleared, edges);
    }
    encoder.end_likes();
    Some(encoder.as_bytes().to_vec())
}

proptest! {
    #[test]
    fn every_body_comes_back(groups in groups()) {
        let (body, expected) = encoded(&groups);
        let mut found = decoded(&body).unwrap();
        // The records of counters come back by kind; edges in their own order.
        let is_of_edges = |group: &Group| group.kind != Content::Counters;
        found.sort_by_key(|&(group, slot, _)| (group.namespace, group.shard, is_of_edges(&group), slot));
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn arbitrary_bytes_never_panic(body in prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..200)) {
        let records = decoded(&body).map_or(0, |flat| flat.len());
        prop_assert!(records <= body.len());
    }

    #[test]
    fn what_is_accepted_of_likes_encodes_to_the_same_bytes((width, items) in likes(), change in 1u8..=255) {
        // No change of one byte makes another group of this namespace and shard.
        let place = (54_321, 4_000_000_000);
        let (mut body, _) = encoded(&BTreeMap::from([(place, (Counters::new(), (width, items)))]));
        for at in 0..body.len() {
            body[at] ^= change;
            if let Ok(found) = decoded(&body) && let Some(again) = encoded_again(&found) {
                prop_assert_eq!(&again, &body);
            }
            body[at] ^= change;
        }
    }

    #[test]
    fn a_damaged_body_never_panics(groups in groups(), at: prop::sample::Index, bit in 0u8..8) {
        let (mut body, _) = encoded(&groups);
        if !body.is_empty() {
            let at = at.index(body.len());
            body[at] ^= 1 << bit;
        }
        let _ = decoded(&body);
        for len in 0..body.len() {
            let _ = decoded(&body[..len]);
        }
    }
}
