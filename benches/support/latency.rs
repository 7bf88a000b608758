//! How long each call takes, one by one.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Whatever takes longer is recorded as this.
const LONGEST: Duration = Duration::from_secs(60);

/// Runs `call` again and again on a thread of its own for as long as `act` takes: at this pace, or as fast as it can.
pub(crate) fn time_while(pace: Option<Duration>, call: &mut (dyn FnMut() + Send), act: impl FnOnce()) -> Latencies {
    let ended = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| time_until(&ended, pace, call));
        let end = SetOnDrop(&ended);
        act();
        drop(end);
        caller.join().expect("the calling thread panicked")
    })
}

fn time_until(ended: &AtomicBool, pace: Option<Duration>, call: &mut (dyn FnMut() + Send)) -> Latencies {
    let (mut latencies, mut next) = (Latencies::new(), Instant::now());
    while !ended.load(Ordering::Relaxed) {
        if let Some(pace) = pace {
            next += pace;
            while Instant::now() < next {
                std::hint::spin_loop();
            }
        }
        let started = Instant::now();
        call();
        let ended = Instant::now();
        latencies.record(ended - started, ended - if pace.is_some() { next } else { started });
    }
    latencies
}

/// Ends the calling thread also when the act panics.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(crate) struct Latencies {
    /// How long the calls took.
    pub(crate) calls: Histogram<u64>,
    /// How long after the moment each call was due it was done: a pause that holds up the calls behind it counts for
    /// all of them, and so does one in which the machine runs something else.
    pub(crate) due: Histogram<u64>,
}

impl Latencies {
    fn new() -> Self {
        Self { calls: histogram(), due: histogram() }
    }

    fn record(&mut self, call: Duration, due: Duration) {
        self.calls.saturating_record(call.as_nanos() as u64);
        self.due.saturating_record(due.as_nanos() as u64);
    }
}

/// An empty histogram of nanoseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    // With its bounds given, because a histogram that is to grow does not do so for a saturating record.
    Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3).expect("the bounds are sound")
}

/// Times each of `count` calls.
pub(crate) fn time_each(count: u64, mut call: impl FnMut(u64)) -> Histogram<u64> {
    let mut times = histogram();
    for number in 0..count {
        let started = Instant::now();
        call(number);
        times.saturating_record(started.elapsed().as_nanos() as u64);
    }
    times
}

pub(crate) fn percentile(histogram: &Histogram<u64>, percent: f64) -> Duration {
    Duration::from_nanos(histogram.value_at_percentile(percent))
}

/// The percentiles that are printed.
pub(crate) fn summary(histogram: &Histogram<u64>) -> String {
    let [p50, p99, p999] = [50.0, 99.0, 99.9].map(|percent| percentile(histogram, percent));
    let max = Duration::from_nanos(histogram.max());
    format!("p50 {p50:?}, p99 {p99:?}, p99.9 {p999:?}, max {max:?}")
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, due } = self;
        write!(f, "{} calls; call {}; from due {}", calls.len(), summary(calls), summary(due))
    }
}
