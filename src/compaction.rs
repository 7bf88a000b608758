//! Compaction: writes a snapshot of all counters as a new generation, then drops what it makes unneeded.
//!
//! A [`Compaction`] is a state machine; each [`step`](Compaction::step) is short. Whoever runs it steps until it is
//! done.
//!
//! ```text
//! begin: the log starts a new segment
//!   |
//! Walking: shard after shard in short lock holds, while changes go on; what the snapshot leaves out of likes leaves
//!   |      memory too
//!   |
//! Settling: every epoch that the walk can have seen becomes durable
//!   |
//! publish: finish the generation, name it in the manifest, remove old generations and segments
//! ```
//!
//! The snapshot is fuzzy: a change made during the walk may be in it or not. It is in the log from the new segment on
//! in any case, with its absolute value, so replaying that log over the snapshot gives the exact counts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::commit::{Committer, Shared};
use crate::directory::Layout;
use crate::edge::ViewerWidth;
use crate::error::{Error, Result};
use crate::log;
use crate::manifest::{Generation, Manifest, Namespace, NamespaceKind};
use crate::shard::{Chunk, Edge, EdgePlace, NamespaceId, Refusal, Sweep};
use crate::snapshot::{BlockBuilder, GenerationWriter, Homes};
use crate::storage::Storage;
use crate::sync::Mutex;

/// What a segment counts for beside its frames: the log of a store that is opened often and changed little, or that has
/// little room, is many small files, each with its cost on the disk and at open.
const SEGMENT_COST_BYTES: u64 = 64 << 10;

/// How long compaction is left alone after it failed. Doubled with each failure in a row.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// The longest that it is left alone.
const RETRY_AFTER_AT_MOST: Duration = Duration::from_secs(64);

/// Decides when a snapshot is due, and makes them.
#[derive(Debug)]
pub(crate) struct Compactor {
    shared: Shared,
    committer: Arc<Mutex<Committer>>,
    storage: Arc<dyn Storage>,
    layout: Layout,
    homes: Homes,
    threshold_bytes: u64,
    generations_kept: usize,
    /// The log replayed at open, less what was written by then: `log_bytes_written` plus this is the log since the last
    /// snapshot.
    log_offset: i128,
    /// Generations that recovery found damaged. The next snapshot replaces them.
    damaged: Vec<u64>,
    not_before: Duration,
    retry_after: Duration,
}

/// What a compactor is made of, beside what it shares.
#[derive(Debug)]
pub(crate) struct CompactorParts {
    pub(crate) committer: Arc<Mutex<Committer>>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) layout: Layout,
    pub(crate) homes: Homes,
    pub(crate) threshold_bytes: u64,
    pub(crate) generations_kept: usize,
    pub(crate) replayed_bytes: u64,
    pub(crate) damaged: Vec<u64>,
}

impl Compactor {
    pub(crate) fn new(shared: Shared, parts: CompactorParts) -> Self {
        let CompactorParts { committer, storage, layout, homes, .. } = parts;
        Self {
            shared,
            committer,
            storage,
            layout,
            homes,
            threshold_bytes: parts.threshold_bytes,
            generations_kept: parts.generations_kept,
            log_offset: i128::from(parts.replayed_bytes),
            damaged: parts.damaged,
            not_before: Duration::ZERO,
            retry_after: RETRY_AFTER,
        }
    }

    /// Whether the log has outgrown the last snapshot, or that snapshot is damaged.
    pub(crate) fn is_due(&self) -> bool {
        let now = self.shared.clock.monotonic();
        // A clock that has gone back does not keep it waiting.
        if now < self.not_before && self.not_before - now <= RETRY_AFTER_AT_MOST {
            return false;
        }
        let (last_bytes, segments) = self.shared.manifest.read(|manifest| {
            let last = manifest.generations.last();
            let from = last.map_or(manifest.first_segment, |last| last.log_from);
            (last.map_or(0, |last| last.meta.bytes), manifest.last_segment.saturating_sub(from))
        });
        let log = i128::from(self.shared.meter.log_bytes_written()) + self.log_offset;
        let cost = log + i128::from(segments) * i128::from(SEGMENT_COST_BYTES);
        !self.damaged.is_empty() || cost > i128::from(self.threshold_bytes.max(last_bytes))
    }

