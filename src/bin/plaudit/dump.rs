//! `plaudit dump`: everything in a namespace.

use std::io::{self, Write as _};

use plaudit::{Likes, Store};

use crate::failure::Failure;
use crate::output::{self, ESCAPES};
use crate::replay::events::Kind;
use crate::stores::{StoreArg, Values};

const EXAMPLES: &str = "\
Examples:
  plaudit dump stars --store ./stars | head
  plaudit dump videos --store ./likes --edges | zstd > likes.csv.zst";

/// Print every counter of a namespace, or every item or like, sorted
#[derive(clap::Args)]
#[command(long_about = "\
Print every counter of a namespace, one line `key<TAB>value` each, sorted by the bytes of the key. Of a namespace of \
likes these are the items, also those without any like, and how many like them.")]
#[command(after_help = format!("{ESCAPES}\n\n{EXAMPLES}"))]
pub(crate) struct Args {
    /// The namespace
    #[arg(value_name = "NS")]
    namespace: String,
    #[command(flatten)]
    store: StoreArg,
    /// Print the likes themselves, as the CSV that `replay` reads, oldest first
    ///
    /// Items are their bytes as they are. Unlikes are not in it, though the store remembers them for a while.
    #[arg(long)]
    edges: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let store = args.store.open()?;
    if args.edges {
        let likes = store.existing_likes(&args.namespace)?;
        return edges(store, &likes);
    }
    let mut values = Values::of(&store, &args.namespace)?.all()?;
    store.close()?;
    values.sort_unstable();

    let mut out = output::stdout();
    for (key, value) in &values {
        writeln!(out, "{}\t{value}", output::escaped(key))?;
    }
    Ok(out.flush()?)
}

/// Oldest first, so that none is too old for a namespace that takes them back, whatever its horizon.
fn edges(store: Store, likes: &Likes) -> Result<(), Failure> {
    let edges = likes.edges().map(|edge| edge.map(|(item, liker)| (liker.time_ms, item, liker.viewer)));
    let mut edges = edges.collect::<Result<Vec<_>, _>>()?;
    store.close()?;
    edges.sort_unstable();

    let mut rows = csv::Writer::from_writer(output::stdout());
    rows.write_record(Kind::Likes.columns()).map_err(cannot_write)?;
    for (time_ms, item, viewer) in &edges {
        let [time_ms, viewer] = [time_ms.to_string(), viewer.to_string()];
        rows.write_record([time_ms.as_bytes(), item, viewer.as_bytes(), b"like"]).map_err(cannot_write)?;
    }
    Ok(rows.flush()?)
}

/// The error of the output as it is, so that a closed pipe is told from others.
fn cannot_write(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}
