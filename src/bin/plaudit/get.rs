//! `plaudit get`: the value of some counters.

use std::ffi::OsString;
use std::io::Write as _;

use serde_json::json;

use crate::failure::Failure;
use crate::output::{self, ESCAPES, GIVEN_KEYS};
use crate::stores::{NamespaceArg, StoreArg, Values};

const EXAMPLES: &str = "\
Examples:
  plaudit get facebook/react vuejs/vue --store ./stars --namespace stars
  plaudit get --store ./likes --namespace likes -- -key-with-a-dash $'\\xff\\x01'";

/// Print the values of some counters
#[derive(clap::Args)]
#[command(long_about = "\
Print the values of some counters, one line `key<TAB>value` each, in the order asked for. A counter that is not there is 0. \
Of a namespace of likes the keys are items, and the values how many like them.")]
#[command(after_help = format!("{GIVEN_KEYS}\n\n{ESCAPES}\n\n{EXAMPLES}"))]
pub(crate) struct Args {
    /// The keys of the counters
    #[arg(required = true, value_name = "KEY")]
    keys: Vec<OsString>,
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    namespace: NamespaceArg,
    /// Print a JSON array of objects with `key` and `value`
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let store = args.store.open()?;
    let values = Values::of(&store, &args.namespace.namespace)?;
    let keys: Vec<&[u8]> = args.keys.iter().map(|key| key.as_encoded_bytes()).collect();
    let values = values.get_many(&keys)?;
    store.close()?;

    let found = keys.iter().zip(&values).map(|(key, value)| (output::escaped(key), value));
    if args.json {
        return output::json(&found.map(|(key, value)| json!({ "key": key, "value": value })).collect());
    }
    let mut out = output::stdout();
    for (key, value) in found {
        writeln!(out, "{key}\t{value}")?;
    }
    Ok(out.flush()?)
}
