//! `plaudit verify`: whether everything on disk is what was written.

use std::error::Error as _;
use std::io::{self, Write};

use plaudit::{Store, VerifyReport};
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::human::{bytes, counted};
use crate::output;
use crate::stores::StoreArg;

/// Read everything on disk and report damage
#[derive(clap::Args)]
#[command(long_about = "\
Read every block of every snapshot and every frame of the log, and report damage. If there is none, recount every \
item of every namespace of likes, and compare what its viewers like. An edge is a like, or an unlike that is \
remembered. What the store has on disk stays as \
it is; only a snapshot that is kept in sled must be opened for writing, so its directory must be writable. \
The exit status is 0 when all of it is sound and 3 when anything is damaged. A frame that a crash left unfinished \
at the end of the log is no damage: nobody was told that it is durable, and the next open drops it.")]
#[command(after_help = "\
Example:
  plaudit verify --store ./stars && cp -r ./stars ./backup")]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArg,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    args.store.require()?;
    let report = Store::verify(&args.store.store)?;
    if args.json {
        output::json(&document(&report))?;
    } else {
        let mut out = output::stdout();
        print(&mut out, &report)?;
        out.flush()?;
    }
    match report.problems.len() {
        0 => Ok(()),
        problems => Err(Failure::Unsound { problems: counted(problems, "problem") }),
    }
}

fn print(out: &mut impl Write, report: &VerifyReport) -> io::Result<()> {
    for one in &report.generations {
        let (counters, blocks) = (counted(one.counters, "counter"), counted(one.blocks, "block"));
        let edges = if one.edges == 0 { String::new() } else { format!(" and {}", counted(one.edges, "edge")) };
        writeln!(out, "snapshot {}: {counters}{edges} in {blocks}, {}", one.number, bytes(one.bytes))?;
    }
    for one in &report.segments {
        let ending = if one.sealed { ", sealed" } else { "" };
        let frames = counted(one.frames, "frame");
        writeln!(out, "segment {}: {frames}, {}{ending}", one.number, bytes(one.bytes))?;
    }
    if report.dropped_bytes > 0 {
        let dropped = counted(report.dropped_bytes, "byte");
        writeln!(out, "the log ends in an unfinished frame of {dropped}, which the next open drops")?;
    }
    for one in &report.likes {
        let (likes, items) = (counted(one.likes, "like"), counted(one.items, "item"));
        writeln!(out, "recounted {}: {likes} of {items}, and each viewer's", one.name)?;
    }
    for problem in &report.problems {
        writeln!(out, "damaged: {}", with_causes(problem))?;
    }
    if report.problems.is_empty() {
        writeln!(out, "sound: {} read and verified", counted(report.namespaces.len() as u64, "namespace"))?;
    }
    Ok(())
}

fn with_causes(error: &plaudit::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

fn document(report: &VerifyReport) -> Value {
    let generations: Vec<Value> = report
        .generations
        .iter()
        .map(|one| {
            json!({ "number": one.number, "counters": one.counters, "edges": one.edges, "blocks": one.blocks,
                "bytes": one.bytes })
        })
        .collect();
    let likes: Vec<Value> =
        report.likes.iter().map(|one| json!({ "name": one.name, "items": one.items, "likes": one.likes })).collect();
    let segments: Vec<Value> = report
        .segments
        .iter()
        .map(|one| json!({ "number": one.number, "frames": one.frames, "bytes": one.bytes, "sealed": one.sealed }))
        .collect();
    json!({
        "sound": report.problems.is_empty(),
        "problems": report.problems.iter().map(with_causes).collect::<Vec<_>>(),
        "generations": generations,
        "segments": segments,
        "likes": likes,
        "dropped_bytes": report.dropped_bytes,
    })
}
