//! The committer: seals epochs, writes each as one frame, syncs, publishes, wakes.
//!
//! It is a state machine. [`Committer::step`] does one piece of work and says when to come back; a thread drives it,
//! and a test can step it by hand.
//!
//! ```text
//! Gathering --window over, or asked--> advance, collect, encode --> Writing --write, sync--> publish --> Gathering
//!                                                                   |   ^
//!                                                              no room   retry
//! ```
//!
//! Any other failure poisons: the shards are halted, the reason is kept, every waiter is answered with it.

mod frame;
mod group;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::log::{LogWriter, OpenSegment, Reserve};
use crate::manifest::{Manifest, ManifestFile, UpdateFailure};
use crate::options::Durability;
use crate::shard::{Changes, Position, RemovedEdges, Shards};
use crate::stats::Meter;
use crate::subscription::Subscribers;

use frame::FrameEncoder;

pub(crate) use group::Group;

/// Edges of removed items whose viewers are told in one step: some hundred microseconds.
const TOLD_AT_A_TIME: usize = 1_024;

/// How long a disk without room, or a process without descriptors, is left alone before the next try.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What the committer shares with the rest of the store.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) shards: Arc<Shards>,
    pub(crate) group: Arc<Group>,
    pub(crate) manifest: Arc<ManifestFile>,
    pub(crate) subscribers: Arc<Subscribers>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Shared {
    /// Stops the store for good: no change is taken or acknowledged any more. Whoever calls it calls [`Group::wake`]
    /// once no lock is held.
    pub(crate) fn poison(&self, cause: Error) {
        tracing::error!(%cause, "the store stops");
        let cause = match cause {
            Error::Poisoned { cause } => cause,
            cause => Arc::new(cause),
        };
        // The reason first: whoever is refused finds it, and a closing that resumes sees it (Committer::halt).
        self.group.stop(Error::Poisoned { cause });
        self.shards.halt();
        self.subscribers.end();
    }

    /// Changes the manifest, durably. When it is unknown afterwards which manifest the disk has, the store stops.
    /// Whoever calls it calls [`Group::wake`] once no lock is held.
    pub(crate) fn update_manifest<T>(&self, change: impl FnOnce(&mut Manifest) -> T) -> Result<T> {
        self.manifest.update(change).map_err(|failure| match failure {
            UpdateFailure::Unchanged(error) => error,
            UpdateFailure::Unknown(error) => {
                self.poison(error.clone());
                error
            }
        })
    }
}

/// What to do after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Step again at once.
    Again,
    /// Nothing to do before a change comes in or a commit is asked for.
    Idle,
    /// Nothing to do for this long, unless a commit of the open epoch is asked for.
    Gather(Duration),
    /// There is no room on the disk, or no descriptor; step again after this long, and not before.
    Retry(Duration),
    /// The store has stopped; there is nothing to do any more.
    Stopped,
}

#[derive(Debug)]
enum State {
    /// Changes gather in the open epoch. `since` is when its first one was noticed.
    Gathering { since: Option<Duration> },
    /// A sealed epoch is encoded and waits to be written.
    Writing { epoch: u64, time_ms: u64, retry_at: Duration },
    /// Within a seal or a write. Whoever finds it knows that there was a panic (a clock's or a disk's code may): what
    /// is in the log cannot be told any more, and to write the epoch once more would put it there twice.
    Broken,
}

/// The one writer of the log.
#[derive(Debug)]
pub(crate) struct Committer {
    shared: Shared,
    log: LogWriter,
    durability: Durability,
    window: Duration,
    state: State,
    /// By shard: the changes of the sealed epoch.
    collected: Vec<Changes>,
    encoder: FrameEncoder,
    /// Removed items whose viewers were not all told yet, each with its shard and how far that has come.
    untold: VecDeque<(usize, RemovedEdges, Option<Position>)>,
    last_seal: Duration,
}

impl Committer {
    pub(crate) fn new(shared: Shared, log: LogWriter, durability: Durability, window: Duration) -> Self {
        let collected = (0..shared.shards.count()).map(|_| Changes::default()).collect();
        Self {
            log,
            durability,
            window: if durability == Durability::Group { window } else { Duration::ZERO },
            state: State::Gathering { since: None },
            collected,
            encoder: FrameEncoder::default(),
            untold: VecDeque::new(),
            last_seal: Duration::ZERO,
            shared,
        }
    }

