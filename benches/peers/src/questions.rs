//! The questions, one file each.

mod acknowledged;
mod between;
mod counting;
mod growth;
mod latency;
mod likes;
pub(crate) mod memory;
mod open;
mod pipelined;
mod written;

use crate::peer::{Home, Peer};
use crate::peers;
use crate::report::Section;

pub(crate) struct Question {
    pub(crate) name: &'static str,
    pub(crate) ask: fn() -> Section,
}

/// In the order of the report.
pub(crate) static ALL: [Question; 10] = [
    Question { name: "counting", ask: counting::ask },
    Question { name: "between", ask: between::ask },
    Question { name: "acknowledged", ask: acknowledged::ask },
    Question { name: "pipelined", ask: pipelined::ask },
    Question { name: "likes", ask: likes::ask },
    Question { name: "memory", ask: memory::ask },
    Question { name: "written", ask: written::ask },
    Question { name: "open", ask: open::ask },
    Question { name: "latency", ask: latency::ask },
    Question { name: "growth", ask: growth::ask },
];

/// Increments of a call, for peers that are faster so.
const BATCH: usize = 100;

/// A peer used in one way.
struct Entry {
    peer: &'static dyn Peer,
    batch: usize,
    name: String,
}

impl Entry {
    fn new(peer: &'static dyn Peer, batch: usize) -> Self {
        let name = if batch == 1 { peer.name().to_owned() } else { format!("{}, {batch} a call", peer.name()) };
        Self { peer, batch, name }
    }
}

/// All peers, those that have calls for many changes in both ways.
fn entries() -> Vec<Entry> {
    let ways = |peer: &'static dyn Peer| {
        let batches = if peer.batches() { &[1, BATCH][..] } else { &[1] };
        batches.iter().map(move |batch| Entry::new(peer, *batch))
    };
    peers::present().into_iter().flat_map(ways).collect()
}

/// Those that keep what they count on a disk.
fn durable() -> Vec<&'static dyn Peer> {
    peers::present().into_iter().filter(|peer| peer.home() != Home::Memory).collect()
}

/// plaudit among others.
fn with_plaudit(others: Vec<&'static dyn Peer>) -> Vec<&'static dyn Peer> {
    let plaudit: &'static dyn Peer = &peers::PLAUDIT;
    [plaudit].into_iter().chain(others).collect()
}
