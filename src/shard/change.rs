//! What a change does to one counter, as a pure function of the value before it.

use crate::options::{AtBound, CounterOptions};

/// A change to one counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    Add(i64),
    Set(i64),
    CompareAndSet { expected: i64, new: i64 },
    Remove,
}

/// Why a change was not applied; nothing is different after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The store takes no more changes: it was closed or poisoned.
    Halted,
    /// The namespace was dropped.
    NoNamespace,
    /// The shard's table holds as many counters as a slot number can tell apart.
    TableFull,
    Overflow {
        value: i64,
        delta: i64,
    },
    OutOfBounds {
        value: i64,
    },
    /// The event is from before this time, and unlikes of then are forgotten.
    TooOld {
        time_ms: u64,
        oldest_ms: u64,
    },
}

/// The value after `change`, `None` for an absent counter, given the value before.
///
/// A compare-and-set that does not match leaves the value as it is.
#[inline]
pub(super) fn evaluate(before: Option<i64>, change: Change, bounds: &CounterOptions) -> Result<Option<i64>, Refusal> {
    let read = before.unwrap_or(0);
    let wanted = match change {
        Change::Add(delta) => match (read.checked_add(delta), bounds.at_bound) {
            (Some(sum), _) => sum,
            (None, AtBound::Clamp) => read.saturating_add(delta),
            (None, AtBound::Reject) => return Err(Refusal::Overflow { value: read, delta }),
        },
        Change::Set(value) => value,
        Change::CompareAndSet { expected, new } if read == expected => new,
        Change::CompareAndSet { .. } => return Ok(before),
        Change::Remove => return Ok(None),
    };
    match bounds.at_bound {
        AtBound::Clamp => Ok(Some(wanted.clamp(bounds.min, bounds.max))),
        AtBound::Reject if wanted < bounds.min || wanted > bounds.max => Err(Refusal::OutOfBounds { value: wanted }),
        AtBound::Reject => Ok(Some(wanted)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: CounterOptions = CounterOptions { min: i64::MIN, max: i64::MAX, at_bound: AtBound::Reject };
    const REJECT: CounterOptions = CounterOptions { min: 0, max: 10, at_bound: AtBound::Reject };
    const CLAMP: CounterOptions = CounterOptions { min: 0, max: 10, at_bound: AtBound::Clamp };

    #[test]
    fn an_absent_counter_reads_zero_and_any_change_but_removal_creates_it() {
        assert_eq!(evaluate(None, Change::Add(3), &FREE), Ok(Some(3)));
        assert_eq!(evaluate(None, Change::Add(0), &FREE), Ok(Some(0)));
        assert_eq!(evaluate(None, Change::Set(0), &FREE), Ok(Some(0)));
        assert_eq!(evaluate(None, Change::CompareAndSet { expected: 0, new: 4 }, &FREE), Ok(Some(4)));
        assert_eq!(evaluate(None, Change::CompareAndSet { expected: 1, new: 4 }, &FREE), Ok(None));
        assert_eq!(evaluate(None, Change::Remove, &FREE), Ok(None));
        assert_eq!(evaluate(Some(5), Change::Remove, &FREE), Ok(None));
    }

    #[test]
    fn sums_that_do_not_fit_are_refused_or_clamped() {
        let overflow = Err(Refusal::Overflow { value: i64::MAX, delta: 1 });
        assert_eq!(evaluate(Some(i64::MAX), Change::Add(1), &FREE), overflow);
        let underflow = Err(Refusal::Overflow { value: -2, delta: i64::MIN });
        assert_eq!(evaluate(Some(-2), Change::Add(i64::MIN), &FREE), underflow);
        assert_eq!(evaluate(Some(9), Change::Add(i64::MAX), &CLAMP), Ok(Some(10)));
        let wide = CounterOptions { at_bound: AtBound::Clamp, ..FREE };
        assert_eq!(evaluate(Some(i64::MIN), Change::Add(-1), &wide), Ok(Some(i64::MIN)));
    }

    #[test]
    fn bounds_hold_for_every_kind_of_change() {
        let refused = |value| Err(Refusal::OutOfBounds { value });
        assert_eq!(evaluate(Some(9), Change::Add(2), &REJECT), refused(11));
        assert_eq!(evaluate(Some(1), Change::Add(-2), &REJECT), refused(-1));
        assert_eq!(evaluate(Some(1), Change::Set(99), &REJECT), refused(99));
        assert_eq!(evaluate(Some(1), Change::CompareAndSet { expected: 1, new: 11 }, &REJECT), refused(11));
        assert_eq!(evaluate(Some(9), Change::Add(2), &CLAMP), Ok(Some(10)));
        assert_eq!(evaluate(Some(1), Change::Set(-4), &CLAMP), Ok(Some(0)));
    }
}
