//! The `plaudit` command: one file per subcommand, over the library's public interface alone.

#![forbid(unsafe_code)]

mod add;
mod compact;
mod demo;
mod dump;
mod failure;
mod forget_viewer;
mod get;
mod has_liked;
mod horizon;
mod human;
mod liked_by;
mod likers;
mod output;
mod pages;
mod replay;
mod stat;
mod stores;
mod top;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Durable counters and likes: counted at memory speed, on disk within milliseconds, exactly once through
/// any crash.
#[derive(Parser)]
#[command(name = "plaudit", version, max_term_width = 100, after_help = MAIN_HELP)]
#[command(subcommand_required = true, arg_required_else_help = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const MAIN_HELP: &str = "\
Exit status: 0 fine, 1 failed, 2 wrong usage, 3 the store is corrupt, 4 has-liked answered no.

Examples:
  plaudit demo
  plaudit replay stars.csv.zst --store ./stars --namespace stars
  plaudit top --store ./stars --namespace stars -n 20
  plaudit likers videos video-1 --store ./likes";

#[derive(Subcommand)]
enum Command {
    Demo(demo::Args),
    Replay(replay::Args),
    Get(get::Args),
    Add(add::Args),
    Top(top::Args),
    Likers(likers::Args),
    LikedBy(liked_by::Args),
    HasLiked(has_liked::Args),
    ForgetViewer(forget_viewer::Args),
    Dump(dump::Args),
    Stat(stat::Args),
    Verify(verify::Args),
    Compact(compact::Args),
    #[command(hide = true)]
    DemoWorker(demo::worker::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Get(args) => get::run(&args),
        Command::Add(args) => add::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Likers(args) => likers::run(&args),
        Command::LikedBy(args) => liked_by::run(&args),
        Command::HasLiked(args) => has_liked::run(&args),
        Command::ForgetViewer(args) => forget_viewer::run(&args),
        Command::Dump(args) => dump::run(&args),
        Command::Stat(args) => stat::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Compact(args) => compact::run(&args),
        Command::DemoWorker(args) => demo::worker::run(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report();
            failure.status()
        }
    }
}