    /// Does the next piece of work, if its time has come.
    pub(crate) fn step(&mut self) -> Step {
        let now = self.shared.clock.monotonic();
        match self.state {
            State::Broken => {
                self.broken();
                Step::Stopped
            }
            _ if self.shared.shards.is_halted() => Step::Stopped,
            State::Gathering { since } => {
                let untold = self.tell_removed();
                match self.gather(since, now) {
                    Step::Idle | Step::Gather(_) if untold => Step::Again,
                    step => step,
                }
            }
            // No longer than a pause is, also by a clock that has gone back.
            State::Writing { retry_at, .. } if now < retry_at => Step::Retry((retry_at - now).min(RETRY_AFTER)),
            State::Writing { epoch, time_ms, .. } => self.write(epoch, time_ms),
        }
    }

    fn gather(&mut self, since: Option<Duration>, now: Duration) -> Step {
        if !self.shared.shards.is_dirty() {
            self.state = State::Gathering { since: None };
            return Step::Idle;
        }
        let asked = self.shared.group.work().urgent >= self.shared.shards.open_epoch();
        if !asked && self.durability == Durability::Manual {
            return Step::Idle;
        }
        // A clock of the caller's may go back although it must not: then the window begins again.
        let since = since.map_or(now, |since| since.min(now));
        self.state = State::Gathering { since: Some(since) };
        let end = since.saturating_add(self.window);
        if !asked && now < end {
            return Step::Gather(end - now);
        }
        self.seal(now)
    }

    /// Takes the open epoch from the shards and makes a frame of it.
    fn seal(&mut self, now: Duration) -> Step {
        self.last_seal = now;
        self.state = State::Broken;
        self.shared.shards.settle();
        let epoch = self.shared.shards.advance();
        if self.shared.shards.collect(epoch, &mut self.collected) == 0 {
            self.published(epoch);
            return Step::Again;
        }
        let events = self.shared.subscribers.any();
        self.encoder.encode(&self.shared.shards, &mut self.collected, events);
        if !self.log.has_room(self.encoder.body().len()) {
            // A new segment knows no slot, so its first frame names every counter that it holds.
            self.log.end_segment();
            self.encoder.forget_names();
            self.encoder.encode(&self.shared.shards, &mut self.collected, events);
        }
        self.tell_viewers();
        self.encoder.release_removed(&self.shared.shards);
        self.state = State::Writing { epoch, time_ms: self.shared.clock.wall_ms(), retry_at: Duration::ZERO };
        Step::Again
    }

    /// Brings the viewers' side of likes up to the sealed epoch.
    fn tell_viewers(&mut self) {
        self.shared.shards.tell_viewers(&self.collected);
        for (stripe, changes) in self.collected.iter_mut().enumerate() {
            self.untold.extend(changes.removed.drain(..).map(|removed| (stripe, removed, None)));
        }
    }

    /// Tells some of the viewers of items that were removed, which may have been many; whether there are more. Nobody
    /// waits for it: a viewer's list looks each item up.
    fn tell_removed(&mut self) -> bool {
        // More at a time when many wait, so that they do not pile up however fast they come.
        let mut left = TOLD_AT_A_TIME.max(self.untold.len());
        while left > 0
            && let Some((stripe, removed, from)) = self.untold.pop_front()
        {
            let (told, next) = self.shared.shards.tell_removed(stripe, &removed, from);
            left = left.saturating_sub(told.max(1));
            if next.is_some() {
                self.untold.push_front((stripe, removed, next));
            }
        }
        !self.untold.is_empty()
    }

    fn write(&mut self, epoch: u64, time_ms: u64) -> Step {
        self.state = State::Broken;
        match self.try_write(epoch, time_ms) {
            Ok(()) => {
                self.published(epoch);
                self.shared.subscribers.deliver(epoch, time_ms, self.encoder.take_events());
                Step::Again
            }
            Err(error) if error.is_temporary() => {
                let retry_at = self.shared.clock.monotonic().saturating_add(RETRY_AFTER);
                self.state = State::Writing { epoch, time_ms, retry_at };
                self.shared.group.report_blocked(error);
                Step::Retry(RETRY_AFTER)
            }
            Err(error) => {
                self.state = State::Gathering { since: None };
                self.shared.poison(error);
                Step::Stopped
            }
        }
    }

    /// May be repeated after a full disk: whatever part of it was done stands, or is done again with the same bytes.
    fn try_write(&mut self, epoch: u64, time_ms: u64) -> Result<()> {
        let body = self.encoder.body();
        if !self.log.has_room(body.len()) {
            self.log.create_segment(epoch, body.len(), Reserve::TheBody)?;
        }
        self.name_segment()?;
        self.log.write_frame(epoch, time_ms, body)?;
        let started = self.shared.clock.monotonic();
        self.log.sync()?;
        let ended = self.shared.clock.monotonic();
        self.shared.meter.synced(ended.saturating_sub(started), self.log.bytes_written());
        Ok(())
    }

