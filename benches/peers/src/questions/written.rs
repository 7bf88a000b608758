//! How many bytes go to the disk for a million increments?

use std::time::Duration;

use super::{BATCH, durable, with_plaudit};
use crate::load::Skew;
use crate::machine::written_bytes;
use crate::measure::{Load, Opened, Work};
use crate::peer::{Peer, Sync};
use crate::plot::Plot;
use crate::report::{Section, Table, rate, three_digits};
use crate::{peers, scale};

const KEYS: u64 = 1_000_000;
const TIME: Duration = Duration::from_secs(30);
const MOST: u64 = 200_000_000;

/// 100 increments each 2 ms: 50,000 a second, which every peer can do.
const PACE: Duration = Duration::from_millis(2);

pub(crate) fn ask() -> Section {
    let keys = scale::count(KEYS, 1_000);
    let load = Load::new(Skew::Zipf, keys);
    let mut section = Section {
        title: "Bytes written",
        method: format!(
            "Bytes that a peer has the kernel write to the disk, for each million increments of {keys} counters that \
             exist (Zipf 0.99), on one thread, by calls of {BATCH} where the peer has such: for {TIME:?} or {MOST} \
             increments, then a sync, which is part of it. Before that the peer is compacted, where it can be asked \
             to. plaudit makes a snapshot after 64 MiB of log, of which there are some at full speed and none at \
             50,000 a second. The figure is `write_bytes` less `cancelled_write_bytes` in `/proc/PID/io`, of the \
             peer's own process where it has one: whole pages that were made dirty, through `write` or a memory map, \
             rewritten files, compactions and forked children included, which the growth of the directory would miss. \
             A page that is changed again before the kernel writes it counts once. Without waiting for the disk, as \
             for counting: plaudit syncs every few milliseconds all the same; with a window of 1 s a crash may take \
             the last second and a sync, as Redis' `appendfsync everysec`. The faster increments come the more of \
             them share a write, so both at full speed and at 50,000 a second. One peer \
             after the other."
        ),
        tables: Vec::new(),
        plots: Vec::new(),
    };
    for (title, pace) in [("at full speed", None), ("at 50,000 a second", Some(PACE))] {
        let caption = format!("Bytes for an increment, {title}");
        let mut table = Table::new(caption.clone(), &["peer", "MB per million", "at", "plaudit's, of the peer's"]);
        let mut bars = Vec::new();
        let mut of_plaudit = f64::NAN;
        let by_second: &'static dyn Peer = &peers::PLAUDIT_BY_SECOND;
        for peer in with_plaudit([by_second].into_iter().chain(durable()).collect()) {
            let (bytes, speed) = written(peer, &load, keys, pace);
            if peer.name() == peers::PLAUDIT.name() {
                of_plaudit = bytes;
            }
            let share = format!("{:.4}", of_plaudit / bytes);
            table.row(vec![peer.name().to_owned(), three_digits(bytes), rate(speed), share]);
            bars.push((peer.name().to_owned(), bytes));
        }
        section.tables.push(table);
        let title = format!("Written, {title}");
        section.plots.push(Plot::Bars { title, unit: "MB per million increments".to_owned(), bars });
    }
    section
}

/// Bytes for an increment, which are megabytes for a million, and increments per second.
fn written(peer: &'static dyn Peer, load: &Load, keys: u64, pace: Option<Duration>) -> (f64, f64) {
    let mut opened = Opened::filled(peer, Sync::Relaxed, keys);
    // What creating the counters left to be rewritten is not the increments'.
    opened.counting.compact();
    opened.counting.sync();
    let process = opened.counting.process();
    let batch = if peer.batches() || pace.is_some() { BATCH } else { 1 };
    let work = Work { pace, most: scale::count(MOST, 10_000), ..Work::new(load, 1, batch, scale::time(TIME)) };
    let before = written_bytes(process);
    let ran = opened.run(&work);
    opened.counting.sync();
    let bytes = written_bytes(process) - before;
    opened.check();
    (bytes as f64 / ran.increments as f64, ran.rate())
}
