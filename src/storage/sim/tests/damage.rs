//! Damage that a test does to the medium, and offsets that no file has.

use super::*;

#[test]
fn damage_is_seen_by_calls_and_after_every_cut() {
    for survival in [Survival::Nothing, Survival::Everything] {
        let (disk, file) = disk_with(b"abcd");
        file.write_all_at(b"BC", 1).unwrap();
        disk.copy_file(path("/f"), path("/g")).unwrap();
        disk.flip_bit(path("/f"), 0, 1).unwrap();
        disk.flip_bit(path("/f"), 1, 0).unwrap();
        disk.truncate_file(path("/f"), 2).unwrap();
        assert_eq!(contents(&disk), b"cC");
        let after = disk.power_cut(survival, 0);
        let (cut, copy): (&[u8], &[u8]) =
            if survival == Survival::Nothing { (b"cc", b"abcd") } else { (b"cC", b"aBCd") };
        assert_eq!(contents(&after), cut);
        assert_eq!(after.read_file(path("/g")).unwrap(), copy);
        disk.remove(path("/f")).unwrap();
        assert_eq!(disk.power_cut(survival, 0).files(), [PathBuf::from("/g")]);
    }
}

#[test]
fn damage_outside_a_file_is_refused() {
    let (disk, _file) = disk_with(b"a");
    assert_eq!(kind(disk.flip_bit(path("/f"), 1, 0)), ErrorKind::InvalidInput);
    assert_eq!(kind(disk.flip_bit(path("/f"), 0, 8)), ErrorKind::InvalidInput);
    assert_eq!(kind(disk.flip_bit(path("/g"), 0, 0)), ErrorKind::NotFound);
    assert_eq!(kind(disk.copy_file(path("/f"), path("/d/f"))), ErrorKind::NotFound);
    assert_eq!(kind(disk.copy_file(path("/f"), path("/"))), ErrorKind::ResourceBusy);
    assert_eq!(kind(disk.remove(path("/"))), ErrorKind::IsADirectory);
    disk.truncate_file(path("/f"), 5).unwrap();
    disk.copy_file(path("/f"), path("/f")).unwrap();
    assert_eq!(contents(&disk), b"a");
}

#[test]
fn cutting_off_unsynced_growth_leaves_one_length_in_both_views() {
    let (disk, file) = disk_with(b"ab");
    file.write_all_at(b"xyz", 100).unwrap();
    disk.truncate_file(path("/f"), 50).unwrap();
    let expected = contents(&disk);
    assert_eq!(expected.len(), 50);
    assert_eq!(contents(&disk.power_cut(Survival::Everything, 0)), expected);
}

#[test]
fn offsets_beyond_what_a_file_can_have_are_refused() {
    let (disk, file) = disk_with(b"a");
    assert_eq!(kind(file.write_all_at(b"x", u64::MAX)), ErrorKind::FileTooLarge);
    assert_eq!(kind(file.write_all_at(b"x", i64::MAX as u64)), ErrorKind::FileTooLarge);
    assert_eq!(kind(file.allocate(u64::MAX)), ErrorKind::FileTooLarge);
    file.write_all_at(b"x", i64::MAX as u64 - 1).unwrap();
    let _after = disk.power_cut(Survival::Random, 0);
    assert_eq!(kind(disk.read_file(path("/f"))), ErrorKind::OutOfMemory);
    let mut buf = [0; 2];
    assert_eq!(file.read_at(&mut buf, i64::MAX as u64 - 1).unwrap(), 1);
    assert_eq!(file.read_at(&mut buf, u64::MAX).unwrap(), 0);
}
