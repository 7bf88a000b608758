//! `plaudit has-liked`: whether a viewer likes an item.

use std::ffi::OsString;
use std::io::Write as _;

use plaudit::Viewer;
use serde_json::json;

use crate::failure::Failure;
use crate::output::{self, GIVEN_KEYS};
use crate::stores::StoreArg;

const EXAMPLES: &str = "\
Example:
  plaudit has-liked videos video-1 7 --store ./likes && echo liked";

/// Tell whether a viewer likes an item
#[derive(clap::Args)]
#[command(long_about = "\
Tell whether a viewer likes an item. Prints yes, with exit status 0, or no, with exit status 4, which no failure has.")]
#[command(after_help = format!("{GIVEN_KEYS}\n\n{EXAMPLES}"))]
pub(crate) struct Args {
    /// The namespace of likes
    #[arg(value_name = "NS")]
    namespace: String,
    /// The item
    item: OsString,
    /// The viewer, a number or a UUID
    viewer: Viewer,
    #[command(flatten)]
    store: StoreArg,
    /// Print a JSON object with `liked`; the exit status is the same
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let store = args.store.open()?;
    let likes = store.existing_likes(&args.namespace)?;
    let liked = likes.has_liked(args.item.as_encoded_bytes(), args.viewer)?;
    store.close()?;

    if args.json {
        output::json(&json!({ "liked": liked }))?;
    } else {
        let mut out = output::stdout();
        writeln!(out, "{}", if liked { "yes" } else { "no" })?;
        out.flush()?;
    }
    if liked { Ok(()) } else { Err(Failure::AnsweredNo) }
}
