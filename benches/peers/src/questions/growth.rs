//! How does the cost of an increment grow with the number of counters?

use std::time::Duration;

use super::{BATCH, Entry};
use crate::load::Skew;
use crate::measure::{Compared, Load, Opened, Spread, Work, compare, plaudit};
use crate::peer::Sync;
use crate::plot::Plot;
use crate::report::{Section, Table, against, own, peer_median, rate};
use crate::{peers, scale};

const SIZES: [u64; 5] = [10_000, 100_000, 1_000_000, 10_000_000, 30_000_000];
const SLICE: Duration = Duration::from_millis(250);
const ROUNDS: usize = 5;

/// What is asked at every size.
const LOADS: [Skew; 2] = [Skew::Zipf, Skew::Uniform];

/// A cell, and its figure.
type Shown = (String, f64);

/// What to show of a peer's results, its number, and a size's.
type Show<'a> = &'a dyn Fn(&[Found], usize, usize) -> Option<Shown>;

/// One size of one peer.
struct Found {
    keys: u64,
    created: f64,
    /// In the order of `LOADS`; none for plaudit.
    compared: Vec<Compared>,
}

pub(crate) fn ask() -> Section {
    let of_plaudit = Entry::new(&peers::PLAUDIT, 1);
    let fastest = |peer: &'static dyn crate::peer::Peer| Entry::new(peer, if peer.batches() { BATCH } else { 1 });
    let entries: Vec<Entry> = [of_plaudit].into_iter().chain(peers::present().into_iter().map(fastest)).collect();
    let mut found: Vec<Vec<Found>> = entries.iter().map(|_| Vec::new()).collect();
    for size in SIZES {
        let keys = scale::count(size, 1_000);
        ask_at(keys, &entries, &mut found);
    }
    let mut section = Section {
        title: "Growth",
        method: format!(
            "As for counting, on one thread, with 10 thousand to 30 million counters; by calls of {BATCH} where the \
             peer has such. \"Created\" is the rate at which the counters were created, in the order of their keys, \
             by calls of 10,000 where the peer has such. A dash: the peer cannot hold so many."
        ),
        tables: Vec::new(),
        plots: Vec::new(),
    };
    let sizes: Vec<u64> = found[0].iter().map(|found| found.keys).collect();
    let created =
        |found: &[Found], _: usize, at: usize| found.get(at).map(|found| (rate(found.created), found.created));
    add(&mut section, "Created", &sizes, &entries, &found, &created);
    for (skew, number) in LOADS.iter().zip(0..) {
        let shown = |of_entry: &[Found], entry: usize, at: usize| {
            if entry == 0 {
                let all = || found[1..].iter().filter_map(|found| found.get(at)).map(|found| &found.compared[number]);
                let median = Spread::of(all().flat_map(|compared| compared.plaudit.iter().copied())).median;
                return Some((own(all()), median));
            }
            let compared = &of_entry.get(at)?.compared[number];
            Some((against(compared), peer_median(compared)))
        };
        add(&mut section, skew.name(), &sizes, &entries, &found, &shown);
    }
    section
}

/// All peers with so many counters, beside plaudit.
fn ask_at(keys: u64, entries: &[Entry], found: &mut [Vec<Found>]) {
    println!("  {keys} keys");
    let mut plaudit = plaudit(Sync::Relaxed, 0);
    let created = plaudit.fill(keys).rate();
    found[0].push(Found { keys, created, compared: Vec::new() });
    let loads = LOADS.map(|skew| Load::new(skew, keys));
    for (entry, found) in entries.iter().zip(found).skip(1).filter(|(entry, _)| entry.peer.max_keys() >= keys) {
        println!("    {}", entry.name);
        let mut opened = Opened::new(entry.peer, Sync::Relaxed);
        let created = opened.fill(keys).rate();
        let of_load = |load| {
            let work = Work::new(load, 1, 1, scale::time(SLICE));
            compare(&mut plaudit, &mut opened, &work, entry.batch, scale::rounds(ROUNDS))
        };
        let compared = loads.iter().map(of_load).collect();
        opened.check();
        found.push(Found { keys, created, compared });
    }
    plaudit.check();
}

/// A table and a plot.
fn add(section: &mut Section, title: &str, sizes: &[u64], entries: &[Entry], found: &[Vec<Found>], shown: Show<'_>) {
    let heads: Vec<String> = sizes.iter().map(|size| format!("{size} keys")).collect();
    let head: Vec<&str> = ["peer"].into_iter().chain(heads.iter().map(String::as_str)).collect();
    let mut table = Table::new(title, &head);
    let mut lines = Vec::new();
    for ((entry, found), number) in entries.iter().zip(found).zip(0..) {
        let cells: Vec<Option<Shown>> = (0..sizes.len()).map(|at| shown(found, number, at)).collect();
        let text = |cell: &Option<Shown>| cell.as_ref().map_or_else(|| "—".to_owned(), |cell| cell.0.clone());
        table.row([entry.name.clone()].into_iter().chain(cells.iter().map(text)).collect());
        let point = |(size, cell): (&u64, &Option<Shown>)| Some((*size as f64, cell.as_ref()?.1));
        lines.push((entry.name.clone(), sizes.iter().zip(&cells).filter_map(point).collect()));
    }
    section.tables.push(table);
    let title = format!("Growth: {title}");
    section.plots.push(Plot::Lines { title, x: "counters".to_owned(), y: "per second".to_owned(), lines });
}
