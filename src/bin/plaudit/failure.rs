//! Everything that can end the command early, with its exit status.

use std::error::Error as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::replay::events::Refusal;

/// Exit statuses, as the help states them. 2 is clap's own.
const FAILED: u8 = 1;
const CORRUPT: u8 = 3;
const NO: u8 = 4;

/// Why the command did not do all that was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Store(#[from] plaudit::Error),

    #[error("there is no store at {}", path.display())]
    NoStore { path: PathBuf },

    #[error("{} is not empty, and the demo starts with an empty store", path.display())]
    DemoStoreNotEmpty { path: PathBuf },

    #[error("cannot {action} {name}")]
    File { action: &'static str, name: String, source: io::Error },

    #[error(transparent)]
    Events(#[from] Refusal),

    #[error("{file}, lines {first_line} to {last_line}: cannot apply the batch")]
    BatchRefused { file: String, first_line: u64, last_line: u64, source: plaudit::Error },

    #[error("nothing is counted in namespace {namespace:?}: names that start with {prefix} are the command's own")]
    OwnNamespace { namespace: String, prefix: &'static str },

    #[error("--viewers and --horizon are of likes, and the file has counts")]
    OnlyForLikes,

    /// The source does not begin with what its position stands for.
    #[error(
        "{file} does not begin with the {expected} that were counted as source {source_name:?}, found {found}: it is \
         another file, or was changed; --source NAME counts it from its start, under a name of its own"
    )]
    OtherEvents { file: String, source_name: String, expected: String, found: String },

    #[error("the position of source {source_name:?} is {position}, and a number of events is expected")]
    BadPosition { source_name: String, position: i64 },

    #[error("a thread of the command panicked")]
    Panicked,

    #[error("cannot write to standard output")]
    Output(#[from] io::Error),

    #[error("the store is not sound: {problems} found")]
    Unsound { problems: String },

    #[error("the demo's counting process {0}")]
    DemoWorker(String),

    /// The answer was printed, and there is nothing to add.
    #[error("no")]
    AnsweredNo,

    /// The demo printed what it found, in its last line; there is nothing to add.
    #[error("the demo found likes lost or counted twice")]
    DemoFailed,
}

impl Failure {
    /// A failed operation on the file or directory `name`.
    pub(crate) fn file(action: &'static str, name: impl Into<String>, source: io::Error) -> Self {
        Self::File { action, name: name.into(), source }
    }

    /// Writes the failure and its causes to standard error, on one line. A reader that closed our output
    /// has what it wanted, so that is not reported.
    pub(crate) fn report(&self) {
        if self.is_closed_pipe() || matches!(self, Self::AnsweredNo) {
            return;
        }
        let mut line = format!("plaudit: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            line.push_str(&format!(": {error}"));
            cause = error.source();
        }
        // With standard error gone too there is nowhere left to complain.
        let _ = writeln!(io::stderr(), "{line}");
    }

    /// The status that the process ends with.
    pub(crate) fn status(&self) -> ExitCode {
        match self {
            Self::Store(error) | Self::BatchRefused { source: error, .. } if error.is_corrupt() => CORRUPT.into(),
            Self::Unsound { .. } => CORRUPT.into(),
            Self::AnsweredNo => NO.into(),
            _ if self.is_closed_pipe() => ExitCode::SUCCESS,
            _ => FAILED.into(),
        }
    }

    fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}
