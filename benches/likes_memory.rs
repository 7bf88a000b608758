//! How much memory does a like take?
//!
//! Ten million likes of a million items with 16-byte keys by a million viewers with ids of 64 bits, each item liked
//! once at least, the others by Zipf 0.99 or uniform; added one by one to a store with default options, then synced.
//! The items' keys and counts are part of it.
//!
//! Three figures: what the store says it takes (`Stats::memory_bytes`, whose viewers' side it gives apart), what it
//! has asked of the allocator, and how much more resident memory the process has than before. The allocator's figure
//! has everything in it, also what the committer keeps and sled; so it checks what the store says. Each is measured in
//! a process of its own.
//!
//! `PLAUDIT_BENCH_SCALE=0.01` shrinks everything for a quick check that it works.

mod support;

use std::process::Command;

use cap::Cap;
use plaudit::{Options, SnapshotHome, Store};

use support::likes::{like, pairs};
use support::{Skew, resident_bytes, scaled, verdict};

#[global_allocator]
static ALLOCATOR: Cap<std::alloc::System> = Cap::new(std::alloc::System, usize::MAX);

const ITEMS: u64 = 1_000_000;
const VIEWERS: u64 = 1_000_000;
const LIKES: u64 = 10_000_000;
const TARGET_ITEMS: f64 = 20.0;
const TARGET_BOTH: f64 = 40.0;

/// Names what a child process is to do.
const CHILD_VARIABLE: &str = "PLAUDIT_BENCH_FILL";

fn main() {
    let skews = [Skew::Zipf, Skew::Uniform];
    if let Ok(child) = std::env::var(CHILD_VARIABLE) {
        let skew = skews.into_iter().find(|skew| skew.name() == child);
        return fill_and_report(skew.expect("the parent names a skew"));
    }
    // So that criterion's options are known and checked, although there is nothing that it could measure.
    support::criterion().final_summary();
    if support::is_list() {
        return;
    }
    for skew in skews {
        let [items, viewers, allocated, resident] = bytes_per_like(skew);
        let name = skew.name();
        println!(
            "{name}: of the items {items:.2} bytes, of the viewers {viewers:.2}, allocated {allocated:.2}, \
             resident {resident:.2}"
        );
        let says = |target: f64| format!("<= {target} bytes");
        let what = format!("memory per like of the items' side, {name}");
        verdict(&what, &says(TARGET_ITEMS), &format!("{items:.2} bytes"), items <= TARGET_ITEMS);
        for (what, bytes) in [("allocated", allocated), ("resident", resident)] {
            let what = format!("{what} memory per like of both sides, {name}");
            verdict(&what, &says(TARGET_BOTH), &format!("{bytes:.2} bytes"), bytes <= TARGET_BOTH);
        }
    }
}

fn bytes_per_like(skew: Skew) -> [f64; 4] {
    let program = std::env::current_exe().expect("the bench knows where it is");
    let child = Command::new(program).args(std::env::args().skip(1)).env(CHILD_VARIABLE, skew.name()).output();
    let output = child.expect("the bench can start itself");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "failed: {text}{}", String::from_utf8_lossy(&output.stderr));
    let mut figures = text.split_whitespace().map(|figure| figure.parse().expect("the child prints numbers"));
    [(); 4].map(|()| figures.next().expect("the child prints four numbers"))
}

/// In the child: prints the bytes for each like, as the store says and as found.
fn fill_and_report(skew: Skew) {
    let pairs = pairs(skew, scaled(ITEMS).max(1_000), scaled(VIEWERS).max(1_000), scaled(LIKES).max(10_000));
    let dir = support::temp_dir();
    let (allocated, resident) = (ALLOCATOR.allocated(), resident_bytes().unwrap_or(0));
    let options = Options { snapshot_home: SnapshotHome::File, ..Options::default() };
    let store = Store::open_with(dir.path(), options).expect("a new store opens");
    let likes = store.likes("bench").expect("a namespace can be created");
    pairs.iter().for_each(|&pair| assert!(like(&likes, pair), "each pair comes once"));
    store.sync().expect("the store can sync");
    let stats = store.stats();
    let viewers = stats.viewers_memory_bytes as f64;
    let allocated = (ALLOCATOR.allocated() - allocated) as f64;
    let resident = resident_bytes().unwrap_or(0) as f64 - resident as f64;
    for figure in [stats.memory_bytes as f64 - viewers, viewers, allocated, resident] {
        println!("{}", figure / pairs.len() as f64);
    }
}
