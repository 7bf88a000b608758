//! `plaudit replay`: a history of events into a store, exactly once.
//!
//! One thread reads, decompresses and parses; this one applies. The position in the source is set in the batch of the
//! events it counts, so the store is never between two positions.

mod acks;
pub(crate) mod events;
mod position;
mod progress;
mod source;
mod target;

use std::ffi::OsStr;
use std::io::{Read, Write as _};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use plaudit::{Batch, MAX_BATCH_CHANGES, Store};

use self::acks::Acks;
use self::events::{Change, EventBatch, EventReader, Kind};
use self::position::{Position, PositionCounters};
use self::progress::Progress;
use self::source::{STANDARD_INPUT, Source};
use self::target::{Target, ToCounters, ToLikes};
use crate::failure::Failure;
use crate::human::{counted, duration, grouped, rate};
use crate::output;
use crate::stores::{LikeArgs, NamespaceArg, StoreArg};

/// Parsed batches that wait to be applied: enough that neither thread waits for the other's hiccups.
const QUEUED_BATCHES: usize = 8;

/// The most events in one batch.
const MAX_EVENTS: usize = MAX_BATCH_CHANGES - position::CHANGES;

/// How often durability is looked at while the source is slow.
const POLL: Duration = Duration::from_millis(5);

/// Apply a history of counts or likes from a CSV file, exactly once
#[derive(clap::Args)]
#[command(long_about = "\
Apply a history of counts or likes from a CSV file, exactly once.

The file starts with a header. After time_ms,key,delta each row adds delta to the counter of the key. After \
time_ms,item,viewer,action each row is a like or an unlike, as its action says, of the item by the viewer, a number or \
a UUID, at its own time: the newest decides, at equal times the unlike, so rows may be in any order and be repeated. One \
from before the namespace's horizon is not applied; how many there were is printed at the end.

Events are applied in batches, all of a batch or nothing of it. The number of events counted so far, the position, is \
itself a counter that is set in the same batch. So whatever happens, the counts are those of exactly the first events \
of the file, and running the same command again goes on after them. A row that is no event stops the command with its \
line and column; the batches before it are kept.

There is a position for each namespace and name of a source, and beside it a fingerprint of the events before it (in \
namespace plaudit.replay, keys NS<TAB>NAME<TAB>position and NS<TAB>NAME<TAB>fingerprint). A file that does not begin \
with these events is refused, and nothing of it is counted: it is another one under the same name, or was changed. \
That it has become longer is fine.")]
#[command(after_help = "\
Examples:
  plaudit replay stars.csv.zst --store ./stars --namespace stars
  plaudit replay likes.csv.gz --store ./likes --namespace videos --horizon 30d
  xz -dc stars.csv.xz | plaudit replay - --source stars --store ./stars --namespace stars")]
pub(crate) struct Args {
    /// The CSV file, compressed when it ends in .gz or .zst; - reads plain CSV from standard input
    file: PathBuf,
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    namespace: NamespaceArg,
    /// The name that the position is kept under
    ///
    /// Default: the file's name without its directories, or - for standard input. Files that share a name need names
    /// of their own here, as does every stream that is to be resumed.
    #[arg(long, value_name = "NAME")]
    source: Option<String>,
    /// Events in one atomic batch, 1 to 1,048,574
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = batch_size)]
    batch: usize,
    /// Stop after N events, counted from where this run starts
    #[arg(long, value_name = "N")]
    limit: Option<NonZeroU64>,
    /// Append a line to FILE each time more is durable, and when there was nothing to count: the number of events from
    /// the start of the source that will survive any crash
    #[arg(long, value_name = "FILE")]
    acks: Option<PathBuf>,
    #[command(flatten)]
    likes: LikeArgs,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let namespace = args.namespace.for_counting()?;
    // The source and its header come first: a mistyped file name must not create a store.
    let source = Source::open(&args.file)?;
    let progress = Progress::new(&source);
    let mut reader = EventReader::new(&source.name, source.text)?;
    if reader.kind() == Kind::Counts {
        args.likes.must_not_be_given()?;
    }
    let acks = Acks::open(args.acks.as_deref())?;
    let store = args.store.open_or_create()?;
    match reader.kind() {
        Kind::Counts => {
            let counters = ToCounters::open(&store, namespace)?;
            Replay::new(args, &store, counters, source.name, acks)?.finish(reader, args, progress)
        }
        Kind::Likes => {
            let likes = ToLikes::open(&store, namespace, &args.likes)?;
            reader.only_viewers(likes.likes.options().viewers);
            Replay::new(args, &store, likes, source.name, acks)?.finish(reader, args, progress)
        }
    }
}

struct Replay<T> {
    store: Store,
    target: T,
    position_counters: PositionCounters,
    batch: Batch,
    acks: Acks,
    /// Where this run goes on.
    from: Position,
    /// How many events from the start of the source are applied.
    position: u64,
}

