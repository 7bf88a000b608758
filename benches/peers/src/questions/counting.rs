//! How fast is "add 1", when no call waits for the disk?

use std::time::Duration;

use super::{Entry, entries};
use crate::load::Skew;
use crate::measure::{Load, Opened, Work, compare, plaudit};
use crate::peer::Sync;
use crate::report::{Results, Section, compared_plot, compared_table};
use crate::{peers, scale};

const SIZES: [u64; 2] = [1_000_000, 10_000_000];
const THREADS: [usize; 4] = [1, 2, 4, 16];
const SLICE: Duration = Duration::from_millis(250);
const ROUNDS: usize = 5;

pub(crate) fn ask() -> Section {
    let mut section = Section {
        title: "Counting",
        method: format!(
            "\"Add 1\" to counters with keys of 16 bytes that all exist, no call waiting for the disk. plaudit has its \
             defaults, so that everything is on disk within 5 ms and a sync; each peer its fastest mode in which counts \
             reach the disk at some time (see the settings). plaudit and one peer at a time are open, and take turns: a \
             slice of {SLICE:?} each as a warm-up, then {ROUNDS} rounds of a slice each. After each slice, and not in \
             its time, all is synced, but for LMDB, whose pages would each have to be mapped anew. sled takes too much \
             memory for more than a million keys. The one hot key is counted by plaudit's handle for such, and by its \
             plain call beside. Cells: the peer's median rate; **how many times plaudit's rate in the same round is that**, the median (and the \
             range). The sum of all counters is checked at the end."
        ),
        tables: Vec::new(),
        plots: Vec::new(),
    };
    for size in SIZES {
        let keys = scale::count(size, 1_000);
        let mut plaudit = plaudit(Sync::Relaxed, keys);
        let loads = [Skew::Uniform, Skew::Zipf].map(|skew| (skew, Load::new(skew, keys)));
        let able = entries().into_iter().filter(|entry| entry.peer.max_keys() >= keys).collect();
        ask_of(&mut section, &mut plaudit, able, &loads, keys);
    }
    let mut hot = entries();
    hot.splice(0..0, [Entry::new(&peers::ATOMIC, 1), Entry::new(&peers::PLAUDIT, 1)]);
    let mut by_handle = Opened::filled(&peers::PLAUDIT_BY_HANDLE, Sync::Relaxed, 1);
    ask_of(&mut section, &mut by_handle, hot, &[(Skew::Hot, Load::new(Skew::Hot, 1))], 1);
    section
}

/// Every peer is filled once, and then does all the loads.
fn ask_of(section: &mut Section, plaudit: &mut Opened, entries: Vec<Entry>, loads: &[(Skew, Load)], keys: u64) {
    // For each load, each peer's results by number of threads.
    let mut results: Vec<Results> = loads.iter().map(|_| Vec::new()).collect();
    let mut last: Option<Opened> = None;
    for Entry { peer, batch, name } in entries {
        // One that is asked in two ways is filled once.
        let same = last.take().filter(|opened| opened.peer.name() == peer.name());
        let mut opened = same.unwrap_or_else(|| Opened::filled(peer, Sync::Relaxed, keys));
        for ((skew, load), results) in loads.iter().zip(&mut results) {
            println!("  {name}, {}, {keys} keys", skew.name());
            let of_threads = |threads| {
                let work = Work::new(load, threads, 1, scale::time(SLICE));
                compare(plaudit, &mut opened, &work, batch, scale::rounds(ROUNDS))
            };
            results.push((name.clone(), THREADS.map(of_threads).into()));
        }
        opened.check();
        last = Some(opened);
    }
    plaudit.check();
    let columns = THREADS.map(|threads| format!("{threads} thread{}", if threads == 1 { "" } else { "s" }));
    for ((skew, _), results) in loads.iter().zip(&results) {
        let title = match skew {
            Skew::Hot => skew.name().to_owned(),
            _ => format!("{}, {keys} keys", skew.name()),
        };
        section.tables.push(compared_table(&title, &columns, plaudit.peer.name(), results));
        let title = format!("Counting: {title}");
        let labels = (&title[..], "threads", "increments per second");
        section.plots.push(compared_plot(labels, &THREADS, plaudit.peer.name(), results));
    }
}