    /// Makes a snapshot, step by step, unless `cancelled` says to stop. `drive` is called for an epoch that must become
    /// durable, where no thread commits by itself. A failure changes nothing: counts are in the log.
    pub(crate) fn run(&mut self, cancelled: &dyn Fn() -> bool, drive: &dyn Fn(u64) -> Result<()>) -> Result<()> {
        let result = self.try_run(cancelled, drive);
        match &result {
            Ok(()) => self.retry_after = RETRY_AFTER,
            Err(error) => {
                tracing::warn!(%error, "compaction failed");
                self.not_before = self.shared.clock.monotonic().saturating_add(self.retry_after);
                self.retry_after = (self.retry_after * 2).min(RETRY_AFTER_AT_MOST);
            }
        }
        self.shared.meter.compacted(result.as_ref().err().cloned());
        result
    }

    fn try_run(&mut self, cancelled: &dyn Fn() -> bool, drive: &dyn Fn(u64) -> Result<()>) -> Result<()> {
        let closed = || if cancelled() { Err(Error::Closed) } else { Ok(()) };
        closed()?;
        let mut compaction = self.begin()?;
        loop {
            closed()?;
            match compaction.step(&self.shared)? {
                Progress::Again => {}
                Progress::Settle(epoch) => {
                    self.shared.group.request(epoch);
                    drive(epoch)?;
                    self.shared.group.wait_unless(cancelled, epoch)?;
                }
                Progress::Done => return self.publish(compaction),
            }
        }
    }

    /// Starts a snapshot: from here on the log is what the snapshot does not cover.
    pub(crate) fn begin(&mut self) -> Result<Compaction> {
        let written = self.shared.meter.log_bytes_written();
        let log_from = self.committer.lock().begin_snapshot()?;
        let shards = &self.shared.shards;
        let (number, parts) = self.shared.manifest.read(|manifest| {
            let parts = manifest.namespaces.iter().flat_map(|namespace| {
                let id = namespace.id;
                let edges = namespace.viewers().map(|width| Part::Edges(id, width, EdgePlace::default()));
                let sweep = shards.begin_sweep(id).map(|sweep| Part::Sweep(id, sweep));
                std::iter::once(Part::Counters(id, Chunk::default())).chain(edges).chain(sweep)
            });
            (manifest.next_generation, parts.collect())
        });
        Ok(Compaction {
            log_from,
            log_bytes_before: written,
            writer: self.homes.create(number)?,
            builder: BlockBuilder::new(number),
            parts,
            state: State::Walking,
        })
    }

    /// Makes a finished snapshot the newest generation, and removes what nobody needs any more.
    pub(crate) fn publish(&mut self, compaction: Compaction) -> Result<()> {
        let Compaction { log_from, log_bytes_before, writer, .. } = compaction;
        let meta = writer.finish()?;
        if let Some(stopped) = self.shared.group.stopped() {
            return Err(stopped);
        }
        // Everything that the walk saw is durable by now, so it is at most this.
        let through_epoch = self.committer.lock().last_logged_epoch();
        let (kept, damaged, shards) = (self.generations_kept, &self.damaged, &self.shared.shards);
        self.shared.update_manifest(|manifest| {
            manifest.next_generation = meta.number + 1;
            // The snapshot leaves out unlikes that were too old, so no event that old may be taken ever after.
            for Namespace { id, kind, .. } in &mut manifest.namespaces {
                if let (NamespaceKind::Likes { newest_ms, .. }, Some(rules)) = (kind, shards.like_rules(*id)) {
                    *newest_ms = rules.newest_ms().max(*newest_ms);
                }
            }
            manifest.generations.retain(|generation| !damaged.contains(&generation.meta.number));
            manifest.generations.push(Generation { meta, log_from, through_epoch });
            let surplus = manifest.generations.len().saturating_sub(kept);
            manifest.generations.drain(..surplus);
            if let (Some(oldest), true) = (manifest.generations.first(), manifest.generations.len() == kept) {
                // The last segment stays even when it is covered: the chain goes on from it.
                manifest.first_segment = manifest.first_segment.max(oldest.log_from.min(manifest.last_segment));
            }
        })?;
        self.damaged.clear();
        self.log_offset = -i128::from(log_bytes_before);
        if let Err(error) = self.remove_unneeded() {
            tracing::warn!(%error, "what the snapshot replaces could not be removed; the next one tries again");
        }
        Ok(())
    }

