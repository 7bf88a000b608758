//! Every sync, directory sync and order of calls that durability rests on, each with a name to switch it off by; and
//! the calls that it does not rest on.

use plaudit::storage::sim::Operation::{Allocate, Remove, Rename, Sync, SyncDir, Truncate};

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

/// A rule that is not kept.
#[derive(Debug)]
pub struct Mutation {
    /// The rule.
    pub name: &'static str,
    breach: Breach,
}

/// Whether the rule is about a call. The last argument tells whether one is put off now.
type Strikes = fn(Call, &History, bool) -> bool;

/// Whether something is done just before a call.
type Before = fn(Call, &History) -> bool;

/// How a rule is broken.
#[derive(Debug)]
enum Breach {
    /// Calls are not made.
    LeaveOut(Strikes),
    /// Calls are made too late.
    PutOff(Strikes, Before),
    /// The segment before the newest one gives back its room too early.
    CutEarly(Before),
}

impl Mutation {
    const fn leave_out(name: &'static str, strikes: Strikes) -> Self {
        Self { name, breach: Breach::LeaveOut(strikes) }
    }

    const fn put_off(name: &'static str, strikes: Strikes, until: Before) -> Self {
        Self { name, breach: Breach::PutOff(strikes, until) }
    }

    const fn cut_early(name: &'static str, before: Before) -> Self {
        Self { name, breach: Breach::CutEarly(before) }
    }

    pub fn fate(&self, call: Call, history: &History, deferring: bool) -> Fate {
        match self.breach {
            Breach::LeaveOut(strikes) if strikes(call, history, deferring) => Fate::LeftOut,
            Breach::PutOff(strikes, _) if strikes(call, history, deferring) => Fate::PutOff,
            _ => Fate::Done,
        }
    }

    /// Whether calls that were put off are made before this one.
    pub fn is_over(&self, call: Call, history: &History) -> bool {
        matches!(self.breach, Breach::PutOff(_, until) if until(call, history))
    }

    /// Whether the segment before the newest one is cut before this call.
    pub fn cuts(&self, call: Call, history: &History) -> bool {
        matches!(self.breach, Breach::CutEarly(before) if before(call, history))
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

fn is_retraction_sync(call: Call, history: &History) -> bool {
    call.operation == Sync && history.after_piece(Piece::Retraction)
}

fn is_segment_name_sync(call: Call, history: &History) -> bool {
    call.is(SyncDir, LogDir) && history.after(Rename, NewSegment)
}

fn is_snapshot_name_sync(call: Call, history: &History) -> bool {
    call.is(SyncDir, SnapshotDir) && history.after(Rename, SnapshotFile)
}

/// All rules. sled's own files are not among them: sled knows no simulated disk. That each of them is synced is tested
/// where they are written.
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
    Mutation::leave_out("a segment has its full length from the start", |call, _, _| call.is(Allocate, NewSegment)),
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
    Mutation::put_off(
        "the manifest says that the log was closed only once its seal is durable",
        |call, history, deferring| is_seal_sync(call, history) || deferring && call.operation == Truncate,
        |_, history| history.after(SyncDir, Root) && history.renamed_last(Manifest),
    ),
    Mutation::leave_out("a seal that failed is taken back before the log goes on in another segment", |call, _, _| {
        call.piece == Some(Piece::Retraction)
    }),
    Mutation::leave_out("that a seal is taken back is synced", |call, history, _| is_retraction_sync(call, history)),
    Mutation::put_off(
        "the manifest names the next segment only once a seal that failed is taken back durably",
        |call, history, _| is_retraction_sync(call, history),
        |_, history| is_named(NewSegment, history),
    ),
    Mutation::cut_early("a segment is cut only once the manifest names the next one", |call, history| {
        call.is(Rename, Manifest) && history.renamed_last(NewSegment)
    }),
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

/// Calls that only give room back: nothing is wrong without them.
pub static NOT_NEEDED: &[Mutation] = &[
    Mutation::leave_out("segments are cut", |call, _, _| call.operation == Truncate),
    Mutation::leave_out("what nobody needs any more is removed", |call, _, _| call.operation == Remove),
];
