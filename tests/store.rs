//! The store's main path on the real file system: count, close, open, count on.

use plaudit::{Options, Store};

#[test]
fn counts_are_there_after_a_clean_close() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(store.recovery().created);
    let likes = store.counters("likes").unwrap();
    for n in 0..10_000 {
        likes.add(format!("video-{}", n % 1_000), 1).unwrap();
    }
    let receipt = likes.add("video-7", 5).unwrap();
    assert_eq!((receipt.value(), receipt.delta(), receipt.changed()), (15, 5, true));
    receipt.wait().unwrap();
    assert!(receipt.is_durable());
    assert_eq!(likes.len().unwrap(), 1_000);
    store.close().unwrap();
    assert!(likes.get("video-7").is_err());

    let store = Store::open(dir.path()).unwrap();
    assert!(store.recovery().closed_cleanly, "{:?}", store.recovery());
    let likes = store.counters("likes").unwrap();
    assert_eq!(likes.len().unwrap(), 1_000);
    assert_eq!(likes.get("video-7").unwrap(), 15);
    assert_eq!(likes.get("video-8").unwrap(), 10);
    assert_eq!(likes.top(2).unwrap(), [("video-7".into(), 15), ("video-0".into(), 10)]);
}

#[test]
fn a_snapshot_replaces_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 1 << 20, ..Options::default() };
    for round in 0..4 {
        let store = Store::open_with(dir.path(), options.clone()).unwrap();
        let likes = store.counters("likes").unwrap();
        assert_eq!(likes.get("a").unwrap(), round * 2);
        assert_eq!(likes.len().unwrap(), if round == 0 { 0 } else { 1_001 });
        likes.add("a", 1).unwrap();
        for n in 0..1_000 {
            likes.set(format!("key-{n}"), round).unwrap();
        }
        store.compact().unwrap();
        likes.add("a", 1).unwrap();
        likes.remove(format!("gone-{round}")).unwrap();
        let stats = store.stats();
        assert_eq!(stats.generations.len(), usize::min(round as usize + 1, 2));
        store.close().unwrap();
        let report = Store::verify(dir.path()).unwrap();
        assert!(report.problems.is_empty(), "{report:?}");
    }
}
