//! The simulated clock.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::sync::Mutex;

/// A clock that stands still until it is moved. Clones are the same clock.
///
/// It starts at 2026-01-01 00:00:00 UTC on the wall, and at zero for monotonic time.
#[derive(Debug, Clone)]
pub struct SimClock {
    times: Arc<Mutex<Times>>,
}

#[derive(Debug)]
struct Times {
    wall: Duration,
    monotonic: Duration,
}

impl SimClock {
    const START: Duration = Duration::from_millis(1_767_225_600_000);

    /// A clock at its starting time.
    #[must_use]
    pub fn new() -> Self {
        Self { times: Arc::new(Mutex::new(Times { wall: Self::START, monotonic: Duration::ZERO })) }
    }

    /// Lets time pass, on the wall and monotonically.
    pub fn advance(&self, by: Duration) {
        let mut times = self.times.lock();
        times.wall = times.wall.saturating_add(by);
        times.monotonic = times.monotonic.saturating_add(by);
    }

    /// Sets the wall clock, in milliseconds since 1970-01-01 UTC, forwards or back. Monotonic time is not touched.
    pub fn set_wall_ms(&self, wall_ms: u64) {
        self.times.lock().wall = Duration::from_millis(wall_ms);
    }
}

impl Default for SimClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SimClock {
    fn wall_ms(&self) -> u64 {
        u64::try_from(self.times.lock().wall.as_millis()).unwrap_or(u64::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.times.lock().monotonic
    }
}
