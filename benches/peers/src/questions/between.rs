//! How fast is "add 1", when a thread does something else between two of them?

use std::hint::black_box;
use std::time::{Duration, Instant};

use super::Entry;
use crate::load::Skew;
use crate::measure::{Load, Opened, Work, compare, plaudit};
use crate::peer::{Home, Sync};
use crate::report::{Results, Section, compared_table, three_digits};
use crate::{peers, scale};

const KEYS: u64 = 1_000_000;
const THREADS: [usize; 2] = [1, 2];
const SLICE: Duration = Duration::from_millis(250);
const ROUNDS: usize = 9;

/// What a thread reads between two increments.
static REQUEST: [u8; 64] = [b'x'; 64];

pub(crate) fn ask() -> Section {
    let keys = scale::count(KEYS, 1_000);
    let mut section = Section {
        title: "Counting, with other work between",
        method: format!(
            "As for counting, beside what is in memory only; but after each call, which adds 1 to one of {keys} \
             counters, the thread computes a checksum of {} bytes (FNV-1a, of bytes in the cache: some 200 \
             instructions, {} ns here), as a service reads a request before the next one. It is in the rates. In a loop \
             of nothing but increments a core that looks some 200 instructions ahead waits for the memory of several \
             increments at once, if they are short; with other work between two of them it does not.",
            REQUEST.len(),
            three_digits(nanoseconds_of_work()),
        ),
        tables: Vec::new(),
        plots: Vec::new(),
    };
    let loads = [Skew::Uniform, Skew::Zipf].map(|skew| (skew, Load::new(skew, keys)));
    let mut results: Vec<Results> = loads.iter().map(|_| Vec::new()).collect();
    let mut plaudit = plaudit(Sync::Relaxed, keys);
    for peer in peers::present().into_iter().filter(|peer| peer.home() == Home::Memory) {
        let name = Entry::new(peer, 1).name;
        let mut opened = Opened::filled(peer, Sync::Relaxed, keys);
        for ((skew, load), results) in loads.iter().zip(&mut results) {
            println!("  {name}, {}", skew.name());
            let of_threads = |threads| {
                let work = Work { between: Some(work), ..Work::new(load, threads, 1, scale::time(SLICE)) };
                compare(&mut plaudit, &mut opened, &work, 1, scale::rounds(ROUNDS))
            };
            results.push((name.clone(), THREADS.map(of_threads).into()));
        }
        opened.check();
    }
    plaudit.check();
    let columns = THREADS.map(|threads| format!("{threads} thread{}", if threads == 1 { "" } else { "s" }));
    for ((skew, _), results) in loads.iter().zip(&results) {
        let title = format!("{}, {keys} keys", skew.name());
        section.tables.push(compared_table(&title, &columns, plaudit.peer.name(), results));
    }
    section
}

/// Fowler, Noll and Vo's hash of a request.
fn work() {
    let hash = black_box(&REQUEST)
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    black_box(hash);
}

fn nanoseconds_of_work() -> f64 {
    const TIMES: u32 = 1_000_000;
    let started = Instant::now();
    (0..TIMES).for_each(|_| work());
    started.elapsed().as_secs_f64() * 1e9 / f64::from(TIMES)
}
