//! What every storage must do, asked of the real one and the simulated one alike.

use std::io::ErrorKind;
use std::path::Path;

use super::sim::SimDisk;
use super::{RealStorage, Storage};

/// Runs a check on both storages, each time in a fresh directory.
fn on_both(check: fn(&dyn Storage, &Path)) {
    let directory = tempfile::tempdir().unwrap();
    check(&RealStorage::new(), directory.path());
    let disk = SimDisk::new();
    disk.create_dir_all(Path::new("/store")).unwrap();
    check(&disk, Path::new("/store"));
}

fn names(storage: &dyn Storage, path: &Path) -> Vec<(String, bool, u64)> {
    let entries = storage.list(path).unwrap();
    let mut names: Vec<_> = entries.into_iter().map(|entry| (entry.name, entry.is_dir, entry.len)).collect();
    names.sort();
    names
}

fn write(storage: &dyn Storage, path: &Path, bytes: &[u8]) {
    storage.create(path).unwrap().write_all_at(bytes, 0).unwrap();
}

fn read(storage: &dyn Storage, path: &Path) -> Vec<u8> {
    let file = storage.open(path).unwrap();
    let mut bytes = vec![0xEE; 16 * 1024];
    let count = file.read_at(&mut bytes, 0).unwrap();
    bytes.truncate(count);
    bytes
}

fn refusal<T>(result: std::io::Result<T>) -> ErrorKind {
    result.err().expect("the call is refused").kind()
}

#[test]
fn a_file_reads_back_what_was_written_and_nothing_past_its_end() {
    on_both(|storage, root| {
        let file = storage.create(&root.join("f")).unwrap();
        let long: Vec<u8> = (0..10_000_u32).map(|n| n as u8).collect();
        file.write_all_at(&long, 5).unwrap();
        file.write_all_at(b"", 1 << 40).unwrap();
        assert_eq!(file.len().unwrap(), 10_005);
        let mut buf = vec![0xEE; 10_000];
        assert_eq!(file.read_at(&mut buf, 5).unwrap(), 10_000);
        assert_eq!(buf, long);
        assert_eq!(file.read_at(&mut buf, 10_003).unwrap(), 2, "short at the end of the file only");
        assert_eq!(buf[..3], [long[9_998], long[9_999], long[2]], "what is not read is not touched");
        assert_eq!(file.read_at(&mut buf, 10_005).unwrap(), 0);
        assert_eq!(file.read_at(&mut buf, 1 << 50).unwrap(), 0);
        assert_eq!(file.read_at(&mut buf[..5], 0).unwrap(), 5);
        assert_eq!(buf[..5], [0; 5], "a hole reads as zeros");
        file.sync().unwrap();
    });
}

#[test]
fn creating_empties_and_opening_does_not() {
    on_both(|storage, root| {
        let path = root.join("f");
        write(storage, &path, b"first");
        assert_eq!(read(storage, &path), b"first");
        write(storage, &path, b"2");
        assert_eq!(read(storage, &path), b"2");
        assert_eq!(refusal(storage.open(&root.join("missing"))), ErrorKind::NotFound);
        assert_eq!(refusal(storage.create(&root.join("missing/f"))), ErrorKind::NotFound);
        assert_eq!(refusal(storage.create(&path.join("f"))), ErrorKind::NotADirectory);
        assert_eq!(refusal(storage.create(root)), ErrorKind::IsADirectory);
    });
}

#[test]
fn allocating_extends_with_zeros_and_never_cuts() {
    on_both(|storage, root| {
        let file = storage.create(&root.join("f")).unwrap();
        file.write_all_at(b"abc", 0).unwrap();
        file.allocate(8192).unwrap();
        assert_eq!(file.len().unwrap(), 8192);
        file.allocate(10).unwrap();
        file.allocate(0).unwrap();
        assert_eq!(file.len().unwrap(), 8192);
        let bytes = read(storage, &root.join("f"));
        assert_eq!(bytes[..3], *b"abc");
        assert!(bytes[3..].iter().all(|byte| *byte == 0));
    });
}

#[test]
fn truncating_cuts_and_what_is_written_behind_it_later_follows_zeros() {
    on_both(|storage, root| {
        let file = storage.create(&root.join("f")).unwrap();
        file.write_all_at(&[7; 9000], 0).unwrap();
        file.truncate(10_000).unwrap();
        assert_eq!(file.len().unwrap(), 9000, "a shorter file stays as it is");
        file.truncate(4).unwrap();
        file.write_all_at(&[9], 8500).unwrap();
        let mut expected = vec![0; 8501];
        expected[..4].fill(7);
        expected[8500] = 9;
        assert_eq!(read(storage, &root.join("f")), expected);
        file.truncate(4096).unwrap();
        file.truncate(0).unwrap();
        file.allocate(5000).unwrap();
        assert_eq!(read(storage, &root.join("f")), vec![0; 5000]);
    });
}

#[test]
fn a_directory_lists_what_is_in_it() {
    on_both(|storage, root| {
        storage.create_dir_all(&root.join("a/b/c")).unwrap();
        storage.create_dir_all(&root.join("a/b/c")).unwrap();
        write(storage, &root.join("a/f"), b"12345");
        assert_eq!(names(storage, root), [("a".to_owned(), true, 0)]);
        assert_eq!(names(storage, &root.join("a")), [("b".to_owned(), true, 0), ("f".to_owned(), false, 5)]);
        assert_eq!(names(storage, &root.join("a/b/c")), []);
        assert_eq!(refusal(storage.list(&root.join("x"))), ErrorKind::NotFound);
        assert_eq!(refusal(storage.list(&root.join("a/f"))), ErrorKind::NotADirectory);
        assert_eq!(refusal(storage.create_dir_all(&root.join("a/f"))), ErrorKind::AlreadyExists);
        for directory in ["a/b", "a", ""] {
            storage.sync_dir(&root.join(directory)).unwrap();
        }
        assert_eq!(refusal(storage.sync_dir(&root.join("x"))), ErrorKind::NotFound);
    });
}

