//! What every handle of a store shares: the shards, the committer, the compactor, and the threads that drive them.
//!
//! # Order of locks
//!
//! `threads` before `compactor` before `committer` before the manifest before any of: a shard's stripe, the group's,
//! the subscribers', the meter's, the alarm's. Of the latter none is taken while another is held, but for the stripes
//! of a batch, which are taken in ascending order.

mod changes;
mod namespaces;

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::{Clock, SystemClock};
use crate::commit::{Committer, Group, Shared, Step};
use crate::compaction::{Compactor, CompactorParts};
use crate::directory::{Layout, create, inspect, take_lock};
use crate::drive::{Alarm, drive_committer, drive_compactor, join, spawn};
use crate::error::{Error, Result};
use crate::log::LogWriter;
use crate::manifest::{Manifest, ManifestFile, Namespace};
use crate::options::{CounterOptions, Durability, Options, SnapshotHome};
use crate::recovery::{Recovered, RecoveryReport, recover};
use crate::shard::{Chunk, Edge, EdgePlace, NamespaceId, Refusal, Shards};
use crate::snapshot::Homes;
use crate::stats::{Meter, Stats};
#[cfg(any(test, feature = "sim"))]
use crate::storage::sim::{SimClock, SimDisk};
use crate::storage::{RealStorage, Storage, StorageLock};
use crate::subscription::{Subscribers, Subscription};
use crate::sync::Mutex;
use crate::sync::thread::JoinHandle;

/// What a store runs on: a disk, a clock, and who drives its committer.
///
/// The default is the real file system, the system's clock, and threads of the store's own. A test gives it a simulated
/// disk and a clock that it turns, and may drive the committer itself.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The disk.
    pub storage: Arc<dyn Storage>,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Who drives the committer and the compactor.
    pub driver: Driver,
    /// What a new store's identity and its placement of keys are drawn from; `None` for the operating system's
    /// randomness. With a number, the same calls write the same bytes, so a simulation can be repeated. Outside of
    /// tests it must stay `None`: two stores of one identity cannot be told apart, and whoever knows how keys are
    /// placed can choose slow ones.
    pub seed: Option<u64>,
}

impl Environment {
    /// A simulated disk and clock, a committer that the caller steps, and a fixed seed, so that the same calls write
    /// the same bytes each time. What a service tests itself with; [`storage::sim`](crate::storage::sim) shows how.
    ///
    /// sled knows only the operating system's files, so the store needs [`SnapshotHome::File`].
    #[cfg(any(test, feature = "sim"))]
    #[must_use]
    pub fn simulated(disk: &SimDisk, clock: &SimClock) -> Self {
        let (storage, clock) = (Arc::new(disk.clone()), Arc::new(clock.clone()));
        Self { storage, clock, driver: Driver::Caller, seed: Some(1) }
    }
}

/// Who drives the committer and the compactor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Driver {
    /// Two threads of the store's own.
    #[default]
    Threads,
    /// Whoever calls [`Store::step`](crate::Store::step). `sync`, `compact` and `close` do their work on the calling
    /// thread. Waiting for an epoch that nobody has committed is [`Error::NotDriven`], because it would last for ever.
    Caller,
}

impl Default for Environment {
    fn default() -> Self {
        let (storage, clock) = (Arc::new(RealStorage::new()), Arc::new(SystemClock::new()));
        Self { storage, clock, driver: Driver::default(), seed: None }
    }
}

/// An open store.
#[derive(Debug)]
pub(crate) struct Engine {
    shared: Shared,
    committer: Arc<Mutex<Committer>>,
    compactor: Arc<Mutex<Compactor>>,
    report: RecoveryReport,
    layout: Layout,
    storage: Arc<dyn Storage>,
    durability: Durability,
    driver: Driver,
    alarm: Arc<Alarm>,
    /// What ends with the store; `None` once it is closed. Held while it closes.
    threads: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    committer: Option<JoinHandle<()>>,
    compactor: Option<JoinHandle<()>>,
    lock: Box<dyn StorageLock>,
}

