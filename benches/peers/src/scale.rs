//! How large a run is: `PLAUDIT_PEERS_SCALE=0.001` shrinks every size and duration to a smoke run of seconds, which
//! proves that everything works and measures nothing.

use std::sync::LazyLock;
use std::time::Duration;

const SCALE_VARIABLE: &str = "PLAUDIT_PEERS_SCALE";

static SCALE: LazyLock<f64> = LazyLock::new(|| {
    let value = std::env::var(SCALE_VARIABLE).unwrap_or_else(|_| "1".to_owned());
    let scale = value.parse().ok().filter(|scale| *scale > 0.0);
    scale.unwrap_or_else(|| panic!("{SCALE_VARIABLE} is {value:?}, which is not a number above 0"))
});

/// Shorter slices are all noise, and some calls would not fit.
const LEAST_TIME: Duration = Duration::from_millis(5);

/// Fewer rounds show nothing of the spread.
const LEAST_ROUNDS: usize = 2;

pub(crate) fn is_full() -> bool {
    *SCALE >= 1.0
}

pub(crate) fn describe() -> String {
    format!("{SCALE_VARIABLE}={}", *SCALE)
}

/// A count, but not below `least`.
pub(crate) fn count(full: u64, least: u64) -> u64 {
    ((full as f64 * *SCALE) as u64).max(least)
}

pub(crate) fn time(full: Duration) -> Duration {
    full.mul_f64(SCALE.min(1.0)).max(LEAST_TIME)
}

pub(crate) fn rounds(full: usize) -> usize {
    if is_full() { full } else { LEAST_ROUNDS }
}
