//! What the reader makes of damage.

use super::*;

#[test]
fn a_flipped_bit_in_an_open_last_segment_costs_the_last_frame_at_most_and_is_reported() {
    let example = Example::new(false);
    let end = example.end.end as usize;
    example.flip_every_bit(LAST, |offset, result| match result {
        Err(error) => assert!(error.is_corrupt() && offset < end, "byte {offset}: {error}"),
        Ok((frames, found)) if offset >= end => {
            assert_eq!((frames, found.end), (example.frames.clone(), example.end.end), "byte {offset}");
            assert!(found.dropped_bytes >= FRAME_HEADER_BYTES as u64, "byte {offset}");
        }
        Ok((frames, found)) => {
            assert!(offset >= example.third, "byte {offset} of an earlier frame was not noticed");
            assert_eq!(frames, example.frames[..2], "byte {offset}");
            assert_eq!(found.dropped_bytes as usize, end - 2 - example.third, "byte {offset}");
        }
    });
}

#[test]
fn a_flipped_bit_in_an_earlier_segment_is_corrupt_or_behind_its_end() {
    for close in [false, true] {
        let example = Example::new(close);
        example.flip_every_bit(example.before(), |offset, result| match result {
            Err(error) => assert!(error.is_corrupt() && offset < example.end.end as usize, "byte {offset}: {error}"),
            Ok(read) => {
                assert!(offset >= example.end.end as usize, "byte {offset} was not noticed");
                assert_eq!(read, (example.frames.clone(), example.end));
            }
        });
    }
}