impl Engine {
    pub(crate) fn open(environment: Environment, path: &Path, options: &Options) -> Result<Self> {
        options.validate()?;
        let Environment { storage, clock, driver, seed } = environment;
        if options.snapshot_home != SnapshotHome::File && !storage.is_operating_system() {
            let value = format!("{:?}", options.snapshot_home);
            let expected = "File, because the storage is not the operating system's".to_owned();
            return Err(Error::InvalidOption { field: "snapshot_home", value, expected });
        }
        let layout = Layout::new(path);
        let exists = inspect(&*storage, &layout)?;
        let lock = take_lock(&*storage, &layout, exists)?;
        // Another opener may have created the store in the meantime.
        let exists = inspect(&*storage, &layout)?;
        let manifest = if exists {
            ManifestFile::open(Arc::clone(&storage), &layout.root)?
        } else {
            create(&storage, &layout, seed)?
        };
        let homes = Homes::new(&storage, &layout.snapshot, options.snapshot_home);
        let recovered = recover(&*storage, &layout, &manifest, &homes, &*clock, options.shards)?;
        let Recovered { shards, log_end, mut report } = recovered;
        report.created = !exists;
        let eager = options.durability != Durability::Group;
        let group = Group::new(report.last_epoch, eager, driver == Driver::Threads);
        let shared = Shared {
            shards: Arc::new(shards),
            group: Arc::new(group),
            manifest: Arc::new(manifest),
            subscribers: Arc::new(Subscribers::default()),
            meter: Arc::new(Meter::default()),
            clock,
        };
        let (store_id, names) = shared.manifest.read(|manifest| (manifest.store_id, manifest.namespaces.clone()));
        names.into_iter().for_each(|namespace| shared.subscribers.name(namespace.id, namespace.name));
        let mut log =
            LogWriter::new(Arc::clone(&storage), layout.log.clone(), store_id, log_end, options.segment_bytes);
        // What was restored is what callers will build on, so it has to be durable first.
        log.settle()?;
        let committer = Committer::new(shared.clone(), log, options.durability, options.group_window);
        let committer = Arc::new(Mutex::new(committer));
        let parts = CompactorParts {
            committer: Arc::clone(&committer),
            storage: Arc::clone(&storage),
            layout: layout.clone(),
            homes,
            threshold_bytes: options.compaction_threshold_bytes,
            generations_kept: options.generations_kept,
            replayed_bytes: report.log_bytes,
            damaged: report.damaged_generations.iter().map(|(number, _)| *number).collect(),
        };
        let engine = Self {
            compactor: Arc::new(Mutex::new(Compactor::new(shared.clone(), parts))),
            shared,
            committer,
            report,
            layout,
            storage,
            durability: options.durability,
            driver,
            alarm: Arc::new(Alarm::default()),
            threads: Mutex::new(Some(Running { committer: None, compactor: None, lock })),
        };
        engine.start()?;
        Ok(engine)
    }

    /// Starts the threads, if the store drives itself.
    fn start(&self) -> Result<()> {
        if self.driver == Driver::Caller {
            return Ok(());
        }
        let Self { shared, committer, compactor, alarm, .. } = self;
        let commit = {
            let (shared, committer) = (shared.clone(), Arc::clone(committer));
            let (compactor, alarm) = (Arc::clone(compactor), Arc::clone(alarm));
            let body = move || drive_committer(&shared, &committer, &compactor, &alarm);
            spawn("committer", self.shared.clone(), body)?
        };
        let compact = {
            let (shared, compactor, alarm) = (shared.clone(), Arc::clone(compactor), Arc::clone(alarm));
            spawn("compactor", self.shared.clone(), move || drive_compactor(&shared, &compactor, &alarm))?
        };
        if let Some(running) = &mut *self.threads.lock() {
            running.committer = Some(commit);
            running.compactor = Some(compact);
        }
        // There may be something for the compactor before anything is committed.
        self.alarm.ring();
        Ok(())
    }

    pub(crate) fn shards(&self) -> &Shards {
        &self.shared.shards
    }

    pub(crate) fn group(&self) -> &Arc<Group> {
        &self.shared.group
    }

    pub(crate) fn report(&self) -> &RecoveryReport {
        &self.report
    }

