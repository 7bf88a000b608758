//! One round of the demo, seen from the parent: start the counting process, watch it, kill it.

use std::env;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::Failure;
use crate::human::{grouped, rate};
use crate::output;

const REDRAW: Duration = Duration::from_millis(100);

/// How long the counting process may take to open the store.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How far one thread of the counting process said that it is, in likes from the start of its sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reported {
    pub(crate) counted: u64,
    pub(crate) acknowledged: u64,
}

/// A counting process under watch. Dropping it kills the process.
pub(crate) struct Round {
    child: Child,
    latest: Arc<Mutex<Option<Vec<Reported>>>>,
    reader: Option<JoinHandle<()>>,
    start: Vec<u64>,
}

impl Round {
    /// Starts a process that goes on at `start` in each thread's sequence.
    pub(crate) fn start(store: &Path, seed: u64, start: &[u64]) -> Result<Self, Failure> {
        let cannot_start = |error| Failure::DemoWorker(format!("did not start: {error}"));
        let starts = start.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let mut child = Command::new(env::current_exe().map_err(cannot_start)?)
            .arg("demo-worker")
            .args(["--seed", &seed.to_string(), "--start", &starts])
            .arg("--store")
            .arg(store)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(cannot_start)?;
        let latest = Arc::new(Mutex::new(None));
        let reader = child.stdout.take().map(|stdout| {
            let (latest, threads) = (Arc::clone(&latest), start.len());
            thread::spawn(move || read_reports(stdout, threads, &latest))
        });
        Ok(Self { child, latest, reader, start: start.to_vec() })
    }

    /// Lets the process count for `span`, showing how far it is, then kills it in the middle. Answers the
    /// last that it said, and for how long it counted.
    pub(crate) fn count_and_kill(mut self, title: &str, span: Duration) -> Result<(Vec<Reported>, Duration), Failure> {
        self.wait_for_first_report()?;
        let started = Instant::now();
        let mut live = Live::new(title, span);
        while started.elapsed() < span {
            thread::sleep(REDRAW.min(span.saturating_sub(started.elapsed())));
            self.must_run()?;
            let (counted, acknowledged) = self.progress();
            live.show(started.elapsed(), counted, acknowledged)?;
        }
        drop(live);
        let killed = self.child.kill();
        killed.map_err(|error| Failure::DemoWorker(format!("could not be killed: {error}")))?;
        let elapsed = started.elapsed();
        self.end();
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner).take();
        let reported = latest.ok_or_else(|| Failure::DemoWorker("said nothing".to_owned()))?;
        Ok((reported, elapsed))
    }

    fn wait_for_first_report(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        while self.latest.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            self.must_run()?;
            if started.elapsed() > START_TIMEOUT {
                return Err(Failure::DemoWorker(format!("said nothing for {} s", START_TIMEOUT.as_secs())));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    fn must_run(&mut self) -> Result<(), Failure> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => Err(Failure::DemoWorker(format!("ended by itself with {status}"))),
            Err(error) => Err(Failure::DemoWorker(format!("cannot be watched: {error}"))),
        }
    }

    /// Likes counted and acknowledged in this round so far.
    fn progress(&self) -> (u64, u64) {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let before: u64 = self.start.iter().sum();
        let reported = latest.as_deref().unwrap_or_default();
        let counted = reported.iter().map(|one| one.counted).sum::<u64>().saturating_sub(before);
        (counted, reported.iter().map(|one| one.acknowledged).sum::<u64>().saturating_sub(before))
    }

    /// Waits for the process to be gone and for the last of its lines, which may be in the pipe still.
    fn end(&mut self) {
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

impl Drop for Round {
    fn drop(&mut self) {
        let _ = self.child.kill();
        self.end();
    }
}

/// Keeps the newest report until the process is gone.
fn read_reports(stdout: ChildStdout, threads: usize, latest: &Mutex<Option<Vec<Reported>>>) {
    let mut lines = BufReader::new(stdout);
    let mut line = String::new();
    while lines.read_line(&mut line).is_ok_and(|length| length > 0) {
        if let Some(report) = parse(&line, threads) {
            *latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
        }
        line.clear();
    }
}

/// A whole line of `counted acknowledged` pairs; none for one that the kill cut off.
fn parse(line: &str, threads: usize) -> Option<Vec<Reported>> {
    let numbers = line.strip_suffix('\n')?.split_whitespace().map(str::parse);
    let numbers: Vec<u64> = numbers.collect::<Result<_, _>>().ok()?;
    let (pairs, rest) = numbers.as_chunks::<2>();
    let report =
        pairs.iter().map(|[counted, acknowledged]| Reported { counted: *counted, acknowledged: *acknowledged });
    (pairs.len() == threads && rest.is_empty()).then(|| report.collect())
}

/// The line that is redrawn on a terminal; elsewhere one line for each second.
struct Live {
    bar: ProgressBar,
    title: String,
    printed_seconds: u64,
}

impl Live {
    fn new(title: &str, span: Duration) -> Self {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let bar = ProgressBar::with_draw_target(Some(millis), ProgressDrawTarget::stdout());
        // The template is a constant, so its only error would show in every run on a terminal.
        if let Ok(style) = ProgressStyle::with_template("{prefix}  {bar:30}  {msg}") {
            bar.set_style(style.progress_chars("\u{2588}\u{2589}\u{258a}\u{258b}\u{258c}\u{258d}\u{258e}\u{258f} "));
        }
        bar.set_prefix(title.to_owned());
        Self { bar, title: title.to_owned(), printed_seconds: 0 }
    }

    fn show(&mut self, elapsed: Duration, counted: u64, acknowledged: u64) -> Result<(), Failure> {
        let rate = rate(counted, elapsed);
        let (counted, acknowledged) = (grouped(counted), grouped(acknowledged));
        let message = format!("{counted} likes, {rate}, {acknowledged} durable");
        if !self.bar.is_hidden() {
            self.bar.set_position(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX));
            self.bar.set_message(message);
        } else if elapsed.as_secs() > self.printed_seconds {
            self.printed_seconds = elapsed.as_secs();
            let mut out = output::stdout();
            let seconds = format!("{} s", self.printed_seconds);
            writeln!(out, "{}  {seconds:<9}  {message}", self.title)?;
            out.flush()?;
        }
        Ok(())
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_was_cut_off_is_none() {
        let report = |counted, acknowledged| Reported { counted, acknowledged };
        assert_eq!(parse("9 8 70 60 \n", 2), Some(vec![report(9, 8), report(70, 60)]));
        assert_eq!(parse("9 8 70 6", 2), None);
        assert_eq!(parse("9 8 70 \n", 2), None);
        assert_eq!(parse("9 8\n", 2), None);
        assert_eq!(parse("9 x\n", 1), None);
    }
}
