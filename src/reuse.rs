//! Lists that are filled again for each epoch.

/// What is always kept.
const SMALL_BYTES: usize = 8 << 10;

/// How much more room than the last epoch needed is kept beyond that.
const SPARE: usize = 4;

/// Empties a list and keeps its room, but for that of an epoch far larger than the last.
pub(crate) fn clear<T>(list: &mut Vec<T>) {
    let (used, small) = (list.len(), SMALL_BYTES / size_of::<T>());
    list.clear();
    if list.capacity() > small.max(SPARE * used) {
        list.shrink_to(used.max(small));
    }
}

#[cfg(test)]
mod tests {
    use super::clear;

    #[test]
    fn room_follows_what_was_needed_last() {
        let mut list: Vec<u64> = (0..100_000).collect();
        let room = list.capacity();
        clear(&mut list);
        assert_eq!((list.len(), list.capacity()), (0, room));
        list.extend(0..50_000);
        clear(&mut list);
        assert_eq!(list.capacity(), room);
        list.extend(0..20_000);
        clear(&mut list);
        assert!((20_000..30_000).contains(&list.capacity()), "{}", list.capacity());
        clear(&mut list);
        assert!((1_024..2_048).contains(&list.capacity()), "{}", list.capacity());
    }
}
