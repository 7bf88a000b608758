//! What every call passes before it may touch the simulated disk: the power, the operation count and the faults.

use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};

use super::Survival;
use super::random::Random;

/// A kind of call on the disk or one of its files, as a [`Fault`] selects it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `create` and `create_dir_all`.
    Create,
    /// `open`.
    Open,
    /// `read_at`.
    Read,
    /// `write_all_at`.
    Write,
    /// `allocate`.
    Allocate,
    /// `truncate`.
    Truncate,
    /// A file's `sync`.
    Sync,
    /// `rename`.
    Rename,
    /// `remove_file` and `remove_dir_all`.
    Remove,
    /// `sync_dir`.
    SyncDir,
    /// `list`.
    List,
    /// `try_lock`.
    Lock,
}

impl Operation {
    /// Whether it can change what a power cut leaves behind, and so counts among
    /// [`SimDisk::operations`](super::SimDisk::operations).
    #[must_use]
    pub fn is_mutating(self) -> bool {
        !matches!(self, Self::Open | Self::Read | Self::List | Self::Lock)
    }
}

/// Calls that are to fail.
///
/// A call that fails changes nothing, with two exceptions: a write leaves the first half of its bytes, and a
/// file's sync forgets what it was to make durable, as Linux does. The unsynced writes stay readable but count as
/// written from then on, so a later sync that answers `Ok` does not make them durable. Only the lengths that they gave
/// the file still become so.
///
/// A call that fails although it was [`done`](Self::done) changes all that a successful one does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The kind of call.
    pub operation: Operation,
    /// Only calls on paths that contain this text; `None` for every path. A file goes by the path it was opened
    /// under, a rename by both of its paths.
    pub path_contains: Option<String>,
    /// How many such calls succeed first.
    pub skip: u64,
    /// How many then fail; `None` for all of them.
    pub times: Option<u64>,
    /// The kind of the error that they answer.
    pub kind: io::ErrorKind,
    /// Whether they are carried out whole all the same, so that only their answer is wrong: an error that a disk
    /// reports late, or an answer that a network loses. A lock is not taken in any case.
    pub done: bool,
}

impl Fault {
    fn matches(&self, operation: Operation, paths: &[&Path]) -> bool {
        let named = |text: &String| paths.iter().any(|path| path.to_string_lossy().contains(text.as_str()));
        self.operation == operation && self.path_contains.as_ref().is_none_or(named)
    }

    /// Takes note of a call that matches, and tells whether it fails.
    fn strikes(&mut self) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        match &mut self.times {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}

/// Counts operations, and decides which calls fail.
#[derive(Default)]
pub(super) struct Gate {
    operations: u64,
    power_is_off: bool,
    cut: Option<ScheduledCut>,
    faults: Vec<Fault>,
    /// Calls of every kind so far.
    calls: u64,
    /// Numbers of calls that are to fail.
    failing: Vec<FailingCalls>,
}

struct FailingCalls {
    numbers: (Bound<u64>, Bound<u64>),
    kind: io::ErrorKind,
    done: bool,
}

struct ScheduledCut {
    at: u64,
    survival: Survival,
    seed: u64,
}

impl Gate {
    pub(super) fn operations(&self) -> u64 {
        self.operations
    }

    pub(super) fn power_is_off(&self) -> bool {
        self.power_is_off
    }

    pub(super) fn schedule(&mut self, at: u64, survival: Survival, seed: u64) {
        self.cut = Some(ScheduledCut { at, survival, seed });
    }

    pub(super) fn add_fault(&mut self, fault: Fault) {
        self.faults.push(fault);
    }

