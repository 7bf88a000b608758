//! How long does it take to open ten million counters?

use std::time::{Duration, Instant};

use super::{durable, with_plaudit};
use crate::machine::disk_bytes;
use crate::measure::{Opened, Spread};
use crate::peer::{Peer, Sync};
use crate::plot::Plot;
use crate::report::{Section, Table, rate, three_digits};
use crate::scale;

const COUNTERS: u64 = 10_000_000;
const OPENS: usize = 3;

pub(crate) fn ask() -> Section {
    let full = scale::count(COUNTERS, 1_000);
    let head =
        ["peer", "counters", "open", "counters opened", "open, and read every counter", "bytes on disk for each"];
    let mut table = Table::new("Opening", &head);
    let mut bars = Vec::new();
    for peer in with_plaudit(durable()) {
        let found = measure(peer, full.min(peer.max_keys()));
        let counters = found.counters as f64;
        table.row(vec![
            peer.name().to_owned(),
            found.counters.to_string(),
            format!("{} s", three_digits(found.open)),
            rate(counters / found.open),
            format!("{} s", three_digits(found.read)),
            three_digits(found.disk_bytes as f64 / counters),
        ]);
        bars.push((peer.name().to_owned(), found.read / counters * 1e9));
    }
    let title = "Opening, and reading every counter".to_owned();
    Section {
        title: "Opening",
        method: format!(
            "A store of {full} counters with keys of 16 bytes (fewer where a peer cannot hold them) that was compacted, \
             where the peer can be asked to, and closed. Its files are in the page cache, as after a restart of the \
             service. Median of {OPENS}. plaudit and Redis have everything in memory when they are open; the others \
             read when they are asked, so beside the time to open stands the time to open and to read every counter \
             once (the sum is checked)."
        ),
        tables: vec![table],
        plots: vec![Plot::Bars { title, unit: "ns for each counter".to_owned(), bars }],
    }
}

struct Found {
    counters: u64,
    /// In seconds.
    open: f64,
    /// The same with reading.
    read: f64,
    disk_bytes: u64,
}

fn measure(peer: &'static dyn Peer, counters: u64) -> Found {
    let mut opened = Opened::filled(peer, Sync::Relaxed, counters);
    opened.counting.compact();
    let mut times: Vec<(Duration, Duration)> = Vec::new();
    for _ in 0..OPENS {
        let open = opened.reopen();
        let started = Instant::now();
        opened.check();
        times.push((open, open + started.elapsed()));
    }
    let median = |time: fn(&(Duration, Duration)) -> Duration| {
        Spread::of(times.iter().map(|times| time(times).as_secs_f64())).median
    };
    let disk_bytes = disk_bytes(opened.dir.path());
    Found { counters, open: median(|times| times.0), read: median(|times| times.1), disk_bytes }
}
