//! How much memory does a counter take, and a like?

use std::process::Command;

use super::with_plaudit;
use crate::load::{Event, Random};
use crate::machine::{resident_bytes, temp_dir};
use crate::measure::Opened;
use crate::peer::{Home, Peer, Sync};
use crate::plot::Plot;
use crate::report::{Section, Table, three_digits};
use crate::{peers, scale};

const COUNTERS: u64 = 10_000_000;
const LIKES: u64 = 10_000_000;

/// Events of a call.
const BATCH: usize = 1_000;

/// The argument that makes this program fill one peer and print the bytes.
pub(crate) const CHILD: &str = "fill-and-report";

/// What is filled: its name, and the likes of an item.
const KINDS: [(&str, u64); 3] = [("counter", 0), ("like, 10 an item", 10), ("like, 1,000,000 an item", 1_000_000)];

pub(crate) fn ask() -> Section {
    let asked = askable(peers::present());
    let mut section = Section {
        title: "Memory",
        method: format!(
            "Growth of the resident memory, of a process of its own, by {} counters with keys of 16 bytes, or {} likes \
             by viewers with random ids of 64 bits, of whom hardly one likes two items, divided by their number; for \
             Redis that of its server. Only peers that hold everything in memory: for the others it is the size that \
             their cache was given. plaudit keeps its snapshots in sled by default; of a counter, what a store with \
             snapshots in plain files has less is what sled and the allocator keep after writing one.",
            scale::count(COUNTERS, 1_000),
            scale::count(LIKES, 1_000)
        ),
        tables: Vec::new(),
        plots: Vec::new(),
    };
    for (kind, _) in KINDS {
        let mut table = Table::new(format!("Bytes for a {kind}"), &["peer", "bytes", "plaudit's, of the peer's"]);
        let mut bars = Vec::new();
        let mut of_plaudit = f64::NAN;
        for peer in &asked {
            let bytes = in_child(*peer, kind);
            if peer.name() == peers::PLAUDIT.name() {
                of_plaudit = bytes;
            }
            table.row(vec![peer.name().to_owned(), three_digits(bytes), three_digits(of_plaudit / bytes)]);
            bars.push((peer.name().to_owned(), bytes));
        }
        section.tables.push(table);
        section.plots.push(Plot::Bars { title: format!("Memory of a {kind}"), unit: "bytes".to_owned(), bars });
    }
    section
}

/// plaudit in both ways, and those of the peers that hold everything in memory.
fn askable(mut peers: Vec<&'static dyn Peer>) -> Vec<&'static dyn Peer> {
    peers.retain(|peer| peer.home() != Home::Disk);
    peers.insert(0, &peers::PLAUDIT_IN_FILES);
    with_plaudit(peers)
}

/// In a process of its own nothing is used that another peer has freed.
fn in_child(peer: &dyn Peer, kind: &str) -> f64 {
    let program = std::env::current_exe().expect("the program knows where it is");
    let output = Command::new(program).args([CHILD, peer.name(), kind]).output().expect("the program can start itself");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{} failed: {text}{}", peer.name(), String::from_utf8_lossy(&output.stderr));
    text.trim().parse().expect("the child prints one number")
}

/// In the child: prints the bytes for each counter or like.
pub(crate) fn fill_and_report(peer: &str, kind: &str) {
    let named = askable(peers::all()).into_iter().find(|known| known.name() == peer);
    let peer = named.unwrap_or_else(|| panic!("there is no peer {peer}"));
    let (_, each) = KINDS.into_iter().find(|(name, _)| *name == kind).expect("the parent names a kind");
    println!("{}", if each == 0 { of_counter(peer) } else { of_like(peer, each) });
}

fn of_counter(peer: &'static dyn Peer) -> f64 {
    let count = scale::count(COUNTERS, 1_000);
    let mut opened = Opened::new(peer, Sync::Relaxed);
    let process = opened.counting.process();
    // The list of keys in their order comes and goes; so it is there once before.
    drop(crate::load::in_key_order(count));
    let before = resident_bytes(process);
    opened.fill(count);
    let after = resident_bytes(process);
    opened.check();
    after.saturating_sub(before) as f64 / count as f64
}

fn of_like(peer: &dyn Peer, each: u64) -> f64 {
    let likes = scale::count(LIKES, 1_000);
    let items = (likes / each).max(1);
    let dir = temp_dir();
    let Some(liking) = peer.liking(dir.path(), Sync::Relaxed) else { return f64::NAN };
    let before = resident_bytes(liking.process());
    let mut hand = liking.hand(BATCH);
    // Every item gets its likes by and by, as they come in life.
    let mut viewers = Random::new(7);
    let events = (0..likes).map(|like| Event { item: (like % items) as u32, viewer: viewers.next(), liked: true });
    let mut call = Vec::with_capacity(BATCH);
    for event in events {
        call.push(event);
        if call.len() == BATCH {
            hand(&call);
            call.clear();
        }
    }
    hand(&call);
    drop(hand);
    liking.sync();
    let after = resident_bytes(liking.process());
    let found: u64 = (0..items).map(|item| liking.count(item as u32)).sum();
    assert_eq!(found, likes, "{} has a wrong number of likes", peer.name());
    after.saturating_sub(before) as f64 / likes as f64
}
