//! One shared atomic: what one hot key can cost at the least when every thread changes the same place.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::peer::{Counting, Hand, Home, Peer, Sync};

pub(crate) struct Atomic;

impl Peer for Atomic {
    fn name(&self) -> &'static str {
        "bare atomic"
    }

    fn version(&self) -> String {
        "std".to_owned()
    }

    fn settings(&self, _: Sync) -> String {
        "one `AtomicU64`, `fetch_add` relaxed; no key, no lookup, no durability".to_owned()
    }

    fn home(&self) -> Home {
        Home::Memory
    }

    fn counting(&self, _: &Path, _: Sync) -> Box<dyn Counting> {
        Box::new(AtomicU64::new(0))
    }
}

impl Counting for AtomicU64 {
    fn hand(&self, _: usize) -> Box<dyn Hand + '_> {
        Box::new(move |numbers: &[u32]| {
            for _ in numbers {
                self.fetch_add(1, Ordering::Relaxed);
            }
        })
    }

    fn sync(&self) {}

    fn sum(&self, _: u64) -> u64 {
        self.load(Ordering::Relaxed)
    }
}
