//! Any bytes as the CSV file of `plaudit replay`: the events are those that a plain CSV reader finds, however they are
//! gathered into batches, and what is no event is refused with its line.

use csv::{ByteRecord, ReaderBuilder, WriterBuilder};
use events::{Change, EventReader, Kind, Like, Refusal};
use plaudit::{MAX_TIME_MS, ViewerIds};

#[path = "../../src/bin/plaudit/replay/events/mod.rs"]
mod events;

/// What an event does, as it is read and written without the command.
trait Event: Change + PartialEq {
    /// Of the columns of a row; none when it is no event.
    fn plain(row: &ByteRecord) -> Option<Self>;

    /// The row of an event.
    fn row(self, key: &[u8]) -> Vec<Vec<u8>>;
}

impl Event for i64 {
    fn plain(row: &ByteRecord) -> Option<Self> {
        std::str::from_utf8(row.get(2)?).ok()?.parse().ok()
    }

    fn row(self, key: &[u8]) -> Vec<Vec<u8>> {
        vec![b"0".to_vec(), key.to_vec(), self.to_string().into_bytes()]
    }
}

impl Event for Like {
    fn plain(row: &ByteRecord) -> Option<Self> {
        let text = |column| std::str::from_utf8(row.get(column)?).ok();
        let liked = [("like", true), ("unlike", false)].into_iter().find(|(name, _)| Some(*name) == text(3))?.1;
        Some(Self { time_ms: text(0)?.parse().ok()?, viewer: text(2)?.parse().ok()?, liked })
    }

    fn row(self, key: &[u8]) -> Vec<Vec<u8>> {
        assert!(self.time_ms <= MAX_TIME_MS);
        let action = if self.liked { "like" } else { "unlike" };
        let [time_ms, viewer] = [self.time_ms.to_string(), self.viewer.to_string()].map(String::into_bytes);
        vec![time_ms, key.to_vec(), viewer, action.as_bytes().to_vec()]
    }
}

/// Reads the bytes as they are, or behind one of the headers that they may lack, as the first of them says.
pub(crate) fn csv(data: &[u8]) {
    let Some((choice, rows)) = data.split_first() else { return };
    match choice % 4 {
        0 => check(&[&header(Kind::Counts)[..], rows].concat()),
        2 => check(&[&header(Kind::Likes)[..], rows].concat()),
        _ => check(rows),
    }
}

fn header(kind: Kind) -> Vec<u8> {
    (kind.columns().join(",") + "\n").into_bytes()
}

fn check(text: &[u8]) {
    match EventReader::new("file", text).map(|reader| reader.kind()) {
        Ok(Kind::Counts) => check_events::<i64>(text),
        Ok(Kind::Likes) => {
            check_events::<Like>(text);
            check_narrow(text);
        }
        Err(refusal) => check_refusal(&refusal, text),
    }
}

fn check_events<C: Event>(text: &[u8]) {
    let (events, refusal) = read::<C>(text, 1, 0, ViewerIds::U128);
    let (batched, same_refusal) = read(text, 7, 0, ViewerIds::U128);
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

/// Where viewers must have 64 bits, the events are those before the first viewer that has more.
fn check_narrow(text: &[u8]) {
    let (all, _) = read::<Like>(text, 1, 0, ViewerIds::U128);
    let (narrow, refusal) = read(text, 1, 0, ViewerIds::U64);
    let fits = |(_, like): &&(Vec<u8>, Like)| like.viewer.as_u64().is_some();
    assert!(all[..narrow.len()] == narrow && narrow.len() == all.iter().take_while(fits).count());
    assert!(narrow.len() == all.len() || refusal.is_some_and(|refusal| refusal.to_string().contains("viewer of 64")));
}

/// The events up to the first refusal, read in batches of a size.
fn read<C: Event>(text: &[u8], size: usize, skip: u64, viewers: ViewerIds) -> (Vec<(Vec<u8>, C)>, Option<Refusal>) {
    let mut events = Vec::new();
    let mut read = || {
        let mut reader = EventReader::new("file", text)?;
        reader.only_viewers(viewers);
        reader.skip(skip)?;
        let mut line = 0;
        while let Some(batch) = reader.next_batch(size)? {
            assert!((1..=size).contains(&batch.len()));
            // A line can have several rows, because a lone carriage return ends one too.
            assert!(line <= *batch.lines.start() && batch.lines.start() <= batch.lines.end(), "{:?}", batch.lines);
            line = *batch.lines.end();
            events.extend(batch.iter().map(|(key, change)| (key.to_vec(), change)));
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
fn plain<C: Event>(text: &[u8]) -> Vec<(Vec<u8>, C)> {
    let rows = ReaderBuilder::new().flexible(true).from_reader(text).into_byte_records();
    let event = |row: ByteRecord| Some((row.get(1)?.to_vec(), C::plain(&row)?));
    rows.map_while(|row| event(row.ok()?)).collect()
}

/// Going on after a position is the same as reading from the start.
fn check_skip<C: Event>(text: &[u8], events: &[(Vec<u8>, C)]) {
    let half = events.len() / 2;
    let (rest, _) = read(text, 1, half as u64, ViewerIds::U128);
    assert!(rest == events[half..], "a position is where it was");
    if events.is_empty() {
        return;
    }
    let reader = || EventReader::new("file", text).expect("there are events behind the header");
    let (mut skipping, mut reading) = (reader(), reader());
    assert_eq!(skipping.skip(events.len() as u64).ok(), Some(events.len() as u64), "every event is passed over");
    let batch = reading.next_batch::<C>(events.len()).expect("they were read before").expect("there are some");
    assert_eq!(skipping.fingerprint(), batch.fingerprint, "passing over events leaves the mark of reading them");
    assert!(!matches!(skipping.skip(u64::MAX), Ok(u64::MAX)), "the end is found");
}

/// The events, written as CSV, are read again.
fn check_round_trip<C: Event>(events: &[(Vec<u8>, C)]) {
    let mut writer = WriterBuilder::new().from_writer(header(C::KIND));
    for (key, change) in events {
        assert!((1..=plaudit::MAX_KEY_BYTES).contains(&key.len()));
        writer.write_record(change.row(key)).expect("a vector has room");
    }
    let text = writer.into_inner().expect("a vector has room");
    let (again, refusal) = read(&text, 5, 0, ViewerIds::U128);
    assert!(again == events && refusal.is_none(), "{refusal:?}");
}
