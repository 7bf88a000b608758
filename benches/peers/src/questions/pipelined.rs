//! How many increments a second are acknowledged after a sync, when a thread has many under way?

use std::time::Duration;

use super::durable;
use crate::load::Skew;
use crate::measure::{Load, Opened, Work, compare, plaudit};
use crate::peer::Sync;
use crate::report::{Results, Section, compared_plot, compared_table};
use crate::{machine, scale};

const KEYS: u64 = 100_000;
const WINDOWS: [usize; 4] = [100, 1_000, 10_000, 100_000];
const THREADS: [usize; 2] = [1, 2];
const SLICE: Duration = Duration::from_secs(1);
const ROUNDS: usize = 5;

pub(crate) fn ask() -> Section {
    let keys = scale::count(KEYS, 1_000);
    let sync_time = machine::sync_time();
    let mut plaudit = plaudit(Sync::EachCall, keys);
    let load = Load::new(Skew::Zipf, keys);
    // For each number of threads, each peer's results by window.
    let mut results = THREADS.map(|_| Results::new());
    for peer in durable() {
        let mut opened = Opened::filled(peer, Sync::EachCall, keys);
        println!("  {}", peer.name());
        for (threads, results) in THREADS.iter().zip(&mut results) {
            let of_window = |window| {
                let work = Work::new(&load, *threads, window, scale::time(SLICE));
                compare(&mut plaudit, &mut opened, &work, window, scale::rounds(ROUNDS))
            };
            results.push((peer.name().to_owned(), WINDOWS.map(of_window).into()));
        }
        opened.check();
    }
    plaudit.check();
    let mut section = Section {
        title: "Acknowledged after a sync, pipelined",
        method: format!(
            "As above, but a thread has up to so many increments under way that are not acknowledged. plaudit's threads \
             keep a window of receipts and wait for the oldest; a peer gets so many in one call (a write batch, a \
             transaction, a pipeline) that is synced. One write of 4 KiB with its fdatasync took {sync_time:?} (median \
             of 200) when this began: a store that has one such call under way at a time can do {:.0} calls a second at \
             the most, each of the window's size.",
            1.0 / sync_time.as_secs_f64()
        ),
        tables: Vec::new(),
        plots: Vec::new(),
    };
    let columns = WINDOWS.map(|window| window.to_string());
    for (threads, results) in THREADS.iter().zip(&results) {
        let title = format!("Under way on {threads} thread{}", if *threads == 1 { "" } else { "s each" });
        section.tables.push(compared_table(&title, &columns, "plaudit", results));
        let title = format!("{}: {title}", section.title);
        let labels = (&title[..], "under way on a thread", "acknowledged per second");
        section.plots.push(compared_plot(labels, &WINDOWS, "plaudit", results));
    }
    section
}
