//! How long can a call take, while what is on disk is rewritten?

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::{durable, with_plaudit};
use crate::load::Skew;
use crate::measure::{Load, Opened};
use crate::peer::{Peer, Sync};
use crate::plot::Plot;
use crate::report::{Section, Table};
use crate::scale;

const KEYS: u64 = 1_000_000;
const TIME: Duration = Duration::from_secs(10);

/// From the end of one compaction to the next.
const PAUSE: Duration = Duration::from_millis(10);

/// 20,000 a second, which every peer can do.
const PACE: Duration = Duration::from_micros(50);
const PERCENTILES: [f64; 5] = [50.0, 90.0, 99.0, 99.9, 99.99];

/// Whatever takes longer is recorded as this.
const LONGEST: Duration = Duration::from_secs(60);

pub(crate) fn ask() -> Section {
    let keys = scale::count(KEYS, 1_000);
    let load = Load::new(Skew::Zipf, keys);
    let head = ["peer", "meanwhile", "p50", "p90", "p99", "p99.9", "p99.99", "longest", "p99.9 of the call itself"];
    let mut table = Table::new("Latency of \"add 1\"", &head);
    let mut lines = Vec::new();
    for peer in with_plaudit(durable()) {
        let mut opened = Opened::filled(peer, Sync::Relaxed, keys);
        let quiet = add_while(&mut opened, &load, false);
        row(&mut table, peer, "nothing", &quiet);
        let busy = add_while(&mut opened, &load, true);
        row(&mut table, peer, if busy.has_compacted { "compactions" } else { "nothing to ask for" }, &busy);
        opened.check();
        // A percentile as "one of so many".
        let point = |percent: f64| (100.0 / (100.0 - percent), micros(&busy.due, percent));
        lines.push((peer.name().to_owned(), PERCENTILES.map(point).into()));
    }
    Section {
        title: "Latency while compacting",
        method: format!(
            "One thread adds 1 to one of {keys} counters (Zipf 0.99) every {PACE:?}, one in each call, for {TIME:?}, \
             without and with compactions, {PAUSE:?} after each other (`Store::compact`, `compact_range`, `major_compact`, \
             `BGREWRITEAOF`, `wal_checkpoint`; sled, LMDB and redb have no such thing that may run meanwhile). No call \
             waits for the disk. In microseconds from when a call was due to its end, so that what waits behind a slow \
             call counts too, and the pauses that the system makes. The last column is from when the call began."
        ),
        tables: vec![table],
        plots: vec![Plot::Lines {
            title: "Latency while compacting".to_owned(),
            x: "one call of so many is slower".to_owned(),
            y: "microseconds".to_owned(),
            lines,
        }],
    }
}

struct Latencies {
    calls: Histogram<u64>,
    due: Histogram<u64>,
    has_compacted: bool,
}

/// Adds for the time, and for as long as a compaction takes.
fn add_while(opened: &mut Opened, load: &Load, compacts: bool) -> Latencies {
    let ended = AtomicBool::new(false);
    let histogram = || Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3).expect("the bounds are sound");
    let mut latencies = Latencies { calls: histogram(), due: histogram(), has_compacted: false };
    let counting = &*opened.counting;
    std::thread::scope(|scope| {
        let compactor = scope.spawn(|| {
            let started = Instant::now();
            let has_compacted = compacts && counting.compact();
            while has_compacted && started.elapsed() < scale::time(TIME) {
                std::thread::sleep(PAUSE);
                counting.compact();
            }
            std::thread::sleep(scale::time(TIME).saturating_sub(started.elapsed()));
            ended.store(true, Ordering::Relaxed);
            has_compacted
        });
        let mut hand = counting.hand(1);
        let mut due = Instant::now();
        for number in load.of_thread(0) {
            if ended.load(Ordering::Relaxed) || compactor.is_finished() {
                break;
            }
            due += PACE;
            while Instant::now() < due {
                std::hint::spin_loop();
            }
            let started = Instant::now();
            hand.add(&[number]);
            let ended = Instant::now();
            latencies.calls.saturating_record((ended - started).as_nanos() as u64);
            latencies.due.saturating_record((ended - due).as_nanos() as u64);
        }
        hand.finish();
        latencies.has_compacted = compactor.join().expect("the compacting thread panicked");
    });
    opened.has_counted(latencies.calls.len());
    latencies
}

fn micros(histogram: &Histogram<u64>, percent: f64) -> f64 {
    histogram.value_at_percentile(percent) as f64 / 1e3
}

fn row(table: &mut Table, peer: &dyn Peer, meanwhile: &str, latencies: &Latencies) {
    let shown = |micros: f64| format!("{micros:.1}");
    let mut cells = vec![peer.name().to_owned(), meanwhile.to_owned()];
    cells.extend(PERCENTILES.map(|percent| shown(micros(&latencies.due, percent))));
    cells.push(shown(latencies.due.max() as f64 / 1e3));
    cells.push(shown(micros(&latencies.calls, 99.9)));
    table.row(cells);
}