    pub(super) fn clear_faults(&mut self) {
        self.faults.clear();
        self.failing.clear();
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    pub(super) fn fail_calls(&mut self, numbers: (Bound<u64>, Bound<u64>), kind: io::ErrorKind, done: bool) {
        self.failing.push(FailingCalls { numbers, kind, done });
    }

    /// Decides on one call.
    pub(super) fn admit(&mut self, operation: Operation, paths: &[&Path]) -> Grant {
        if self.power_is_off {
            return Grant::refused(power_off());
        }
        if operation.is_mutating() {
            if let Some(cut) = self.cut.take_if(|cut| self.operations >= cut.at) {
                self.power_is_off = true;
                return Grant { share: cut.share(), faulted: false, error: Some(power_off()) };
            }
            self.operations += 1;
        }
        let number = self.calls;
        self.calls += 1;
        let by_number = self.failing.iter().find(|failing| failing.numbers.contains(&number));
        let by_number = by_number.map(|failing| (failing.kind, failing.done));
        let mut matching = self.faults.iter_mut().filter(|fault| fault.matches(operation, paths));
        let by_name = matching.find_map(|fault| fault.strikes().then_some((fault.kind, fault.done)));
        if let Some((kind, done)) = by_number.or(by_name) {
            let error = io::Error::new(kind, format!("injected fault in {operation:?}"));
            let share = match operation {
                _ if done => WHOLE,
                Operation::Write => WHOLE / 2,
                _ => 0,
            };
            return Grant { share, faulted: !done, error: Some(error) };
        }
        Grant { share: WHOLE, faulted: false, error: None }
    }

    /// Answers an error when the power is off. For calls that are no operation of their own.
    pub(super) fn check_power(&self) -> io::Result<()> {
        if self.power_is_off { Err(power_off()) } else { Ok(()) }
    }
}

impl ScheduledCut {
    /// How much of the operation that the cut interrupts is still carried out.
    fn share(&self) -> u64 {
        let mut random = Random::new(self.seed);
        match self.survival {
            Survival::Nothing => 0,
            Survival::Everything => WHOLE,
            Survival::Prefix | Survival::Random => match random.below(3) {
                0 => 0,
                1 => WHOLE,
                _ => random.below(WHOLE),
            },
        }
    }
}

fn power_off() -> io::Error {
    io::Error::other("the power is off")
}

/// The share of an operation that is carried out in full. Any other share is a fraction of it.
const WHOLE: u64 = 256;

/// The answer to one call: how much of it is carried out, and the error that it returns, if any.
#[must_use]
pub(super) struct Grant {
    share: u64,
    faulted: bool,
    error: Option<io::Error>,
}

impl Grant {
    fn refused(error: io::Error) -> Self {
        Self { share: 0, faulted: false, error: Some(error) }
    }

    /// Whether it fails by a fault, and is not done.
    pub(super) fn is_faulted(&self) -> bool {
        self.faulted
    }

    /// How many of `count` bytes or steps are carried out.
    pub(super) fn part_of(&self, count: usize) -> usize {
        // In 128 bits, where the product of a length and 256 always fits.
        let part = count as u128 * u128::from(self.share) / u128::from(WHOLE);
        usize::try_from(part).unwrap_or(count)
    }

    /// Does what cannot be done in part, if it is to be done at all.
    pub(super) fn carry_out<T>(self, action: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        match self.error {
            None => action(),
            Some(error) => {
                if self.share == WHOLE {
                    // Nobody learns how it went: the caller is told about the power or the fault.
                    let _ = action();
                }
                Err(error)
            }
        }
    }

    /// Takes as many of the steps as are to be taken.
    pub(super) fn take_steps(
        self,
        steps: io::Result<Vec<PathBuf>>,
        mut step: impl FnMut(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let part = self.part_of(steps.as_ref().map_or(0, Vec::len));
        self.finish(steps.and_then(|steps| steps.iter().take(part).try_for_each(|path| step(path))))
    }

    /// The answer to a call that was carried out as far as it was to be, with this result.
    pub(super) fn finish(self, done: io::Result<()>) -> io::Result<()> {
        self.error.map_or(done, Err)
    }
}