#[test]
fn a_log_that_was_closed_ends_with_that_seal_or_is_corrupt() {
    let (open, closed) = (Example::new(false), Example::new(true));
    let SegmentEnd { end, last_epoch: epoch, chain, .. } = closed.end;
    let seal = Seal { end, epoch, chain };
    let last = |seal| Position::Last { seal: Some(seal) };
    let (frames, _) = closed.read_with(&closed.bytes, last(seal)).unwrap();
    assert_eq!(frames, closed.frames);
    let others = [Seal { end: end + 8, ..seal }, Seal { epoch: epoch + 1, ..seal }, Seal { chain: !chain, ..seal }];
    for (bytes, seal) in others.map(|other| (&closed.bytes, other)).into_iter().chain([(&open.bytes, seal)]) {
        match closed.read_with(bytes, last(seal)).unwrap_err() {
            Error::Corrupt { file, what, .. } => assert!(file == closed.path && what.contains("was closed"), "{what}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_flipped_bit_in_a_closed_last_segment_is_always_corrupt() {
    let example = Example::new(true);
    assert_eq!(example.bytes.len() as u64, example.end.end);
    example.flip_every_bit(LAST, |offset, result| {
        assert!(is_corrupt(&result), "byte {offset}: {result:?}");
    });
}

#[test]
fn a_flipped_bit_never_costs_a_frame_of_a_sealed_segment_that_was_not_cut_yet() {
    let mut example = Example::new(true);
    example.bytes.resize(SEGMENT_BYTES as usize, 0);
    let seal = example.end.last_frame as usize;
    example.flip_every_bit(LAST, |offset, result| match result {
        Err(error) => assert!(error.is_corrupt() && offset < seal, "byte {offset}: {error}"),
        Ok((frames, end)) => {
            assert!(offset >= seal, "byte {offset} was not noticed");
            assert_eq!(frames, example.frames);
            assert_eq!(end.sealed, end.dropped_bytes == 0);
        }
    });
}

#[test]
fn a_segment_that_was_cut_short_is_corrupt_unless_only_unused_room_is_missing() {
    for close in [false, true] {
        let example = Example::new(close);
        for len in 0..example.bytes.len() {
            let bytes = &example.bytes[..len];
            let result = example.read_with(bytes, LAST);
            assert!(is_corrupt(&result), "last, {len} bytes: {result:?}");
            let result = example.read_with(bytes, example.before());
            if len < example.end.end as usize {
                assert!(is_corrupt(&result), "earlier, {len} bytes: {result:?}");
            } else {
                assert_eq!(result.unwrap(), (example.frames.clone(), example.end));
            }
        }
        let longer = [&example.bytes[..], &[0; 8]].concat();
        assert!(is_corrupt(&example.read_with(&longer, LAST)));
    }
}

#[test]
fn a_torn_last_frame_is_dropped_in_whatever_subset_of_sectors_it_arrived() {
    const SECTOR: usize = 512;
    let dir = tempfile::tempdir().unwrap();
    let path = segment_path(dir.path(), 1);
    let mut writer = writer_at(dir.path(), EMPTY);
    append(&mut writer, 1, b"one");
    append(&mut writer, 2, &[2; 400]);
    let before = std::fs::read(&path).unwrap();
    let (two, _) = read(&path, LAST).unwrap();
    append(&mut writer, 3, &[3; 2500]);
    let after = std::fs::read(&path).unwrap();
    let (three, end) = read(&path, LAST).unwrap();

    let sectors: Vec<usize> = (end.last_frame as usize / SECTOR..(end.end as usize).div_ceil(SECTOR)).collect();
    for subset in 0..1u32 << sectors.len() {
        let mut bytes = before.clone();
        for (_, sector) in sectors.iter().enumerate().filter(|(bit, _)| subset >> bit & 1 == 1) {
            let range = sector * SECTOR..(sector + 1) * SECTOR;
            bytes[range.clone()].copy_from_slice(&after[range]);
        }
        std::fs::write(&path, &bytes).unwrap();
        let (frames, end) = read(&path, LAST).unwrap();
        if bytes == after {
            assert_eq!((&frames, end.dropped_bytes), (&three, 0));
        } else {
            assert_eq!(frames, two);
            assert_eq!(end.dropped_bytes > 0, bytes != before, "subset {subset:b}");
        }
    }
}

#[test]
fn garbage_behind_the_end_is_a_dropped_tail_with_its_length() {
    let example = Example::new(false);
    let end = example.end.end as usize;
    for (from, to) in [(0, 1), (0, 200), (300, 301), (1000, 4096 - end)] {
        let mut bytes = example.bytes.clone();
        bytes[end + from..end + to].fill(0xf7);
        let (frames, found) = example.read_with(&bytes, LAST).unwrap();
        assert_eq!(frames, example.frames);
        assert_eq!(found.dropped_bytes as usize, to.max(FRAME_HEADER_BYTES));
    }
}

#[test]
fn a_frame_that_was_moved_or_repeated_does_not_count_as_one() {
    let example = Example::new(false);
    let (third, end) = (example.third, example.end.end as usize);
    let mut bytes = example.bytes.clone();
    bytes.copy_within(third..end, end);
    let (frames, found) = example.read_with(&bytes, LAST).unwrap();
    assert_eq!((frames.len(), found.dropped_bytes > 0), (3, true));
}

#[test]
fn a_frame_that_was_zeroed_is_corrupt_where_it_was_when_a_later_one_stands() {
    let example = Example::new(false);
    let second = SEGMENT_HEADER_BYTES + 56;
    let mut bytes = example.bytes.clone();
    bytes[second..example.third].fill(0);
    let error = example.read_with(&bytes, LAST).unwrap_err();
    assert!(matches!(error, Error::Corrupt { offset, .. } if offset == second as u64), "{error}");
}

#[test]
fn a_later_frame_is_found_also_across_two_steps_of_the_search() {
    let dir = tempfile::tempdir().unwrap();
    let path = segment_path(dir.path(), 1);
    for shift in [0, 8, 24, 40, 48, 56] {
        let mut writer = LogWriter::new(Arc::new(real()), dir.path().to_owned(), STORE, EMPTY, 3 << 20);
        append(&mut writer, 1, &vec![1; (1 << 20) - 2 * FRAME_HEADER_BYTES + shift]);
        append(&mut writer, 2, b"two");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[SEGMENT_HEADER_BYTES] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        assert!(is_corrupt(&read(&path, LAST)), "shift {shift}");
    }
}

#[test]
fn a_frame_of_another_chain_is_corrupt() {
    let example = Example::new(false);
    let offset = example.end.end;
    let (body_crc, prev_chain) = (crc32c::crc32c(b""), example.end.chain ^ 1);
    let header = FrameHeader { kind: Kind::Epoch, body_len: 0, epoch: 4, time_ms: 0, body_crc, prev_chain };
    let (bytes, _) = header.encode(Place { store_id: STORE, segment: 1, offset });
    let mut file = example.bytes.clone();
    file[offset as usize..][..FRAME_HEADER_BYTES].copy_from_slice(&bytes);
    assert!(is_corrupt(&example.read_with(&file, LAST)));
}

#[test]
fn epochs_that_do_not_ascend_are_corrupt() {
    let example = Example::new(true);
    let late = |last_epoch| Expected { last_epoch, ..expected(1, LAST) };
    assert!(read_as(&example.path, &late(0)).is_ok());
    assert!(is_corrupt(&read_as(&example.path, &late(1))));
}

#[test]
fn a_segment_of_another_store_number_chain_or_version_is_refused() {
    let example = Example::new(false);
    let right = expected(1, LAST);
    let refused = |expected| read_as(&example.path, &expected);
    assert!(is_corrupt(&refused(Expected { store_id: STORE + 1, ..right })));
    assert!(is_corrupt(&refused(Expected { number: 2, ..right })));
    assert!(is_corrupt(&refused(Expected { chain: Some(1), ..right })));
    assert!(refused(Expected { chain: Some(0), ..right }).is_ok());

    let mut newer = example.bytes.clone();
    newer[8] = 2;
    assert!(is_corrupt(&example.read_with(&newer, LAST)));
    let checksum = crc32c::crc32c(&newer[..SEGMENT_HEADER_BYTES - 4]);
    newer[SEGMENT_HEADER_BYTES - 4..SEGMENT_HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
    let error = example.read_with(&newer, LAST).unwrap_err();
    assert!(matches!(error, Error::UnsupportedVersion { found: 2, supported: 1, .. }), "{error}");
}

#[test]
fn an_error_of_the_visitor_comes_back() {
    let example = Example::new(false);
    let refuse = &mut |frame: FrameView<'_>| Err(Error::corrupt(&example.path, frame.body_offset(), "body"));
    let error = read_segment(&real(), &example.path, &expected(1, LAST), refuse).unwrap_err();
    assert!(matches!(error, Error::Corrupt { offset: 112, .. }), "{error}");
}

#[test]
fn damaged_padding_never_costs_an_intact_last_frame() {
    let example = Example::new(false);
    let mut bytes = example.bytes.clone();
    let last = example.end.end as usize - 1;
    bytes[last] = 1;
    let error = example.read_with(&bytes, LAST).unwrap_err();
    assert!(matches!(error, Error::Corrupt { offset, .. } if offset == last as u64 - 1), "{error}");
}
