//! The same work on plaudit and on what a user would pick instead, side by side in one run. See README.md.

mod load;
mod machine;
mod measure;
mod peer;
mod peers;
mod plot;
mod questions;
mod report;
mod scale;

use std::fmt::Write as _;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use peer::Sync;
use questions::{ALL, Question, memory};
use report::Table;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &arguments[..] {
        [memory::CHILD, peer, kind] => memory::fill_and_report(peer, kind),
        ["all"] => ask(&ALL.iter().collect::<Vec<_>>()),
        names if !names.is_empty() && names.iter().all(|name| question(name).is_some()) => {
            ask(&names.iter().filter_map(|name| question(name)).collect::<Vec<_>>());
        }
        _ => {
            let names: Vec<&str> = ALL.iter().map(|question| question.name).collect();
            eprintln!("usage: plaudit-peers all, or some of: {}", names.join(" "));
            std::process::exit(2);
        }
    }
}

fn question(name: &str) -> Option<&'static Question> {
    ALL.iter().find(|question| question.name == name)
}

/// Asks, writes each answer, and puts the report together from all that is answered. A question whose peer fails has
/// no answer, and the others are asked all the same.
fn ask(questions: &[&Question]) {
    let dir = results_dir();
    std::fs::create_dir_all(&dir).expect("the results can be written");
    let (about, commit) = (about(), machine::commit());
    println!("{about}");
    let mut failed = Vec::new();
    for question in questions {
        let machine = [vec![commit.clone()], machine::description()].concat();
        println!("{}\n  {}", question.name, machine.join("\n  "));
        let started = Instant::now();
        let Ok(section) = catch_unwind(question.ask) else {
            failed.push(question.name);
            continue;
        };
        section.write(&dir, question.name, &origin(&machine, started.elapsed().as_secs()));
        write_report(&dir, &about);
    }
    println!("written: {}", dir.join("README.md").display());
    if !failed.is_empty() {
        eprintln!("without an answer, because a peer failed: {}", failed.join(", "));
        std::process::exit(1);
    }
}

/// Only a full run is worth keeping.
fn results_dir() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    if scale::is_full() { here.join("results") } else { here.join("target/peers-scaled-down") }
}

/// The command and the machine, for each section: they may come from different runs.
fn origin(machine: &[String], seconds: u64) -> String {
    let scaled = if scale::is_full() { String::new() } else { format!("{} ", scale::describe()) };
    let features = if cfg!(feature = "rocksdb") { "--features rocksdb " } else { "" };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let command = format!("{scaled}cargo run --release --locked {features}-- {}", arguments.join(" "));
    let note = if scale::is_full() { "" } else { " **Scaled down: the figures mean nothing.**" };
    format!("<sub>`{command}`, of which this took {seconds} s. {}.{note}</sub>", machine.join("; "))
}

/// Every peer with its version and settings, and who is missing.
fn about() -> String {
    let head = ["peer", "version", "when no call waits for the disk", "when each call does"];
    let mut table = Table::new("Peers", &head);
    for peer in std::iter::once(&peers::PLAUDIT as &dyn peer::Peer).chain(peers::present()) {
        let each = if peer.home() == peer::Home::Memory { "—".to_owned() } else { peer.settings(Sync::EachCall) };
        table.row(vec![peer.name().to_owned(), peer.version(), peer.settings(Sync::Relaxed), each]);
    }
    let mut text = table.markdown();
    peers::absences().iter().for_each(|absence| write!(text, "\n{absence}\n").expect("memory can be written"));
    text
}

fn write_report(dir: &Path, about: &str) {
    let mut text = format!(
        "# plaudit beside its peers\n\nMade by the program in `benches/peers`, never edited; each part names its run. \
         Ratios are plaudit's rate divided by the peer's, pairwise, in neighbouring slices of one run: absolute figures \
         say little on a shared machine.\n\n{about}"
    );
    for question in &ALL {
        if let Ok(section) = std::fs::read_to_string(dir.join(format!("{}.md", question.name))) {
            write!(text, "\n{section}").expect("memory can be written");
        }
    }
    std::fs::write(dir.join("README.md"), text).expect("the report can be written");
}
