//! `plaudit dump`: every counter of a namespace.

use std::io::Write as _;

use crate::failure::Failure;
use crate::output::{self, ESCAPES};
use crate::stores::StoreArg;

/// Print every counter of a namespace, sorted by key
#[derive(clap::Args)]
#[command(long_about = "\
Print every counter of a namespace, one line `key<TAB>value` each, sorted by the bytes of the key.")]
#[command(after_help = format!("{ESCAPES}\n\nExample:\n  plaudit dump stars --store ./stars | head"))]
pub(crate) struct Args {
    /// The namespace of the counters
    #[arg(value_name = "NS")]
    namespace: String,
    #[command(flatten)]
    store: StoreArg,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let store = args.store.open()?;
    let mut counters = store.existing_counters(&args.namespace)?.iter().collect::<Result<Vec<_>, _>>()?;
    store.close()?;
    counters.sort_unstable();

    let mut out = output::stdout();
    for (key, value) in &counters {
        writeln!(out, "{}\t{value}", output::escaped(key))?;
    }
    Ok(out.flush()?)
}
