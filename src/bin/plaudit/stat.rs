//! `plaudit stat`: what a store holds and how opening it went.

use std::io::{self, Write};

use plaudit::{Contents, CounterOptions, LikeOptions, NamespaceInfo, RecoveryReport, Stats, ViewerIds};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::horizon;
use crate::human::{bytes, counted, duration, grouped};
use crate::output;
use crate::stores::StoreArg;

/// Print what a store holds and what opening it found
#[derive(clap::Args)]
#[command(long_about = "\
Print what a store holds, namespace by namespace (counters, or items and their likes), what it takes in memory and on disk, and what opening it found.")]
#[command(after_help = "\
Examples:
  plaudit stat --store ./stars
  plaudit stat --store ./stars --json | jq .log_bytes")]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArg,
    /// Print one JSON object; sizes are in bytes, times in microseconds
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let store = args.store.open()?;
    let (stats, recovery, namespaces) = (store.stats(), store.recovery().clone(), store.namespaces());
    store.close()?;

    if args.json {
        return output::json(&document(&stats, &recovery, &namespaces));
    }
    let mut out = output::stdout();
    print(&mut out, &stats, &recovery, &namespaces)?;
    Ok(out.flush()?)
}

fn print(out: &mut impl Write, stats: &Stats, recovery: &RecoveryReport, all: &[NamespaceInfo]) -> io::Result<()> {
    writeln!(out, "counters    {} in {}", grouped(stats.counters), counted(all.len(), "namespace"))?;
    let name_width = all.iter().map(|one| one.name.chars().count()).max().unwrap_or(0);
    let count_width = all.iter().map(|one| grouped(one.counters).len()).max().unwrap_or(0);
    for one in all {
        let count = grouped(one.counters);
        let line = format!("{count:>count_width$}  {:<name_width$}  {}", one.name, contents(one));
        writeln!(out, "            {}", line.trim_end())?;
    }
    writeln!(out, "memory      {}", bytes(stats.memory_bytes))?;
    writeln!(out, "log         {}", bytes(stats.log_bytes))?;
    let generations = counted(stats.generations.len(), "generation");
    writeln!(out, "snapshots   {} in {generations}", bytes(stats.snapshot_bytes))?;
    writeln!(out, "opened in   {}", duration(recovery.duration))?;
    writeln!(out, "closed      {}", if recovery.closed_cleanly { "cleanly" } else { "not cleanly" })?;
    match recovery.generation {
        Some(generation) => writeln!(out, "read        snapshot generation {generation}, then {}", log_read(recovery))?,
        None => writeln!(out, "read        no snapshot, {}", log_read(recovery))?,
    }
    for (generation, error) in &recovery.damaged_generations {
        writeln!(out, "damaged     snapshot generation {generation}: {error}")?;
    }
    if let Some((file, offset)) = &recovery.dropped_at {
        let size = bytes(recovery.dropped_bytes);
        writeln!(out, "dropped     an unfinished frame of {size} at byte {} of {}", grouped(offset), file.display())?;
    }
    Ok(())
}

/// The bounds of a namespace that has some.
fn bounds(options: CounterOptions) -> String {
    if options == CounterOptions::default() { String::new() } else { options.to_string() }
}

fn contents(one: &NamespaceInfo) -> String {
    match one.contents {
        Contents::Counters(options) => bounds(options),
        Contents::Likes(options) => {
            let (bits, horizon) = (bits(options.viewers), horizon::shown(options.horizon));
            format!("{} by viewers of {bits} bits, horizon {horizon}", counted(one.likes, "like"))
        }
        _ => String::new(),
    }
}

fn bits(viewers: ViewerIds) -> u32 {
    if viewers == ViewerIds::U64 { u64::BITS } else { u128::BITS }
}

fn log_read(recovery: &RecoveryReport) -> String {
    let (segments, frames) = (counted(recovery.segments, "segment"), counted(recovery.frames, "frame"));
    format!("{} from {frames} in {segments} of log", counted(recovery.changes, "change"))
}

fn document(stats: &Stats, recovery: &RecoveryReport, namespaces: &[NamespaceInfo]) -> Value {
    let contents: Vec<Value> = namespaces
        .iter()
        .map(|one| match one.contents {
            Contents::Counters(CounterOptions { min, max, .. }) => {
                json!({ "name": one.name, "counters": one.counters, "min": min, "max": max })
            }
            Contents::Likes(LikeOptions { viewers, horizon }) => json!({
                "name": one.name,
                "items": one.counters,
                "likes": one.likes,
                "viewer_bits": bits(viewers),
                "horizon_ms": u64::try_from(horizon.as_millis()).unwrap_or(u64::MAX),
            }),
            _ => json!({ "name": one.name }),
        })
        .collect();
    let damaged: Vec<u64> = recovery.damaged_generations.iter().map(|(generation, _)| *generation).collect();
    json!({
        "counters": stats.counters,
        "likes": namespaces.iter().map(|one| one.likes).sum::<u64>(),
        "namespaces": contents,
        "memory_bytes": stats.memory_bytes,
        "log_bytes": stats.log_bytes,
        "snapshot_bytes": stats.snapshot_bytes,
        "generations": stats.generations,
        "recovery": {
            "closed_cleanly": recovery.closed_cleanly,
            "generation": recovery.generation,
            "damaged_generations": damaged,
            "segments": recovery.segments,
            "frames": recovery.frames,
            "changes": recovery.changes,
            "dropped_bytes": recovery.dropped_bytes,
            "duration_us": u64::try_from(recovery.duration.as_micros()).unwrap_or(u64::MAX),
        },
    })
}
