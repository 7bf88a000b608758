//! What a call on the disk is for: told by its path, its bytes, and the calls before it.

use std::path::Path;

use plaudit::storage::sim::Operation;

use super::support::ROOT;

/// A call that can change the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    pub operation: Operation,
    pub place: Place,
    /// What is written, if it is a write.
    pub piece: Option<Piece>,
}

impl Call {
    pub fn new(operation: Operation, path: &Path) -> Self {
        Self { operation, place: Place::of(path), piece: None }
    }

    pub fn is(self, operation: Operation, place: Place) -> bool {
        (self.operation, self.place) == (operation, place)
    }
}

/// What a path stands for. A file keeps the place that it was created or opened under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A directory above the store's.
    Above,
    Root,
    LogDir,
    SnapshotDir,
    Manifest,
    /// A segment that this process created.
    NewSegment,
    /// A segment that was there.
    OldSegment,
    Snapshot,
    Lock,
}

impl Place {
    pub fn of(path: &Path) -> Self {
        let Ok(inside) = path.strip_prefix(ROOT) else { return Self::Above };
        match inside.to_str().expect("names are text") {
            "" => Self::Root,
            "log" => Self::LogDir,
            "snapshot" => Self::SnapshotDir,
            "LOCK" => Self::Lock,
            name if name.starts_with("MANIFEST") => Self::Manifest,
            name if name.ends_with(".log.tmp") => Self::NewSegment,
            name if name.starts_with("log/") => Self::OldSegment,
            _ => Self::Snapshot,
        }
    }
}

/// What is written to a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// The segment's header.
    Header,
    /// An epoch.
    Frame,
    /// The seal of a close.
    Seal,
    /// Zeros over a seal that failed.
    Retraction,
    /// What recovery found at the end, once more.
    Again,
}

impl Piece {
    /// A frame without a body is a seal.
    const SEAL_BYTES: usize = 48;

    pub fn of(place: Place, bytes: &[u8], offset: u64, first: bool) -> Option<Self> {
        match (place, offset) {
            (Place::NewSegment, 0) => Some(Self::Header),
            (Place::OldSegment, _) if first => Some(Self::Again),
            (Place::NewSegment | Place::OldSegment, _) if bytes == [0; Self::SEAL_BYTES] => Some(Self::Retraction),
            (Place::NewSegment | Place::OldSegment, _) if bytes.len() == Self::SEAL_BYTES => Some(Self::Seal),
            (Place::NewSegment | Place::OldSegment, _) => Some(Self::Frame),
            _ => None,
        }
    }
}

/// The calls before, as far as they tell what the next one is for.
#[derive(Debug, Default)]
pub struct History {
    last: Option<Call>,
    /// What was renamed last, and what before it.
    renamed: [Option<Place>; 2],
    /// Whether a snapshot was begun that the manifest does not name.
    snapshot_begun: bool,
}

impl History {
    pub fn note(&mut self, call: Call) {
        if call.is(Operation::Create, Place::Snapshot) {
            self.snapshot_begun = true;
        }
        if call.operation == Operation::Rename {
            self.renamed = [Some(call.place), self.renamed[0]];
            self.snapshot_begun &= !self.snapshot_named();
        }
        self.last = Some(call);
    }

    pub fn is_empty(&self) -> bool {
        self.last.is_none()
    }

    /// Whether the call before was this.
    pub fn after(&self, operation: Operation, place: Place) -> bool {
        self.last.is_some_and(|last| last.is(operation, place))
    }

    /// Whether the call before was the write of such a piece.
    pub fn after_piece(&self, piece: Piece) -> bool {
        self.last.is_some_and(|last| last.piece == Some(piece))
    }

    /// Whether this was what was renamed last.
    pub fn renamed_last(&self, place: Place) -> bool {
        self.renamed[0] == Some(place)
    }

    /// Whether the manifest was renamed last, and before it what it names.
    pub fn named(&self, place: Place) -> bool {
        self.renamed == [Some(Place::Manifest), Some(place)]
    }

    /// Whether the manifest names the newest snapshot.
    fn snapshot_named(&self) -> bool {
        self.named(Place::Snapshot)
    }

    /// Whether a snapshot was begun that the manifest does not name.
    pub fn snapshot_begun(&self) -> bool {
        self.snapshot_begun
    }
}
