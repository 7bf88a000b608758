//! How many increments a second are acknowledged after a sync, when every thread waits for each of its own?

use std::time::Duration;

use super::durable;
use crate::load::Skew;
use crate::measure::{Load, Opened, Work, compare};
use crate::peer::Sync;
use crate::report::{Results, Section, compared_plot, compared_table};
use crate::{machine, peers, scale};

const KEYS: u64 = 100_000;
const THREADS: [usize; 4] = [1, 8, 64, 512];
const SLICE: Duration = Duration::from_secs(1);
const ROUNDS: usize = 5;

pub(crate) fn ask() -> Section {
    let keys = scale::count(KEYS, 1_000);
    let sync_time = machine::sync_time();
    let mut plaudit = Opened::filled(&peers::PLAUDIT_IMMEDIATE, Sync::EachCall, keys);
    let load = Load::new(Skew::Zipf, keys);
    let mut results = Results::new();
    for peer in durable() {
        let mut opened = Opened::filled(peer, Sync::EachCall, keys);
        println!("  {}", peer.name());
        let of_threads = |threads| {
            let work = Work::new(&load, threads, 1, scale::time(SLICE));
            compare(&mut plaudit, &mut opened, &work, 1, scale::rounds(ROUNDS))
        };
        results.push((peer.name().to_owned(), THREADS.map(of_threads).into()));
        opened.check();
    }
    plaudit.check();
    let title = "Acknowledged after a sync";
    let labels = (title, "waiting threads", "acknowledged per second");
    let columns = THREADS.map(|threads| format!("{threads} waiting"));
    Section {
        title,
        method: format!(
            "Each thread adds 1 to one of {keys} counters (Zipf 0.99), and waits until that is on disk, also for a power \
             cut, before its next. plaudit has immediate durability; under the default one, group durability, a thread \
             would wait for the window of 5 ms too, which is meant for many receipts under way. In turns, {ROUNDS} \
             rounds of {SLICE:?}, as for counting. One write of 4 KiB with its fdatasync took {sync_time:?} (median of \
             200) when this began. sled's `flush` is what it offers; it syncs no metadata."
        ),
        tables: vec![compared_table("Acknowledged increments", &columns, "plaudit", &results)],
        plots: vec![compared_plot(labels, &THREADS, "plaudit", &results)],
    }
}
