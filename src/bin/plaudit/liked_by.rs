//! `plaudit liked-by`: what a viewer likes.

use std::ffi::OsString;
use std::io::Write as _;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use plaudit::{LikedItem, Viewer};
use serde_json::json;

use crate::failure::Failure;
use crate::output::{self, ESCAPES};
use crate::pages::{self, LimitArg};
use crate::stores::StoreArg;

const EXAMPLES: &str = "\
Examples:
  plaudit liked-by videos 7 --store ./likes
  plaudit liked-by videos 67e55044-10b1-426f-9247-bb680e5fe0c8 --store ./likes --limit 10
  plaudit liked-by videos 7 --store ./likes --after video-1@1700000000000";

/// Print what a viewer likes, newest first
#[derive(clap::Args)]
#[command(long_about = "\
Print what a viewer likes, one line `item<TAB>time_ms` each, newest first, those of one time by ascending item.")]
#[command(after_help = format!("{ESCAPES}\n\n{EXAMPLES}"))]
pub(crate) struct Args {
    /// The namespace of likes
    #[arg(value_name = "NS")]
    namespace: String,
    /// The viewer, a number or a UUID
    viewer: Viewer,
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    limit: LimitArg,
    /// Go on after the last line of the page before, as ITEM@TIME_MS, the item's bytes as they are
    #[arg(long, value_name = "PLACE", value_parser = OsStringValueParser::new().try_map(place))]
    after: Option<LikedItem>,
    /// Print a JSON array of objects with `item` and `time_ms`
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let store = args.store.open()?;
    let likes = store.existing_likes(&args.namespace)?;
    let liked = likes.liked_by(args.viewer, args.after.as_ref(), args.limit.limit)?;
    store.close()?;

    let liked = liked.iter().map(|LikedItem { item, time_ms }| (output::escaped(item), time_ms));
    if args.json {
        return output::json(&liked.map(|(item, time_ms)| json!({ "item": item, "time_ms": time_ms })).collect());
    }
    let mut out = output::stdout();
    for (item, time_ms) in liked {
        writeln!(out, "{item}\t{time_ms}")?;
    }
    Ok(out.flush()?)
}

fn place(text: OsString) -> Result<LikedItem, &'static str> {
    let (item, time_ms) =
        pages::split(&text).ok_or("ITEM@TIME_MS is expected, as in the last line of the page before")?;
    Ok(LikedItem { item: item.to_vec().into(), time_ms })
}
