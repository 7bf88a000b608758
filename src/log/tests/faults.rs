//! In which order the writer calls the disk, and what it does when a call fails.

use super::*;

/// A disk that notes every change, and fails the chosen one some times.
#[derive(Debug, Default, Clone)]
struct Disk(Arc<Mutex<Faults>>);

#[derive(Debug, Default)]
struct Faults {
    calls: Vec<&'static str>,
    fail: Option<(&'static str, u32)>,
}

impl Disk {
    fn call(&self, name: &'static str) -> io::Result<()> {
        let mut faults = self.0.lock();
        faults.calls.push(name);
        match &mut faults.fail {
            Some((failing, left)) if *failing == name && *left > 0 => {
                *left -= 1;
                Err(io::ErrorKind::StorageFull.into())
            }
            _ => Ok(()),
        }
    }

    fn fail(&self, name: &'static str) {
        self.fail_times(name, 1);
    }

    fn fail_times(&self, name: &'static str, times: u32) {
        self.0.lock().fail = Some((name, times));
    }

    fn take_calls(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().calls)
    }

    fn writer(&self, dir: &Path, end: LogEnd) -> LogWriter {
        LogWriter::new(Arc::new(self.clone()), dir.to_owned(), STORE, end, SEGMENT_BYTES)
    }
}

