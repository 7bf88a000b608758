//! What the writer leaves, on a disk that keeps its word.

use super::*;

#[test]
fn a_frame_larger_than_a_segment_gets_a_segment_of_its_size_with_room_for_the_seal() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer_at(dir.path(), EMPTY);
    let large = vec![7; 3_000_000];
    append(&mut writer, 1, b"small");
    append(&mut writer, 2, &large);
    assert!(!writer.has_room(5000));
    writer.close(0).unwrap();
    let (frames, end, dropped) = read_log(dir.path(), 2).unwrap();
    assert_eq!(frames.iter().map(|frame| frame.2.len()).collect::<Vec<_>>(), [5, 3_000_000]);
    assert!(end.last.unwrap().sealed && dropped == 0);
    assert_eq!(std::fs::metadata(segment_path(dir.path(), 1)).unwrap().len(), 64 + 56);
}

#[test]
fn a_segment_keeps_room_for_the_seal() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer_at(dir.path(), EMPTY);
    assert!(!writer.has_room(0));
    writer.create_segment(1, 0, Reserve::TheBody).unwrap();
    let room = SEGMENT_BYTES as usize - SEGMENT_HEADER_BYTES - 2 * FRAME_HEADER_BYTES;
    assert!(writer.has_room(room) && !writer.has_room(room + 1) && !writer.has_room(usize::MAX));
    assert!(writer.write_frame(1, 0, &vec![0; room + 1]).is_err());
    append(&mut writer, 1, &vec![1; room]);
    writer.close(0).unwrap();
    assert_eq!(std::fs::metadata(segment_path(dir.path(), 1)).unwrap().len(), SEGMENT_BYTES);
    assert!(read_log(dir.path(), 1).unwrap().1.last.unwrap().sealed);
}

#[test]
fn a_log_goes_on_after_a_crash_with_a_torn_tail_and_after_a_close() {
    let example = Example::new(false);
    let dir = example.dir.path();
    let mut torn = example.bytes.clone();
    torn[example.third + FRAME_HEADER_BYTES] ^= 1;
    std::fs::write(&example.path, &torn).unwrap();

    let (frames, end, dropped) = read_log(dir, 1).unwrap();
    assert_eq!((frames.len(), end.last_epoch, dropped > 0), (2, 2, true));
    let mut writer = writer_at(dir, end);
    assert!(!writer.has_room(1) && writer.next_segment() == 2);
    append(&mut writer, 3, b"again");
    let seal = writer.close(0).unwrap();
    assert_eq!(writer.close(0).unwrap(), seal);

    let (_, end, dropped) = read_log(dir, 2).unwrap();
    assert!(end.last.unwrap().sealed && dropped == 0);
    assert_eq!(seal, Some(Seal { end: end.last.unwrap().end, epoch: 3, chain: end.chain }));
    let mut writer = writer_at(dir, end);
    assert_eq!(writer.close(0).unwrap(), seal);
    append(&mut writer, 4, b"and again");
    let (frames, end, _) = read_log(dir, 3).unwrap();
    assert_eq!(frames.iter().map(|frame| frame.0).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(!end.last.unwrap().sealed);
}

#[test]
fn a_close_seals_a_segment_that_recovery_found_open_over_its_torn_tail() {
    let example = Example::new(false);
    let dir = example.dir.path();
    let mut torn = example.bytes.clone();
    torn[example.third] ^= 1;
    std::fs::write(&example.path, &torn).unwrap();
    let (_, end, _) = read_log(dir, 1).unwrap();
    writer_at(dir, end).close(0).unwrap();
    let (frames, end, dropped) = read_log(dir, 1).unwrap();
    assert_eq!((frames.len(), end.last_epoch, dropped), (2, 2, 0));
    assert!(end.last.unwrap().sealed);
}

#[test]
fn a_close_seals_a_segment_without_frames_and_one_that_was_ended() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(writer_at(dir.path(), EMPTY).close(0).unwrap(), None);
    assert!(std::fs::read_dir(dir.path()).unwrap().next().is_none());
    let mut writer = writer_at(dir.path(), LogEnd { last_epoch: 6, ..EMPTY });
    writer.create_segment(7, 0, Reserve::TheBody).unwrap();
    writer.end_segment();
    assert!(!writer.has_room(0));
    writer.close(0).unwrap();
    let (frames, end, _) = read_log(dir.path(), 1).unwrap();
    assert_eq!((frames.len(), end.last_epoch, end.last.unwrap().sealed), (0, 6, true));
    let later = Expected { last_epoch: 7, ..expected(1, LAST) };
    assert!(is_corrupt(&read_as(&segment_path(dir.path(), 1), &later)));
}
