//! Paths that are no directory, links, names that are no text, directories of others, and directories that change or go
//! away underneath an open store.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use plaudit::{Error, Options, SnapshotHome, Store};

use crate::child;

fn small() -> Options {
    Options { shards: 4, segment_bytes: 4_096, snapshot_home: SnapshotHome::File, ..Options::default() }
}

/// Uses everything that a path is good for: log, snapshots, manifest, another life.
fn use_store(path: &Path, options: &Options) {
    for life in 1..=3 {
        let store = Store::open_with(path, options.clone()).unwrap();
        let likes = store.counters("likes").unwrap();
        assert_eq!(likes.add("a", 1).unwrap().value(), life);
        store.compact().unwrap();
        assert!(store.recovery().damaged_generations.is_empty());
        store.close().unwrap();
        assert!(Store::verify(path).unwrap().problems.is_empty());
    }
}

#[test]
fn a_name_that_is_no_text_is_as_good_as_any() {
    for home in [SnapshotHome::File, SnapshotHome::default()] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(OsString::from_vec(b"\xff\xfe no text \n".to_vec())).join("store");
        use_store(&path, &Options { snapshot_home: home, ..small() });
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, [OsStr::from_bytes(b"\xff\xfe no text \n")], "{home:?}: and no other directory was made");
    }
}

#[test]
fn a_link_to_a_directory_is_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (real, link) = (dir.path().join("real"), dir.path().join("link"));
    fs::create_dir(&real).unwrap();
    symlink(&real, &link).unwrap();
    use_store(&link, &small());
    let store = Store::open_with(&link, small()).unwrap();
    assert!(matches!(Store::open_with(&real, small()), Err(Error::Locked { .. })), "by any name it is one store");
    let around = dir.path().join("link/../real/.");
    assert!(matches!(Store::open_with(around, small()), Err(Error::Locked { .. })));
    drop(store);
}

#[test]
fn what_cannot_be_a_directory_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let join = |name: &str| dir.path().join(name);
    fs::write(join("file"), "somebody's").unwrap();
    symlink(join("nowhere"), join("dangling")).unwrap();
    symlink(join("loop"), join("loop")).unwrap();
    let refused = |path: PathBuf| {
        let error = Store::open_with(&path, small()).unwrap_err();
        let fits = matches!(error, Error::Io { .. } | Error::NotAStore { .. });
        assert!(fits, "{}: {error:?}", path.display());
        error
    };
    assert!(matches!(refused(join("file")), Error::NotAStore { .. }));
    refused(join("file/below"));
    refused(join("dangling"));
    refused(join("loop"));
    refused(join(&"n".repeat(300)));
    refused(join(&"deep/".repeat(2_000)));
    refused(join("a\0b"));
    assert_eq!(fs::read(join("file")).unwrap(), b"somebody's");
    let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["dangling", "file", "loop"], "nothing was made");
}

#[test]
fn an_empty_path_is_refused_as_such() {
    for refused in [Store::open_with("", small()).map(drop), Store::verify("").map(drop)] {
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::InvalidOption { field: "path", .. }), "{error:?}");
        assert_eq!(error.to_string(), "option path is empty, and the name of a directory is expected");
    }
}

#[test]
fn a_path_as_long_as_the_system_takes_works() {
    let dir = tempfile::tempdir().unwrap();
    let mut path = dir.path().to_owned();
    // The store's own names below it need some of the 4,096 bytes.
    while path.as_os_str().len() < 3_700 {
        path.push("d".repeat(200));
    }
    use_store(&path, &small());
}

#[test]
fn files_of_others_are_neither_read_nor_removed() {
    let dir = tempfile::tempdir().unwrap();
    use_store(dir.path(), &small());
    let others = ["notes.txt", "log/README", "log/1.log", "log/core.1234", "snapshot/lost+found", "snapshot/7.snap~"];
    for name in others {
        fs::write(dir.path().join(name), name).unwrap();
    }
    fs::create_dir(dir.path().join("snapshot/directory")).unwrap();
    fs::create_dir(dir.path().join("log/directory")).unwrap();
    let store = Store::open_with(dir.path(), small()).unwrap();
    let likes = store.counters("likes").unwrap();
    assert_eq!(likes.get("a").unwrap(), 3);
    for _ in 0..3 {
        likes.add("a", 1).unwrap();
        store.compact().unwrap();
    }
    store.close().unwrap();
    for name in others {
        assert_eq!(fs::read_to_string(dir.path().join(name)).unwrap(), name);
    }
    assert!(Store::verify(dir.path()).unwrap().problems.is_empty());
    assert_eq!(Store::open(dir.path()).unwrap().counters("likes").unwrap().get("a").unwrap(), 6);
}

#[test]
fn a_directory_that_is_deleted_underneath_ends_in_an_error() {
    for home in [SnapshotHome::File, SnapshotHome::default()] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = Store::open_with(&path, Options { snapshot_home: home, ..small() }).unwrap();
        let likes = store.counters("likes").unwrap();
        likes.add("before", 1).unwrap().wait().unwrap();
        fs::remove_dir_all(&path).unwrap();
        let Err(Error::Io { source, .. }) = store.compact() else { panic!("{home:?}") };
        assert_eq!(source.kind(), io::ErrorKind::NotFound);
        let failed =
            (0..100).find_map(|n| likes.add(format!("{n:->1000}"), 1).and_then(|receipt| receipt.wait()).err());
        let Some(Error::Poisoned { cause }) = &failed else { panic!("{home:?}: {failed:?}") };
        assert!(matches!(&**cause, Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound), "{cause:?}");
        assert!(matches!(likes.add("after", 1), Err(Error::Poisoned { .. })));
        assert!(store.close().is_err());
        assert!(!path.exists(), "{home:?}: nothing is made again behind the back of who deleted it");
        use_store(&path, &small());
    }
}

/// Goes elsewhere, as a daemon does, after it has opened a store by a relative path.
#[test]
fn goes_elsewhere() {
    let Some(dir) = child::store_for("paths::goes_elsewhere") else { return };
    std::env::set_current_dir(&dir).unwrap();
    let store = Store::open_with("store", small()).unwrap();
    let likes = store.counters("likes").unwrap();
    fs::create_dir_all(dir.join("elsewhere/store/log")).unwrap();
    std::env::set_current_dir(dir.join("elsewhere")).unwrap();
    for n in 0..20 {
        likes.add(format!("{n:->1000}"), 1).unwrap().wait().unwrap();
    }
    store.compact().unwrap();
    store.counters("others").unwrap().add("a", 1).unwrap();
    store.close().unwrap();
    assert_eq!(fs::read_dir(dir.join("elsewhere/store/log")).unwrap().count(), 0);
    println!("closed");
}

#[test]
fn a_relative_path_stays_where_it_was_when_the_process_goes_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let output = child::run(child::command("paths::goes_elsewhere", dir.path()));
    assert!(output.contains("closed"));
    let store = Store::open(dir.path().join("store")).unwrap();
    assert_eq!(store.existing_counters("likes").unwrap().len().unwrap(), 20);
    assert_eq!(store.existing_counters("others").unwrap().len().unwrap(), 1);
}
