//! Room in lists: of those that are filled again for each epoch, and of those that stay.

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

/// Makes room for one more in a list that stays: an eighth at a time, as doubling would leave up to half of it unused.
pub(crate) fn make_room<T>(list: &mut Vec<T>) {
    if list.len() == list.capacity() {
        list.reserve_exact((list.len() / 8).max(4));
    }
}

#[cfg(test)]
mod tests {
    use super::{clear, make_room};

    #[test]
    fn a_list_that_stays_has_little_room_to_spare() {
        let mut list: Vec<u64> = Vec::new();
        for number in 0..10_000 {
            make_room(&mut list);
            list.push(number);
            assert!(list.capacity() <= (list.len() + 4).max(list.len() / 8 * 9 + 9), "{}", list.capacity());
        }
    }

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
