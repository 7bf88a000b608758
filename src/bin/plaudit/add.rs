//! `plaudit add`: change one counter.

use std::ffi::OsString;
use std::io::Write as _;

use crate::failure::Failure;
use crate::output::{self, GIVEN_KEYS};
use crate::stores::{NamespaceArg, StoreArg, counters_or_create};

const EXAMPLES: &str = "\
Examples:
  plaudit add video-1 1 --store ./likes --namespace likes
  plaudit add video-1 -1 --store ./likes --namespace likes
  plaudit add --store ./likes --namespace likes -- -key-with-a-dash -1";

/// Add to one counter and wait until it is durable
#[derive(clap::Args)]
#[command(long_about = "\
Add to one counter and print its new value, once it is durable: what was printed survives a power cut. The \
store and the namespace are created when they are missing.")]
#[command(after_help = format!("{GIVEN_KEYS}\n\n{EXAMPLES}"))]
pub(crate) struct Args {
    /// The key of the counter, 1 to 1,024 bytes
    key: OsString,
    /// What to add, a whole number of 64 bits
    #[arg(allow_negative_numbers = true)]
    delta: i64,
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    namespace: NamespaceArg,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let namespace = args.namespace.for_counting()?;
    let store = args.store.open_or_create()?;
    let counters = counters_or_create(&store, namespace)?;
    let receipt = counters.add(args.key.as_encoded_bytes(), args.delta)?;
    receipt.wait()?;
    let value = receipt.value();
    if store.is_compaction_due() {
        // Not left to the background, because the store closes at once. What was added is safe in any case.
        let _ = store.compact();
    }
    store.close()?;

    let mut out = output::stdout();
    writeln!(out, "{value}")?;
    Ok(out.flush()?)
}
