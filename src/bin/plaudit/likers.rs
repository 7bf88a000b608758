//! `plaudit likers`: who likes an item.

use std::ffi::OsString;
use std::io::Write as _;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use plaudit::Liker;
use serde_json::json;

use crate::failure::Failure;
use crate::output::{self, GIVEN_KEYS};
use crate::pages::{self, LimitArg};
use crate::stores::StoreArg;

const EXAMPLES: &str = "\
Examples:
  plaudit likers videos video-1 --store ./likes
  plaudit likers videos video-1 --store ./likes --after 7@1700000000000";

/// Print who likes an item, newest first
#[derive(clap::Args)]
#[command(long_about = "\
Print who likes an item, one line `viewer<TAB>time_ms` each, newest first, those of one time by descending viewer.")]
#[command(after_help = format!("{GIVEN_KEYS}\n\n{EXAMPLES}"))]
pub(crate) struct Args {
    /// The namespace of likes
    #[arg(value_name = "NS")]
    namespace: String,
    /// The item
    item: OsString,
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    limit: LimitArg,
    /// Go on after the last line of the page before, as VIEWER@TIME_MS
    #[arg(long, value_name = "PLACE", value_parser = OsStringValueParser::new().try_map(place))]
    after: Option<Liker>,
    /// Print a JSON array of objects with `viewer`, a string, and `time_ms`
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let store = args.store.open()?;
    let likes = store.existing_likes(&args.namespace)?;
    let likers = likes.likers(args.item.as_encoded_bytes(), args.after.as_ref(), args.limit.limit)?;
    store.close()?;

    if args.json {
        let rows = likers.iter().map(|one| json!({ "viewer": one.viewer.to_string(), "time_ms": one.time_ms }));
        return output::json(&rows.collect());
    }
    let mut out = output::stdout();
    for Liker { viewer, time_ms } in &likers {
        writeln!(out, "{viewer}\t{time_ms}")?;
    }
    Ok(out.flush()?)
}

fn place(text: OsString) -> Result<Liker, &'static str> {
    let place = pages::split(&text).and_then(|(viewer, time_ms)| {
        let viewer = std::str::from_utf8(viewer).ok()?.parse().ok()?;
        Some(Liker { viewer, time_ms })
    });
    place.ok_or("VIEWER@TIME_MS is expected, as in the last line of the page before")
}