impl Storage for Disk {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        real().create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        real().list(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        self.call("create")?;
        Ok(Box::new(DiskFile { disk: self.clone(), file: real().create(path)? }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        Ok(Box::new(DiskFile { disk: self.clone(), file: real().open(path)? }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename")?;
        real().rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.call("remove")?;
        real().remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        real().remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.call("sync dir")?;
        real().sync_dir(path)
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn StorageLock>>> {
        real().try_lock(path)
    }
}

#[derive(Debug)]
struct DiskFile {
    disk: Disk,
    file: Box<dyn StorageFile>,
}

impl StorageFile for DiskFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let outcome = self.disk.call("write");
        // The worst case: all of it arrives, and the caller hears of a failure.
        self.file.write_all_at(bytes, offset)?;
        outcome
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.disk.call("allocate")?;
        self.file.allocate(len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.disk.call("truncate")?;
        self.file.truncate(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.call("sync")?;
        self.file.sync()
    }
}

#[test]
fn a_segment_is_durable_before_it_has_its_name_and_the_one_before_is_cut_after_its_first_frame() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let mut writer = disk.writer(dir.path(), EMPTY);
    writer.create_segment(1, 0, Reserve::TheBody).unwrap();
    assert_eq!(disk.take_calls(), ["create", "allocate", "write", "sync", "rename", "sync dir"]);
    writer.create_segment(1, 0, Reserve::TheBody).unwrap();
    assert_eq!(disk.take_calls(), ["create", "allocate", "write", "sync", "rename", "sync dir"]);
    writer.write_frame(1, 0, b"one").unwrap();
    assert_eq!(disk.take_calls(), ["write"]);
    writer.sync().unwrap();
    assert_eq!(disk.take_calls(), ["sync", "truncate"]);
    writer.close(0).unwrap();
    assert_eq!(disk.take_calls(), ["write", "sync", "truncate"]);
}

#[test]
fn a_failed_creation_changes_nothing_and_leaves_no_file() {
    for step in ["create", "allocate", "write", "sync", "rename"] {
        let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
        let mut writer = disk.writer(dir.path(), EMPTY);
        append(&mut writer, 1, b"one");
        // Also the second try, with the least room.
        disk.fail_times(step, 2);
        assert!(writer.create_segment(2, 0, Reserve::TheBody).unwrap_err().is_storage_full(), "{step}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "{step}");
        assert!(writer.has_room(3) && writer.next_segment() == 2);
        assert_eq!(writer.create_segment(2, 0, Reserve::TheBody).unwrap(), 2);
        append(&mut writer, 2, b"two");
        assert_eq!(read_log(dir.path(), 2).unwrap().0.len(), 2, "{step}");
    }
}

#[test]
fn a_failed_write_is_repeated_without_a_trace() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let mut writer = disk.writer(dir.path(), EMPTY);
    append(&mut writer, 1, b"one");
    disk.fail("write");
    assert!(writer.write_frame(2, 0, b"two").unwrap_err().is_storage_full());
    writer.sync().unwrap();
    writer.write_frame(2, 0, b"two").unwrap();
    writer.sync().unwrap();
    append(&mut writer, 3, b"three");
    let (frames, _, dropped) = read_log(dir.path(), 1).unwrap();
    assert_eq!((frames.len(), dropped), (3, 0));
}

#[test]
fn a_frame_that_failed_and_went_to_another_segment_is_in_the_log_once() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let mut writer = disk.writer(dir.path(), EMPTY);
    append(&mut writer, 1, b"one");
    disk.fail("write");
    writer.write_frame(2, 0, b"two").unwrap_err();
    writer.end_segment();
    disk.fail("truncate");
    append(&mut writer, 2, b"two");
    let (frames, ..) = read_log(dir.path(), 2).unwrap();
    assert_eq!(frames.iter().map(|frame| frame.0).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_failed_sync_is_never_taken_for_a_full_disk_and_advances_nothing() {
    let (dir, disk) = (tempfile::tempdir().unwrap(), Disk::default());
    let mut writer = disk.writer(dir.path(), EMPTY);
    append(&mut writer, 1, b"one");
    let written = writer.bytes_written();
    writer.write_frame(2, 0, b"two").unwrap();
    disk.fail("sync");
    assert!(!writer.sync().unwrap_err().is_storage_full());
    assert_eq!(writer.bytes_written(), written);
    disk.fail("sync dir");
    let mut writer = disk.writer(tempfile::tempdir().unwrap().path(), EMPTY);
    assert!(writer.create_segment(1, 0, Reserve::TheBody).is_err_and(|error| !error.is_storage_full()));
}

#[test]
fn what_recovery_found_is_written_again_and_synced_before_anything_builds_on_it() {
    let example = Example::new(false);
    let (dir, disk) = (example.dir.path(), Disk::default());
    let (_, end, _) = read_log(dir, 1).unwrap();
    let mut writer = disk.writer(dir, end.clone());
    writer.settle().unwrap();
    assert_eq!(disk.take_calls(), ["write", "sync"]);
    assert_eq!(std::fs::read(&example.path).unwrap(), example.bytes);
    writer.settle().unwrap();
    assert!(disk.take_calls().is_empty());
    let mut writer = disk.writer(dir, end.clone());
    writer.create_segment(4, 0, Reserve::TheBody).unwrap();
    assert_eq!(disk.take_calls()[..3], ["write", "sync", "create"]);
    std::fs::write(&example.path, &example.bytes[..example.third]).unwrap();
    assert!(is_corrupt(&disk.writer(dir, end).settle()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_log_comes_back(
        steps in prop::collection::vec((1u64..5, prop::collection::vec(any::<u8>(), 0..3000), 0u8..12), 1..20),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut writer, mut written) = (writer_at(dir.path(), EMPTY), Vec::new());
        let mut epoch = 0;
        for (ahead, body, event) in steps {
            epoch += ahead;
            append(&mut writer, epoch, &body);
            written.push((epoch, 1000 + epoch, body));
            match event {
                0 => writer.end_segment(),
                1 | 2 => {
                    if event == 2 {
                        writer.close(epoch).unwrap();
                    }
                    let (_, end, _) = read_log(dir.path(), writer.next_segment() - 1).unwrap();
                    writer = writer_at(dir.path(), end);
                }
                _ => {}
            }
        }
        let (frames, end, dropped) = read_log(dir.path(), writer.next_segment() - 1).unwrap();
        prop_assert_eq!((frames, end.last_epoch, dropped), (written, epoch, 0));
    }
}
