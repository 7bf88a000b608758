//! Work on all cores.

use std::ops::Range;

use crate::sync::{scope, spawn_scoped};

/// Calls `work` with parts of `0..count`, each on a thread of its own: as many as there are cores, or one if it is
/// small. The first part is the calling thread's own, so that little work starts no thread; and so is a part for
/// which the system gives none.
pub(super) fn in_parts<T: Send>(count: u64, is_small: bool, work: impl Fn(Range<u64>) -> T + Sync) -> Vec<T> {
    // The system is asked for its cores by reading files, which takes longer than a little work.
    let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get() as u64);
    let per_thread = count.div_ceil(if is_small { 1 } else { cores() }).max(1);
    let work = |from: u64| work(from..count.min(from.saturating_add(per_thread)));
    let work = &work;
    scope(|scope| {
        let starts = (0..count).step_by(usize::try_from(per_thread).unwrap_or(usize::MAX)).skip(1);
        let start = |from| spawn_scoped(scope, move || work(from)).map_err(|_| from);
        let others: Vec<_> = starts.map(start).collect();
        let first = work(0);
        let done = others.into_iter().map(|other| match other {
            Ok(other) => other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(from) => work(from),
        });
        std::iter::once(first).chain(done).collect()
    })
}