    /// Removes generations and segments that the manifest no longer names.
    fn remove_unneeded(&self) -> Result<()> {
        let manifest = self.shared.manifest.read(Manifest::clone);
        let named = |number: u64| manifest.generations.iter().any(|generation| generation.meta.number == number);
        for number in self.homes.list()?.into_iter().filter(|&number| !named(number)) {
            self.homes.remove(number)?;
        }
        let dir = &self.layout.log;
        let entries = self.storage.list(dir).map_err(|error| Error::io("list", dir, error))?;
        for number in entries.iter().filter_map(|entry| log::parse_segment_name(&entry.name)) {
            if number < manifest.first_segment {
                let path = log::segment_path(dir, number);
                self.storage.remove_file(&path).map_err(|error| Error::io("remove", &path, error))?;
            }
        }
        Ok(())
    }
}

/// What is left to do after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Step again.
    Again,
    /// This epoch has to be durable; then step again.
    Settle(u64),
    /// Ready to be published.
    Done,
}

/// A snapshot in the making.
#[derive(Debug)]
pub(crate) struct Compaction {
    log_from: u64,
    log_bytes_before: u64,
    writer: Box<dyn GenerationWriter>,
    builder: BlockBuilder,
    /// What is left of it.
    parts: VecDeque<Part>,
    state: State,
}

/// What a snapshot is made of, in this order, and where the walk over it goes on.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// The counters of a namespace, or the items of one of likes with their counts.
    Counters(NamespaceId, Chunk),
    /// The edges of a namespace of likes.
    Edges(NamespaceId, ViewerWidth, EdgePlace),
    /// Nothing more: unlikes that were too old at the beginning are dropped from memory too. So none is dropped that
    /// the snapshot has.
    Sweep(NamespaceId, Sweep),
}

#[derive(Debug)]
enum State {
    Walking,
    Settling { epoch: u64 },
}

impl Compaction {
    /// Does the next short piece of work.
    pub(crate) fn step(&mut self, shared: &Shared) -> Result<Progress> {
        match self.state {
            State::Walking => match self.parts.pop_front() {
                Some(part) => self.walk(shared, part),
                None => self.end_walk(shared),
            },
            State::Settling { epoch } if shared.group.durable_epoch() < epoch => Ok(Progress::Settle(epoch)),
            State::Settling { .. } => Ok(Progress::Done),
        }
    }

    fn walk(&mut self, shared: &Shared, part: Part) -> Result<Progress> {
        let Self { writer, builder, .. } = self;
        // Blocks are written after the lock hold; a chunk fills a few at most.
        let mut blocks = Vec::new();
        let visited = match part {
            Part::Counters(id, at) => {
                let mut push = |key: &[u8], value| blocks.extend(builder.push(id, key, value).map(<[u8]>::to_vec));
                let next = shared.shards.visit(id, at, &mut push);
                next.map(|next| next.map(|next| Part::Counters(id, next)))
            }
            Part::Edges(id, width, at) => {
                let oldest_ms = shared.shards.like_rules(id).map_or(0, |rules| rules.oldest_ms());
                let mut push = |Edge { item, viewer, stamp, .. }: Edge<'_>| {
                    if stamp.is_like() || stamp.time_ms() >= oldest_ms {
                        blocks.extend(builder.push_edge(id, width, item, viewer, stamp).map(<[u8]>::to_vec));
                    }
                };
                let next = shared.shards.visit_edges(id, at, &mut push);
                next.map(|next| next.map(|next| Part::Edges(id, width, next)))
            }
            Part::Sweep(id, sweep) => {
                let next = shared.shards.sweep(id, sweep);
                next.map(|next| next.map(|next| Part::Sweep(id, next)))
            }
        };
        match visited {
            Ok(Some(rest)) => self.parts.push_front(rest),
            Ok(None) | Err(Refusal::NoNamespace) => {}
            Err(_) => return Err(shared.group.stopped().unwrap_or(Error::Closed)),
        }
        blocks.iter().try_for_each(|block| writer.write_block(block))?;
        Ok(Progress::Again)
    }

    fn end_walk(&mut self, shared: &Shared) -> Result<Progress> {
        if let Some(block) = self.builder.finish() {
            self.writer.write_block(block)?;
        }
        self.state = State::Settling { epoch: shared.shards.newest_epoch() };
        Ok(Progress::Again)
    }
}
