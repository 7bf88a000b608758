//! `plaudit forget-viewer`: everything that is known of a viewer.

use std::io::Write as _;

use plaudit::Viewer;

use crate::failure::Failure;
use crate::human::counted;
use crate::output;
use crate::stores::StoreArg;

/// Remove every like of a viewer and wait until that is durable
#[derive(clap::Args)]
#[command(long_about = "\
Remove every like of a viewer, and what is remembered of unlikes, in one durable change, and print how many likes there \
were. It does not ask. What was written before is gone from the disk when the snapshots and the log of then are: after \
three times `plaudit compact`.")]
#[command(after_help = "\
Example:
  plaudit forget-viewer videos 7 --store ./likes")]
pub(crate) struct Args {
    /// The namespace of likes
    #[arg(value_name = "NS")]
    namespace: String,
    /// The viewer, a number or a UUID
    viewer: Viewer,
    #[command(flatten)]
    store: StoreArg,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let store = args.store.open()?;
    let likes = store.existing_likes(&args.namespace)?;
    let receipt = likes.forget_viewer(args.viewer)?;
    receipt.wait()?;
    let forgotten = receipt.previous();
    if store.is_compaction_due() {
        // Not left to the background, because the store closes at once. What was removed stays so in any case.
        let _ = store.compact();
    }
    store.close()?;

    let mut out = output::stdout();
    writeln!(out, "{} forgotten", counted(forgotten, "like"))?;
    Ok(out.flush()?)
}
