//! Every sync, directory sync and order of calls that durability rests on, each with a name to switch it off by.

use plaudit::storage::sim::Operation::{Remove, Rename, Sync, SyncDir, Truncate};

use super::calls::Place::{
    Above, LogDir, Manifest, NewSegment, OldSegment, Root, Snapshot as SnapshotFile, SnapshotDir,
};
use super::calls::{Call, History, Piece};

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Done,
    /// Answered with `Ok`, and never done.
    LeftOut,
    /// Answered with `Ok`, and done later.
    PutOff,
    /// The process is killed in it.
    Interrupted,
}

/// A rule that is not kept: a call that is left out, or one that is made too late.
#[derive(Debug)]
pub struct Mutation {
    /// The rule.
    pub name: &'static str,
    /// The calls that the rule is about. The last argument tells whether one of them is put off now.
    strikes: fn(Call, &History, bool) -> bool,
    /// When calls that are put off are made: just before this one. `None` leaves them out.
    until: Option<fn(Call, &History) -> bool>,
}

impl Mutation {
    const fn leave_out(name: &'static str, strikes: fn(Call, &History, bool) -> bool) -> Self {
        Self { name, strikes, until: None }
    }

    const fn put_off(
        name: &'static str,
        strikes: fn(Call, &History, bool) -> bool,
        until: fn(Call, &History) -> bool,
    ) -> Self {
        Self { name, strikes, until: Some(until) }
    }

    pub fn fate(&self, call: Call, history: &History, deferring: bool) -> Fate {
        match self.until {
            _ if !(self.strikes)(call, history, deferring) => Fate::Done,
            None => Fate::LeftOut,
            Some(_) => Fate::PutOff,
        }
    }

    /// Whether calls that were put off are made before this one.
    pub fn is_over(&self, call: Call, history: &History) -> bool {
        self.until.is_some_and(|until| until(call, history))
    }
}

/// Creation syncs the store's directory between making what is in it and writing the manifest.
fn creates_root(call: Call, history: &History) -> bool {
    call.is(SyncDir, Root) && history.after(plaudit::storage::sim::Operation::Create, SnapshotDir)
}

/// The manifest's rename after that of what it is to name, and the directory sync that follows.
fn names(place: super::calls::Place, call: Call, history: &History, deferring: bool) -> bool {
    let rename = call.is(Rename, Manifest) && history.renamed_last(place);
    rename || deferring && call.is(SyncDir, Root) && history.after(Rename, Manifest)
}

/// Whether the manifest names this durably.
fn is_named(place: super::calls::Place, history: &History) -> bool {
    history.after(SyncDir, Root) && history.named(place)
}

fn is_frame_sync(call: Call, history: &History) -> bool {
    call.is(Sync, NewSegment) && history.after_piece(Piece::Frame)
}

fn is_seal_sync(call: Call, history: &History) -> bool {
    call.operation == Sync && history.after_piece(Piece::Seal)
}

fn is_header_sync(call: Call, history: &History) -> bool {
    call.is(Sync, NewSegment) && history.after_piece(Piece::Header)
}

fn is_segment_name_sync(call: Call, history: &History) -> bool {
    call.is(SyncDir, LogDir) && history.after(Rename, NewSegment)
}

fn is_snapshot_name_sync(call: Call, history: &History) -> bool {
    call.is(SyncDir, SnapshotDir) && history.after(Rename, SnapshotFile)
}

/// All rules.
pub static MUTATIONS: &[Mutation] = &[
    Mutation::leave_out("creation syncs the store's directory", |call, history, _| creates_root(call, history)),
    Mutation::leave_out("creation syncs the directories above", |call, _, _| call.is(SyncDir, Above)),
    Mutation::put_off(
        "the store's directory is durable before there is a manifest",
        |call, history, _| creates_root(call, history),
        |_, history| history.after(Rename, Manifest),
    ),
    Mutation::leave_out("the manifest's bytes are synced", |call, _, _| call.is(Sync, Manifest)),
    Mutation::leave_out("the manifest's name is synced", |call, history, _| {
        call.is(SyncDir, Root) && history.after(Rename, Manifest)
    }),
    Mutation::put_off(
        "the manifest has its name only once it is durable",
        |call, _, _| call.is(Sync, Manifest),
        |_, history| history.after(Rename, Manifest),
    ),
    Mutation::leave_out("a segment's header is synced", |call, history, _| is_header_sync(call, history)),
    Mutation::leave_out("a segment's name is synced", |call, history, _| is_segment_name_sync(call, history)),
    Mutation::put_off(
        "a segment has its name only once its header is durable",
        |call, history, _| is_header_sync(call, history),
        |_, history| history.after(Rename, NewSegment),
    ),
    Mutation::put_off(
        "the manifest names a segment only once its name is durable",
        |call, history, _| is_segment_name_sync(call, history),
        |_, history| is_named(NewSegment, history),
    ),
    Mutation::put_off(
        "the manifest names a segment before anything in it is acknowledged",
        |call, history, deferring| names(NewSegment, call, history, deferring),
        |_, history| history.after(Sync, NewSegment),
    ),
    Mutation::leave_out("a frame is synced", |call, history, _| is_frame_sync(call, history)),
    Mutation::put_off(
        "an epoch is published only once its frame is durable",
        |call, history, _| is_frame_sync(call, history),
        |_, _| true,
    ),
    Mutation::leave_out("a seal is synced", |call, history, _| is_seal_sync(call, history)),
    Mutation::put_off(
        "a segment is cut only once its seal is durable",
        |call, history, _| is_seal_sync(call, history),
        |_, history| history.after(Truncate, NewSegment) || history.after(Truncate, OldSegment),
    ),
    Mutation::leave_out("recovery writes the last frame again", |call, _, _| call.piece == Some(Piece::Again)),
    Mutation::leave_out("recovery syncs the last frame", |call, history, _| {
        call.is(Sync, OldSegment) && history.after_piece(Piece::Again)
    }),
    Mutation::put_off(
        "what recovery found is durable before it is shown",
        |call, history, _| call.is(Sync, OldSegment) && history.after_piece(Piece::Again),
        |_, _| true,
    ),
    Mutation::leave_out("recovery syncs the store's directory", |call, history, _| {
        call.is(SyncDir, Root) && (history.is_empty() || history.after(SyncDir, Root))
    }),
    Mutation::leave_out("a snapshot is synced", |call, _, _| call.is(Sync, SnapshotFile)),
    Mutation::leave_out("a snapshot's name is synced", |call, history, _| is_snapshot_name_sync(call, history)),
    Mutation::put_off(
        "the manifest names a snapshot only once it is durable",
        |call, _, _| call.is(Sync, SnapshotFile),
        |_, history| is_named(SnapshotFile, history),
    ),
    Mutation::put_off(
        "the manifest names a snapshot only once its name is durable",
        |call, history, _| is_snapshot_name_sync(call, history),
        |_, history| is_named(SnapshotFile, history),
    ),
    Mutation::put_off(
        "the manifest names a snapshot only once every epoch that it has seen is durable",
        |call, history, _| is_frame_sync(call, history) && history.snapshot_begun(),
        |_, history| is_named(SnapshotFile, history),
    ),
    Mutation::put_off(
        "what the manifest named is removed only once it does not name it any more",
        |call, history, deferring| names(SnapshotFile, call, history, deferring),
        |call, _| call.operation != Remove && !call.is(SyncDir, Root),
    ),
];