    pub(crate) fn wall_ms(&self) -> u64 {
        self.shared.clock.wall_ms()
    }

    /// Visits a piece of a namespace, unless the store has stopped.
    pub(crate) fn visit(
        &self,
        namespace: NamespaceId,
        chunk: Chunk,
        visit: &mut dyn FnMut(&[u8], i64),
    ) -> Result<Option<Chunk>, Refusal> {
        if self.shared.shards.is_halted() { Err(Refusal::Halted) } else { self.shards().visit(namespace, chunk, visit) }
    }

    /// Visits a piece of the edges of a namespace, unless the store has stopped.
    pub(crate) fn visit_edges(
        &self,
        namespace: NamespaceId,
        at: EdgePlace,
        visit: &mut dyn FnMut(Edge<'_>),
    ) -> Result<Option<EdgePlace>, Refusal> {
        if self.shared.shards.is_halted() {
            return Err(Refusal::Halted);
        }
        self.shards().visit_edges(namespace, at, visit)
    }

    /// How many counters a namespace has, unless the store has stopped.
    pub(crate) fn len(&self, namespace: NamespaceId) -> Result<usize, Refusal> {
        if self.shared.shards.is_halted() { Err(Refusal::Halted) } else { self.shards().len(namespace) }
    }

    /// The error for a change or a read that was refused.
    pub(crate) fn refused(&self, refusal: Refusal, namespace: &Namespace, key: &[u8]) -> Error {
        let key = || Bytes::copy_from_slice(key);
        match refusal {
            Refusal::Halted => self.halted(),
            Refusal::NoNamespace => Error::NoSuchNamespace { name: namespace.name.to_string() },
            Refusal::TooOld { time_ms, oldest_ms } => Error::TooOld { item: key(), time_ms, oldest_ms },
            Refusal::TableFull => Error::TooManyCounters { namespace: namespace.name.to_string() },
            Refusal::Overflow { value, delta } => Error::Overflow { key: key(), value, delta },
            Refusal::OutOfBounds { value } => {
                let CounterOptions { min, max, .. } = *namespace.bounds();
                Error::OutOfBounds { key: key(), value, min, max }
            }
        }
    }

    /// Why the store takes no more calls.
    pub(crate) fn halted(&self) -> Error {
        self.shared.group.stopped().unwrap_or(Error::Closed)
    }

    fn check_running(&self) -> Result<()> {
        if self.shared.shards.is_halted() { Err(self.halted()) } else { Ok(()) }
    }

    /// Changes the manifest. After a failure that leaves it unknown which manifest the disk has, the store stops.
    fn update_manifest<T>(&self, change: impl FnOnce(&mut Manifest) -> T) -> Result<T> {
        let updated = self.shared.update_manifest(change);
        self.shared.group.wake();
        updated
    }

    /// Makes everything done so far durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.check_running()?;
        self.shared.shards.settle();
        self.make_durable(self.shared.shards.newest_epoch())
    }

    /// Waits for the epoch of a change, if a change returns only once it is durable.
    #[inline]
    pub(crate) fn acknowledge(&self, epoch: u64) -> Result<()> {
        if self.durability == Durability::Immediate { self.make_durable(epoch) } else { Ok(()) }
    }

    fn make_durable(&self, epoch: u64) -> Result<()> {
        self.shared.group.request(epoch);
        if self.driver == Driver::Caller {
            let driven = self.drive_to(epoch);
            self.shared.group.wake();
            driven?;
        }
        self.shared.group.wait(epoch)
    }

    /// Steps the committer until `epoch` is durable or it has to pause. Whoever calls it calls [`Group::wake`] once
    /// no lock is held.
    fn drive_to(&self, epoch: u64) -> Result<()> {
        while self.shared.group.durable_epoch() < epoch {
            let step = self.committer.lock().step();
            match step {
                Step::Again => {}
                Step::Stopped => return Err(self.halted()),
                Step::Idle | Step::Gather(_) | Step::Retry(_) => break,
            }
        }
        Ok(())
    }

    /// Does one step of the committer.
    pub(crate) fn step(&self) -> Step {
        let step = self.committer.lock().step();
        self.shared.group.wake();
        step
    }

