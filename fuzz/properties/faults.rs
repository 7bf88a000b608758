//! What goes wrong with a disk: calls that fail, and power that goes.

use std::io::ErrorKind;

use arbitrary::{Arbitrary, Result, Unstructured};
use plaudit::storage::sim::{Operation, Survival};

pub(super) fn survival(input: &mut Unstructured<'_>) -> Result<Survival> {
    one_of(input, &[Survival::Nothing, Survival::Everything, Survival::Prefix, Survival::Random])
}

/// The lock is not among them: a store that is open elsewhere is no fault.
pub(super) fn operation(input: &mut Unstructured<'_>) -> Result<Operation> {
    use Operation::{Allocate, Create, List, Open, Read, Remove, Rename, Sync, SyncDir, Truncate, Write};
    one_of(input, &[Create, Open, Read, Write, Allocate, Truncate, Sync, Rename, Remove, SyncDir, List])
}

pub(super) fn kind(input: &mut Unstructured<'_>) -> Result<ErrorKind> {
    one_of(input, &[ErrorKind::Other, ErrorKind::StorageFull, ErrorKind::Interrupted])
}

/// As a derived enumeration is chosen, so that the corpus means what it meant.
fn one_of<T: Copy>(input: &mut Unstructured<'_>, choices: &[T]) -> Result<T> {
    let share = u64::from(u32::arbitrary(input)?) * choices.len() as u64;
    Ok(choices[(share >> 32) as usize])
}