impl<T: Target> Replay<T> {
    fn new(args: &Args, store: &Store, target: T, file: String, acks: Acks) -> Result<Self, Failure> {
        let file_name = args.file.file_name().unwrap_or(OsStr::new(STANDARD_INPUT));
        let source_name = args.source.clone().unwrap_or_else(|| file_name.to_string_lossy().into_owned());
        let position_counters = PositionCounters::new(store, target.name(), &source_name)?;
        let from = position_counters.load(file, source_name)?;
        let (store, batch, position) = (store.clone(), store.batch(), from.events);
        Ok(Self { store, target, position_counters, batch, acks, from, position })
    }

    /// Applies all that is to be applied, closes the store, and prints what there was.
    fn finish<R: Read + Send + 'static>(
        mut self,
        reader: EventReader<R>,
        args: &Args,
        progress: Progress,
    ) -> Result<(), Failure> {
        let started = Instant::now();
        let outcome = self.run(reader, args, progress);
        let settled = self.settle();
        let summary = self.summary(started.elapsed());
        settled.and(self.store.close().map_err(Failure::from))?;

        let mut out = output::stdout();
        writeln!(out, "{}", summary?)?;
        out.flush()?;
        outcome
    }

    /// Applies what the reader has after the position, until its end, the limit or a failure.
    fn run<R: Read + Send + 'static>(
        &mut self,
        reader: EventReader<R>,
        args: &Args,
        mut progress: Progress,
    ) -> Result<(), Failure> {
        let (sender, batches) = mpsc::sync_channel(QUEUED_BATCHES);
        let (from, batch, limit) = (self.from.clone(), args.batch, args.limit.map_or(u64::MAX, u64::from));
        // Not a scoped thread: when applying fails, a parser that waits for a slow pipe is left behind.
        let parser = thread::spawn(move || parse(reader, &from, limit, batch, &sender));
        loop {
            match batches.recv_timeout(POLL) {
                Ok(events) => self.apply(&events)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.acks.durable(self.store.durable_epoch())?;
            progress.applied(self.position - self.from.events);
        }
        parser.join().unwrap_or(Err(Failure::Panicked))?;
        if self.position == self.from.events {
            // What opening restored is durable. Whoever follows the acks learns that the source is at its end.
            self.acks.applied(self.store.durable_epoch(), self.position);
        }
        Ok(())
    }

    fn apply(&mut self, events: &EventBatch<T::Change>) -> Result<(), Failure> {
        let position = self.position + events.len() as u64;
        let take_position = |batch: &mut Batch| self.position_counters.set(batch, position, events.fingerprint);
        let epoch = self.target.apply(&mut self.batch, events, take_position).map_err(|source| {
            let (file, first_line, last_line) = (self.from.file.clone(), *events.lines.start(), *events.lines.end());
            Failure::BatchRefused { file, first_line, last_line, source }
        })?;
        self.position = position;
        self.acks.applied(epoch, position);
        Ok(())
    }

    /// Waits until everything applied is durable.
    fn settle(&mut self) -> Result<(), Failure> {
        self.store.sync()?;
        self.acks.durable(self.store.durable_epoch())
    }

    fn summary(&self, elapsed: Duration) -> Result<String, Failure> {
        let events = self.position - self.from.events;
        let holds = self.target.holds()?;
        let outcome = self.target.outcome().map_or_else(String::new, |outcome| format!("\n{outcome}"));
        let rate = if events == 0 { String::new() } else { format!(" ({})", rate(events, elapsed)) };
        Ok(format!(
            "{} in {}{rate}, position {} of {}, {holds} in namespace {}{outcome}",
            counted(events, "event"),
            duration(elapsed),
            grouped(self.position),
            self.from.source_name,
            self.target.name(),
        ))
    }
}

fn batch_size(text: &str) -> Result<usize, String> {
    let size = text.parse().ok().filter(|size| (1..=MAX_EVENTS).contains(size));
    size.ok_or_else(|| format!("a whole number from 1 to {} is expected", grouped(MAX_EVENTS)))
}

/// Reads the source from the position to its end or to the limit. The receiver hangs up when applying failed, and that
/// failure is the one to report.
fn parse<C: Change, R: Read>(
    mut reader: EventReader<R>,
    from: &Position,
    limit: u64,
    batch: usize,
    sender: &SyncSender<EventBatch<C>>,
) -> Result<(), Failure> {
    let passed = reader.skip(from.events)?;
    from.check(passed, reader.fingerprint())?;
    let mut left = limit;
    while left > 0 {
        let size = usize::try_from(left).map_or(batch, |left| left.min(batch));
        let Some(events) = reader.next_batch(size)? else { break };
        left -= events.len() as u64;
        if sender.send(events).is_err() {
            break;
        }
    }
    Ok(())
}