    pub(crate) fn compact(&self) -> Result<()> {
        self.check_running()?;
        if self.shared.group.is_committer() {
            // A compaction that runs waits for this thread.
            return Err(Error::NotDriven { epoch: self.shared.shards.newest_epoch() });
        }
        let mut compactor = self.compactor.lock();
        let ended = || self.alarm.is_ended();
        let drive = |epoch| if self.driver == Driver::Caller { self.drive_to(epoch) } else { Ok(()) };
        let compacted = compactor.run(&ended, &drive);
        drop(compactor);
        self.shared.group.wake();
        compacted
    }

    /// Whether the log has outgrown the last snapshot. For whoever drives the store.
    pub(crate) fn is_compaction_due(&self) -> bool {
        !self.shared.group.is_committer() && self.compactor.lock().is_due()
    }

    pub(crate) fn subscribe(&self, capacity: usize) -> Subscription {
        self.shared.subscribers.subscribe(capacity)
    }

    pub(crate) fn stats(&self) -> Stats {
        let counts = self.shared.meter.counts();
        let (counters, memory_bytes) = self.shared.shards.counters_and_memory();
        let viewers_memory_bytes = self.shared.shards.viewers_memory_bytes();
        let manifest = self.shared.manifest.read(Manifest::clone);
        let log = self.storage.list(&self.layout.log).unwrap_or_default();
        Stats {
            counters,
            memory_bytes: memory_bytes + viewers_memory_bytes,
            viewers_memory_bytes,
            namespaces: manifest.namespaces.len() as u64,
            log_bytes: log.iter().map(|entry| entry.len).sum(),
            snapshot_bytes: manifest.generations.iter().map(|generation| generation.meta.disk_bytes).sum(),
            log_bytes_written: counts.log_bytes_written,
            open_epoch: self.shared.shards.open_epoch(),
            durable_epoch: self.shared.group.durable_epoch(),
            syncs: counts.sync_latency().count,
            sync_latency: counts.sync_latency(),
            generations: manifest.generations.iter().map(|generation| generation.meta.number).collect(),
            compactions: counts.compactions,
            last_compaction_error: counts.last_compaction_error,
            storage_full: self.shared.group.blocked().is_some_and(|error| error.is_storage_full()),
        }
    }

    /// Commits what is left, seals the log, ends the threads and gives the lock back. A second call does nothing, and
    /// answers once the first is done.
    ///
    /// On a full disk the store stays open, so that nothing is lost while its owner makes room.
    pub(crate) fn close(&self) -> Result<()> {
        self.shut_down(OnFullDisk::StayOpen)
    }

    /// Never waits for a thread while it holds `threads`: the committer's may be in a waker that closes the store too.
    fn shut_down(&self, on_full_disk: OnFullDisk) -> Result<()> {
        let mut threads = self.threads.lock();
        if threads.is_none() {
            return Ok(());
        }
        let halted = self.committer.lock().halt();
        if on_full_disk == OnFullDisk::StayOpen && halted.as_ref().is_err_and(Error::is_temporary) {
            drop(threads);
            self.shared.group.wake();
            return halted;
        }
        let closed = self.end();
        let Some(Running { committer, compactor, lock }) = threads.take() else { return closed };
        drop(lock);
        drop(threads);
        self.shared.group.wake();
        [committer, compactor].into_iter().flatten().for_each(join);
        closed
    }

    /// Lets nothing write to the disk any more, after everything was committed that could be.
    fn end(&self) -> Result<()> {
        self.alarm.end();
        self.shared.group.request_stop();
        self.shared.group.recheck();
        // A compaction holds this lock until it sees that the store has ended.
        let compactor = self.compactor.lock();
        let closed = self.committer.lock().close();
        drop(compactor);
        self.shared.manifest.end();
        self.shared.group.stop(Error::Closed);
        self.shared.subscribers.end();
        closed
    }
}

/// What closing does with changes that the disk has no room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnFullDisk {
    StayOpen,
    GiveThemUp,
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Err(error) = self.shut_down(OnFullDisk::GiveThemUp) {
            tracing::error!(%error, path = %self.layout.root.display(), "the store could not be closed");
        }
    }
}