#[test]
fn a_rename_replaces_a_file_and_open_handles_keep_what_they_had() {
    on_both(|storage, root| {
        let (old, new) = (root.join("old"), root.join("new"));
        write(storage, &old, b"old");
        write(storage, &new, b"new!");
        let (of_old, of_new) = (storage.open(&old).unwrap(), storage.open(&new).unwrap());
        storage.rename(&new, &old).unwrap();
        assert_eq!(names(storage, root), [("old".to_owned(), false, 4)]);
        assert_eq!(read(storage, &old), b"new!");
        assert_eq!((of_old.len().unwrap(), of_new.len().unwrap()), (3, 4));
        of_new.write_all_at(b"N", 0).unwrap();
        of_old.write_all_at(b"gone", 0).unwrap();
        assert_eq!(read(storage, &old), b"New!");
        storage.rename(&old, &old).unwrap();
        assert_eq!(refusal(storage.rename(&new, &old)), ErrorKind::NotFound);
    });
}

#[test]
fn a_rename_moves_a_directory_with_everything_in_it() {
    on_both(|storage, root| {
        storage.create_dir_all(&root.join("d/sub")).unwrap();
        storage.create_dir_all(&root.join("other")).unwrap();
        write(storage, &root.join("d/sub/f"), b"f");
        storage.rename(&root.join("d"), &root.join("other/e")).unwrap();
        assert_eq!(read(storage, &root.join("other/e/sub/f")), b"f");
        assert_eq!(names(storage, root), [("other".to_owned(), true, 0)]);
        let other = root.join("other");
        assert_eq!(refusal(storage.rename(&other, &other.join("e/x"))), ErrorKind::InvalidInput);
        storage.create_dir_all(&root.join("full/x")).unwrap();
        assert_eq!(refusal(storage.rename(&other, &root.join("full"))), ErrorKind::DirectoryNotEmpty);
        write(storage, &root.join("file"), b"");
        assert_eq!(refusal(storage.rename(&other, &root.join("file"))), ErrorKind::NotADirectory);
        assert_eq!(refusal(storage.rename(&root.join("file"), &other)), ErrorKind::IsADirectory);
    });
}

#[test]
fn removing_takes_names_and_leaves_open_files_readable() {
    on_both(|storage, root| {
        storage.create_dir_all(&root.join("d/e")).unwrap();
        write(storage, &root.join("d/e/f"), b"kept");
        write(storage, &root.join("g"), b"g");
        let file = storage.open(&root.join("d/e/f")).unwrap();
        let alone = storage.open(&root.join("g")).unwrap();
        storage.remove_file(&root.join("g")).unwrap();
        assert_eq!(refusal(storage.remove_file(&root.join("g"))), ErrorKind::NotFound);
        assert_eq!(refusal(storage.remove_dir_all(&root.join("g"))), ErrorKind::NotFound);
        assert!(storage.remove_file(&root.join("d")).is_err());
        storage.remove_dir_all(&root.join("d")).unwrap();
        assert_eq!(names(storage, root), []);
        storage.sync_dir(root).unwrap();
        let mut buf = [0; 8];
        assert_eq!(file.read_at(&mut buf, 0).unwrap(), 4);
        assert_eq!(buf[..4], *b"kept");
        assert_eq!(alone.len().unwrap(), 1);
    });
}

#[test]
fn a_lock_has_one_holder_at_a_time() {
    on_both(|storage, root| {
        let path = root.join("LOCK");
        let held = storage.try_lock(&path).unwrap().expect("free");
        assert_eq!(names(storage, root), [("LOCK".to_owned(), false, 0)]);
        assert!(storage.try_lock(&path).unwrap().is_none());
        let other = storage.try_lock(&root.join("OTHER")).unwrap();
        assert!(other.is_some());
        drop(held);
        let again = storage.try_lock(&path).unwrap();
        assert!(again.is_some());
    });
}

#[test]
fn locking_does_not_empty_the_file() {
    on_both(|storage, root| {
        write(storage, &root.join("LOCK"), b"pid");
        let held = storage.try_lock(&root.join("LOCK")).unwrap();
        assert!(held.is_some());
        assert_eq!(read(storage, &root.join("LOCK")), b"pid");
    });
}

#[test]
fn a_file_that_refuses_writing_can_still_be_read_and_locked() {
    use std::os::unix::fs::PermissionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    let storage = RealStorage::new();
    write(&storage, &path, b"read me");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
    assert_eq!(read(&storage, &path), b"read me");
    assert!(storage.try_lock(&path).unwrap().is_some());
}

#[test]
fn the_directory_of_a_relative_name_can_be_listed_and_synced() {
    let parent = Path::new("name").parent().unwrap();
    RealStorage::new().list(parent).unwrap();
    RealStorage::new().sync_dir(parent).unwrap();
    SimDisk::new().list(parent).unwrap();
    SimDisk::new().sync_dir(parent).unwrap();
}
