//! What goes wrong with a disk: calls that fail, and power that goes.

use std::io::ErrorKind;

use arbitrary::Arbitrary;
use plaudit::storage::sim::{Operation, Survival};

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum After {
    Nothing,
    Everything,
    Prefix,
    Random,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Call {
    Create,
    Open,
    Read,
    Write,
    Allocate,
    Truncate,
    Sync,
    Rename,
    Remove,
    SyncDir,
    List,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Kind {
    Other,
    StorageFull,
    Interrupted,
}

impl After {
    pub(super) fn survival(self) -> Survival {
        match self {
            Self::Nothing => Survival::Nothing,
            Self::Everything => Survival::Everything,
            Self::Prefix => Survival::Prefix,
            Self::Random => Survival::Random,
        }
    }
}

impl Call {
    pub(super) fn operation(self) -> Operation {
        match self {
            Self::Create => Operation::Create,
            Self::Open => Operation::Open,
            Self::Read => Operation::Read,
            Self::Write => Operation::Write,
            Self::Allocate => Operation::Allocate,
            Self::Truncate => Operation::Truncate,
            Self::Sync => Operation::Sync,
            Self::Rename => Operation::Rename,
            Self::Remove => Operation::Remove,
            Self::SyncDir => Operation::SyncDir,
            Self::List => Operation::List,
        }
    }
}

impl Kind {
    pub(super) fn kind(self) -> ErrorKind {
        match self {
            Self::Other => ErrorKind::Other,
            Self::StorageFull => ErrorKind::StorageFull,
            Self::Interrupted => ErrorKind::Interrupted,
        }
    }
}