    fn published(&mut self, epoch: u64) {
        // Changes that came in while this epoch was written have waited since at most its seal.
        self.state = State::Gathering { since: Some(self.last_seal) };
        self.shared.group.publish(epoch);
    }

    /// The log position that a snapshot begun now will cover: it must be taken before the first counter is read. The
    /// next frame goes to that segment. An epoch that is sealed already is written first, because it belongs to the
    /// segment that it was encoded for.
    ///
    /// # Errors
    ///
    /// A [temporary](Error::is_temporary) one while that epoch waits for room, or there is none for a segment; then
    /// the open one goes on. Any other has stopped the store.
    pub(crate) fn begin_snapshot(&mut self) -> Result<u64> {
        self.finish()?;
        match self.log.open_segment() {
            OpenSegment::None => return Ok(self.log.next_segment()),
            OpenSegment::Empty => {}
            OpenSegment::InUse => {
                // Before the open segment is ended, so that it goes on when there is no room for another.
                let created = self.log.create_segment(self.log.last_epoch() + 1, 0, Reserve::Segment);
                created.inspect_err(|error| {
                    if !error.is_temporary() {
                        self.shared.poison(error.clone());
                    }
                })?;
                self.encoder.forget_names();
            }
        }
        self.name_segment()?;
        Ok(self.log.last_segment())
    }

    /// The manifest names the last segment before anything is acknowledged in it, so that its loss is noticed. A log
    /// that was closed goes on in a new segment only, so this is also where the manifest says that it is open again.
    fn name_segment(&self) -> Result<()> {
        let last = self.log.last_segment();
        if self.shared.manifest.read(|manifest| manifest.last_segment < last) {
            self.shared.update_manifest(|manifest| manifest.begin_segment(last))?;
        }
        Ok(())
    }

    /// The epoch of the newest frame in the log.
    pub(crate) fn last_logged_epoch(&self) -> u64 {
        self.log.last_epoch()
    }

    /// Refuses every later change, commits what was done before, and ends the log with a seal. On a full disk changes
    /// are taken again, so that nothing is lost.
    pub(crate) fn halt(&mut self) -> Result<()> {
        // Most of the work while changes go on; a full disk mostly shows here, without any being refused.
        let committed = self.commit().and_then(|()| {
            self.shared.shards.halt();
            self.commit()?;
            self.seal_log()
        });
        if committed.as_ref().is_err_and(Error::is_temporary) {
            self.shared.shards.resume();
            if self.shared.group.stopped().is_some() {
                self.shared.shards.halt();
            }
            // A sleeping thread is to notice that there is something to retry.
            self.shared.group.announce();
        }
        committed
    }

    /// The manifest keeps the seal only once that is durable. Until then it is that of a store that was not closed.
    fn seal_log(&mut self) -> Result<()> {
        self.name_segment()?;
        let seal = self.log.close(self.shared.clock.wall_ms())?;
        if self.shared.manifest.read(|manifest| manifest.seal != seal) {
            self.shared.update_manifest(|manifest| manifest.seal = seal)?;
        }
        Ok(())
    }

    /// Commits everything that was done so far, on the calling thread.
    fn commit(&mut self) -> Result<()> {
        if let Some(stopped) = self.shared.group.stopped() {
            return Err(stopped);
        }
        self.finish()?;
        // Whether the epoch is marked as dirty says nothing here: a change that met a halt may not have come to it.
        self.seal(self.shared.clock.monotonic());
        self.finish()
    }

    /// Commits what is left, if it can be, and ends the log with a seal. Nothing is written any more, whatever the
    /// result; what is not committed by now is given up.
    pub(crate) fn close(&mut self) -> Result<()> {
        self.shared.shards.halt();
        let closed = self.commit().and_then(|()| self.seal_log());
        self.state = State::Gathering { since: None };
        closed.map_err(Error::no_longer_temporary)
    }

    /// Writes the epoch that is sealed already, if there is one.
    fn finish(&mut self) -> Result<()> {
        let (epoch, time_ms) = match self.state {
            State::Gathering { .. } => return Ok(()),
            State::Writing { epoch, time_ms, .. } => (epoch, time_ms),
            State::Broken => return Err(self.broken()),
        };
        if let Some(stopped) = self.shared.group.stopped() {
            return Err(stopped);
        }
        match self.write(epoch, time_ms) {
            Step::Again => Ok(()),
            _ => {
                let group = &self.shared.group;
                Err(group.stopped().or_else(|| group.blocked()).unwrap_or(Error::Closed))
            }
        }
    }

    /// Stops the store after a panic, and tells why it stopped.
    fn broken(&self) -> Error {
        let what = "while an epoch was on its way to the log".to_owned();
        self.shared.poison(Error::Panicked { thread: "committer", what });
        self.shared.group.stopped().unwrap_or(Error::Closed)
    }
}
