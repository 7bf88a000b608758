//! Any bytes as the CSV file of `plaudit replay`: the events are those that a plain CSV reader finds, however they are
//! gathered into batches, and what is no event is refused with its line.

use csv::{ByteRecord, ReaderBuilder, WriterBuilder};
use events::{EventReader, Refusal};

#[path = "../../src/bin/plaudit/replay/events/mod.rs"]
mod events;

/// A key and a delta.
type Event = (Vec<u8>, i64);

const HEADER: &[u8] = b"time_ms,key,delta\n";

/// Reads the bytes as they are, or behind the header that they may lack, as the first of them says.
pub(crate) fn csv(data: &[u8]) {
    match data.split_first() {
        Some((choice, rows)) if choice % 2 == 0 => check(&[HEADER, rows].concat()),
        Some((_, text)) => check(text),
        None => {}
    }
}

fn check(text: &[u8]) {
    let (events, refusal) = read(text, 1, 0);
    let (batched, same_refusal) = read(text, 7, 0);
    // Of a batch with a row that is no event nothing is kept.
    let kept = if refusal.is_some() { events.len() / 7 * 7 } else { events.len() };
    assert!(batched == events[..kept], "the size of batches changes no event");
    assert_eq!(message(&refusal), message(&same_refusal));
    if let Some(refusal) = &refusal {
        check_refusal(refusal, text);
    }
    assert!(plain(text).starts_with(&events), "the events are those of a plain CSV reader");
    check_skip(text, &events);
    check_round_trip(&events);
}

/// The events up to the first refusal, read in batches of a size.
fn read(text: &[u8], size: usize, skip: u64) -> (Vec<Event>, Option<Refusal>) {
    let mut events = Vec::new();
    let mut read = || {
        let mut reader = EventReader::new("file", text)?;
        reader.skip(skip)?;
        let mut line = 0;
        while let Some(batch) = reader.next_batch(size)? {
            assert!((1..=size).contains(&batch.len()));
            // A line can have several rows, because a lone carriage return ends one too.
            assert!(line <= *batch.lines.start() && batch.lines.start() <= batch.lines.end(), "{:?}", batch.lines);
            line = *batch.lines.end();
            events.extend(batch.iter().map(|(key, delta)| (key.to_vec(), delta)));
        }
        Ok(())
    };
    let refusal = read().err();
    (events, refusal)
}

fn message(refusal: &Option<Refusal>) -> Option<String> {
    refusal.as_ref().map(Refusal::to_string)
}

fn check_refusal(refusal: &Refusal, text: &[u8]) {
    let Refusal::BadRow { line, .. } = refusal else { panic!("bytes in memory are read: {refusal:?}") };
    let lines = text.split(|&byte| byte == b'\n').count() as u64;
    assert!((1..=lines).contains(line), "line {line} of {lines}");
    assert!(refusal.to_string().len() < 1_000, "a message is short");
}

/// What the csv crate makes of the text at once, up to the first row that is no event.
fn plain(text: &[u8]) -> Vec<Event> {
    let rows = ReaderBuilder::new().flexible(true).from_reader(text).into_byte_records();
    let event = |row: ByteRecord| {
        let delta = std::str::from_utf8(row.get(2)?).ok()?.parse().ok()?;
        Some((row.get(1)?.to_vec(), delta))
    };
    rows.map_while(|row| event(row.ok()?)).collect()
}

/// Going on after a position is the same as reading from the start.
fn check_skip(text: &[u8], events: &[Event]) {
    let half = events.len() / 2;
    let (rest, _) = read(text, 1, half as u64);
    assert!(rest == events[half..], "a position is where it was");
    if events.is_empty() {
        return;
    }
    let reader = || EventReader::new("file", text).expect("there are events behind the header");
    let (mut skipping, mut reading) = (reader(), reader());
    assert_eq!(skipping.skip(events.len() as u64).ok(), Some(events.len() as u64), "every event is passed over");
    let batch = reading.next_batch(events.len()).expect("they were read before").expect("there are some");
    assert_eq!(skipping.fingerprint(), batch.fingerprint, "passing over events leaves the mark of reading them");
    assert!(!matches!(skipping.skip(u64::MAX), Ok(u64::MAX)), "the end is found");
}

/// The events, written as CSV, are read again.
fn check_round_trip(events: &[Event]) {
    let mut writer = WriterBuilder::new().from_writer(HEADER.to_vec());
    for (key, delta) in events {
        assert!((1..=plaudit::MAX_KEY_BYTES).contains(&key.len()));
        let row = [b"0", key.as_slice(), delta.to_string().as_bytes()].map(<[u8]>::to_vec);
        writer.write_record(row).expect("a vector has room");
    }
    let text = writer.into_inner().expect("a vector has room");
    let (again, refusal) = read(&text, 5, 0);
    assert!(again == events && refusal.is_none(), "{refusal:?}");
}
