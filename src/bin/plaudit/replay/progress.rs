//! The bar that a terminal shows while a replay runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::source::Source;
use crate::human::{grouped, rate};

const REDRAW: Duration = Duration::from_millis(100);

/// A progress bar on standard error. It draws nothing when that is not a terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    bytes_read: Arc<AtomicU64>,
    started: Instant,
    drawn: Instant,
}

impl Progress {
    /// A bar over the file's bytes, or a spinner where the size is not known.
    pub(crate) fn new(source: &Source) -> Self {
        const BAR: &str = "{wide_bar} {percent:>3}%  {msg}  {eta} left";
        let (bar, template) = match source.size {
            Some(size) => (ProgressBar::new(size), BAR),
            None => (ProgressBar::new_spinner(), "{spinner} {msg}"),
        };
        // The template is a constant, so its only error would show in every run on a terminal.
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("\u{2588}\u{2589}\u{258a}\u{258b}\u{258c}\u{258d}\u{258e}\u{258f} "));
        }
        let now = Instant::now();
        Self { bar, bytes_read: Arc::clone(&source.bytes_read), started: now, drawn: now }
    }

    /// Tells how many events this run has applied.
    pub(crate) fn applied(&mut self, events: u64) {
        if self.drawn.elapsed() < REDRAW {
            return;
        }
        self.drawn = Instant::now();
        self.bar.set_message(format!("{} events  {}", grouped(events), rate(events, self.started.elapsed())));
        self.bar.set_position(self.bytes_read.load(Ordering::Relaxed));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
