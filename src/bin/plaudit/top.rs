//! `plaudit top`: the highest counters.

use std::io::Write as _;

use serde_json::json;

use crate::failure::Failure;
use crate::output::{self, ESCAPES};
use crate::stores::{NamespaceArg, StoreArg, Values};

/// Print the highest counters, or the most liked items, with bars
#[derive(clap::Args)]
#[command(long_about = "\
Print the highest counters with bars, the highest first; of a namespace of likes, the items with the most likes. \
Equal ones are sorted by key. A long key is cut short; \
`--json` has it whole.")]
#[command(after_help = format!("{ESCAPES}\n\nExample:\n  plaudit top --store ./stars --namespace stars -n 20"))]
pub(crate) struct Args {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    namespace: NamespaceArg,
    /// How many
    #[arg(short = 'n', long = "count", value_name = "N", default_value_t = 10)]
    count: usize,
    /// Print a JSON array of objects with `key` and `value`
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let store = args.store.open()?;
    let ranked = Values::of(&store, &args.namespace.namespace)?.top(args.count)?;
    store.close()?;

    if args.json {
        let rows = ranked.iter().map(|(key, value)| json!({ "key": output::escaped(key), "value": value }));
        return output::json(&rows.collect());
    }
    let mut out = output::stdout();
    output::ranking(&mut out, &ranked)?;
    Ok(out.flush()?)
}
