//! `plaudit compact`: a new snapshot now.

use std::io::Write as _;
use std::time::Instant;

use crate::failure::Failure;
use crate::human::{bytes, counted, duration};
use crate::output;
use crate::stores::StoreArg;

/// Write a snapshot now and drop the log that it makes needless
#[derive(clap::Args)]
#[command(long_about = "\
Write a snapshot now and drop the log that the kept snapshots cover. A store does this by itself when its log has \
grown; doing it by hand makes the next open faster. The newest snapshots are all kept whole, so the log shrinks to \
what the oldest of them does not cover.")]
#[command(after_help = "Example:\n  plaudit compact --store ./stars")]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArg,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let store = args.store.open()?;
    let before = store.stats();
    let started = Instant::now();
    store.compact()?;
    let (elapsed, after) = (started.elapsed(), store.stats());
    let likes: u64 = store.namespaces().iter().map(|one| one.likes).sum();
    store.close()?;

    let mut out = output::stdout();
    let likes = if likes == 0 { String::new() } else { format!(" and {}", counted(likes, "like")) };
    writeln!(out, "snapshot    {}{likes} in {}", counted(after.counters, "counter"), duration(elapsed))?;
    writeln!(out, "log         {} before, {} now", bytes(before.log_bytes), bytes(after.log_bytes))?;
    writeln!(out, "snapshots   {} before, {} now", bytes(before.snapshot_bytes), bytes(after.snapshot_bytes))?;
    Ok(out.flush()?)
}
