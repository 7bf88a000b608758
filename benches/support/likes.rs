//! Who likes what: pairs of an item and a viewer, each once.

use plaudit::Likes;

use super::{Random, Skew, key};

/// A prime: steps of it meet every viewer once before any twice.
const STEP: u64 = 611_953;

/// An item and a viewer, by number.
pub(crate) type Pair = (u32, u32);

/// So many pairs in random order, each once, of every item with at least one viewer. How many each item has is by the
/// skew; each viewer has about as many as any other.
pub(crate) fn pairs(skew: Skew, items: u64, viewers: u64, count: u64) -> Vec<Pair> {
    assert!(items <= count && count <= items * viewers && !viewers.is_multiple_of(STEP));
    let mut chosen: Vec<u32> = (0..items as u32).collect();
    chosen.extend(skew.samples(items, (count - items) as usize, 1));
    shuffle(&mut chosen, &mut Random::new(2));
    let mut taken = vec![0u64; items as usize];
    let pair = |mut item: u32| {
        // In a small run the most popular item may have all viewers.
        while taken[item as usize] == viewers {
            item = (item + 1) % items as u32;
        }
        let turn = taken[item as usize];
        taken[item as usize] += 1;
        (item, ((u64::from(item) * 7_919 + turn * STEP) % viewers) as u32)
    };
    chosen.into_iter().map(pair).collect()
}

pub(crate) fn shuffle<T>(values: &mut [T], random: &mut Random) {
    for end in (1..values.len()).rev() {
        values.swap(end, (random.next() % (end as u64 + 1)) as usize);
    }
}

/// The id of a viewer: any 64 bits, so that it takes as many bytes in the log as an id can.
#[inline]
pub(crate) fn viewer(number: u32) -> u64 {
    // An odd factor makes it a permutation.
    (u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Likes, as a service does that does not wait; whether that was new.
#[inline]
pub(crate) fn like(likes: &Likes, (item, number): Pair) -> bool {
    likes.like(key(u64::from(item)), viewer(number)).expect("the store takes likes").changed()
}

#[inline]
pub(crate) fn has_liked(likes: &Likes, (item, number): Pair) -> bool {
    likes.has_liked(key(u64::from(item)), viewer(number)).expect("the store can be read")
}
