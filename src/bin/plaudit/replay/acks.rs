//! The file that tells, while a replay runs, how many events are durable.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Appends a line with a position each time more is durable. Without a file it does nothing.
pub(crate) struct Acks {
    file: Option<(PathBuf, File)>,
    /// The epoch of each applied batch that is not known to be durable, and the position after it.
    pending: VecDeque<(u64, u64)>,
}

impl Acks {
    pub(crate) fn open(path: Option<&Path>) -> Result<Self, Failure> {
        let file = match path {
            None => None,
            Some(path) => {
                let file = File::options().append(true).create(true).open(path);
                let file = file.map_err(|error| Failure::file("open", path.display().to_string(), error))?;
                Some((path.to_owned(), file))
            }
        };
        Ok(Self { file, pending: VecDeque::new() })
    }

    /// Notes a batch that was applied in `epoch` and took the position to `position`.
    pub(crate) fn applied(&mut self, epoch: u64, position: u64) {
        if self.file.is_some() {
            self.pending.push_back((epoch, position));
        }
    }

    /// Writes the newest position whose epoch is durable. One unbuffered write for each line: whoever
    /// reads the file sees what is durable even when this process is killed at once.
    pub(crate) fn durable(&mut self, durable_epoch: u64) -> Result<(), Failure> {
        let mut newest = None;
        while let Some((epoch, position)) = self.pending.front() {
            if *epoch > durable_epoch {
                break;
            }
            newest = Some(*position);
            self.pending.pop_front();
        }
        if let (Some(position), Some((path, file))) = (newest, &mut self.file) {
            let written = file.write_all(format!("{position}\n").as_bytes());
            written.map_err(|error| Failure::file("write", path.display().to_string(), error))?;
        }
        Ok(())
    }
}
