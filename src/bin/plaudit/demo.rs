//! `plaudit demo`: count, kill, recover, check; three times.

mod audit;
mod likes;
mod round;
mod viewers;
pub(crate) mod worker;

use std::env;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use plaudit::{RecoveryReport, Store};

use self::audit::{Expected, Recovered, Verdict};
use self::likes::{Likes, REGIONS, VIDEOS};
use self::round::{Reported, Round};
use self::viewers::{Outcome, Viewers};
use crate::failure::Failure;
use crate::human::{bytes, counted, duration, grouped, rate};
use crate::output;
use crate::stores::holds_anything;

const ROUNDS: u64 = 3;

/// How many videos the final ranking shows.
const RANKED: usize = 10;

/// Count likes, kill the process, recover, check every count
#[derive(clap::Args)]
#[command(long_about = "\
Count likes, kill the process, recover, check every count. It needs nothing.

A second process counts likes on 100,000 videos, a few of them far more popular than the rest, with one thread for \
each region, one call for each like. Without ever waiting it tells which likes are acknowledged, that is, durable. \
Some seconds later it is killed with SIGKILL, in the middle of whatever it does. The store is opened again, and every \
counter is compared with the sequence of likes, computed anew: each acknowledged like must be there once. After three \
such rounds the most liked videos are shown. The exit status is 1 when a like was lost or counted twice.

One more thread sends the requests of 1,000 viewers, who like and unlike 1,000 of the videos. A part of the requests \
is sent again, and after each kill the last 10,240 are. Each viewer must count once, whatever was sent again: who likes \
what, and each video's count, are compared too.")]
#[command(after_help = "\
Examples:
  plaudit demo
  plaudit demo --store ./likes && plaudit top --store ./likes --namespace likes.eu")]
pub(crate) struct Args {
    /// Keep the store, in this directory, which must be missing or empty
    ///
    /// Default: a temporary directory, removed at the end.
    #[arg(long, value_name = "DIR")]
    store: Option<PathBuf>,
    /// How long each round counts before the kill, in seconds
    #[arg(long, value_name = "S", default_value_t = 3)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Where the sequence of likes starts
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let (directory, is_temporary) = match &args.store {
        Some(directory) => (directory.clone(), false),
        None => (temporary_directory()?, true),
    };
    if holds_anything(&directory)? {
        return Err(Failure::DemoStoreNotEmpty { path: directory });
    }
    let shown = directory.display();
    let threads = thread::available_parallelism().map_or(2, usize::from).clamp(2, REGIONS.len());
    let fate = if is_temporary { "a temporary store" } else { "the store" };
    print(&format!(
        "Likes on {} videos, counted by {threads} threads of a process that is killed {ROUNDS} times,\nin {fate} at {shown}\n",
        grouped(VIDEOS)
    ))?;

    let demo = Demo { args, directory: &directory, likes: Likes::new(args.seed), threads };
    let outcome = demo.run();
    let sound = matches!(outcome, Ok((_, verdict)) if verdict == Verdict::default());
    if is_temporary && sound {
        fs::remove_dir_all(&directory).map_err(|error| Failure::file("remove", shown.to_string(), error))?;
    } else {
        print(&format!("The store is kept: plaudit top --store {shown} --namespace {}\n", REGIONS[0]))?;
    }
    let (acknowledged, Verdict { lost, double_counted }) = outcome?;
    print(&format!("acknowledged {acknowledged}, lost {lost}, double-counted {double_counted}"))?;
    if sound { Ok(()) } else { Err(Failure::DemoFailed) }
}

/// A directory that no other process has, created now.
fn temporary_directory() -> Result<PathBuf, Failure> {
    let directory = env::temp_dir().join(format!("plaudit-demo-{}-{}", process::id(), nanoseconds()));
    fs::create_dir(&directory).map_err(|error| Failure::file("create", directory.display().to_string(), error))?;
    Ok(directory)
}

/// The part of the time of day below a second: different in every run.
fn nanoseconds() -> u32 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_nanos())
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = output::stdout();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

struct Demo<'a> {
    args: &'a Args,
    directory: &'a Path,
    likes: Likes,
    threads: usize,
}

impl Demo<'_> {
    /// All rounds and the ranking. Answers how many likes were acknowledged and what became of them.
    fn run(&self) -> Result<(u64, Verdict), Failure> {
        let mut threads: Vec<Thread> = (0..self.threads).map(Thread::new).collect();
        let mut outcome = Outcome::new();
        let (mut acknowledged, mut verdict) = (0, Verdict::default());
        for number in 1..=ROUNDS {
            // Not always at the same point of the committer's and the compactor's work.
            let jitter = Duration::from_nanos(u64::from(nanoseconds()) / 4);
            let span = Duration::from_secs(self.args.seconds) + jitter;
            let counted = threads.iter().map(|thread| thread.recovered.likes);
            let starts: Vec<u64> = counted.chain([outcome.requests]).collect();
            let round = Round::start(self.directory, self.args.seed, &starts)?;
            let (reported, span) = round.count_and_kill(&format!("round {number} of {ROUNDS}"), span)?;
            acknowledged += print_counted(number, &starts, &reported, span)?;
            verdict.add(self.recover_and_check(&reported, &mut threads, &mut outcome)?);
            if verdict != Verdict::default() {
                break;
            }
        }
        self.print_ranking(&threads)?;
        Ok((acknowledged, verdict))
    }

    /// Opens the store that the killed process left, and compares every counter and every like.
    fn recover_and_check(
        &self,
        reported: &[Reported],
        threads: &mut [Thread],
        outcome: &mut Outcome,
    ) -> Result<Verdict, Failure> {
        let started = Instant::now();
        let store = Store::open(self.directory)?;
        let opened = started.elapsed();
        print(&format!("              recovered  {}", recovery(store.recovery(), opened)))?;

        let started = Instant::now();
        let (mut verdict, mut likes, mut counters_checked) = (Verdict::default(), 0, 0);
        for ((thread, region), reported) in threads.iter_mut().zip(REGIONS).zip(reported) {
            let counters = store.existing_counters(region)?;
            thread.recovered = thread.expected.check(&counters, &self.likes, reported.acknowledged)?;
            verdict.add(thread.recovered.verdict);
            likes += thread.recovered.likes;
            counters_checked += counters.len()?;
        }
        print(&format!(
            "              checked    {} likes in {} in {}: {}",
            grouped(likes),
            counted(counters_checked, "counter"),
            duration(started.elapsed()),
            shown(verdict),
        ))?;
        let acknowledged = reported.last().map_or(0, |viewers| viewers.acknowledged);
        let of_viewers = outcome.check(&Viewers::new(&store, &self.likes)?, acknowledged)?;
        store.close()?;
        print(&format!(
            "              viewers    {} liked, {} taken back, {} duplicates absorbed: {}\n",
            grouped(outcome.new_likes),
            grouped(outcome.taken_back),
            grouped(outcome.absorbed()),
            shown(of_viewers),
        ))?;
        verdict.add(of_viewers);
        Ok(verdict)
    }

    /// Prints the most liked videos as they are in the store.
    fn print_ranking(&self, threads: &[Thread]) -> Result<(), Failure> {
        let total = |video: usize| threads.iter().map(|thread| thread.recovered.values[video]).sum();
        let mut totals: Vec<(&[u8], i64)> = (0..VIDEOS).map(|video| (self.likes.key(video), total(video))).collect();
        totals.sort_unstable_by(|(one, more), (other, less)| less.cmp(more).then(one.cmp(other)));
        totals.truncate(RANKED);
        print("The most liked videos, over all regions\n")?;
        let mut out = output::stdout();
        output::ranking(&mut out, &totals)?;
        writeln!(out)?;
        Ok(out.flush()?)
    }
}

/// A thread of the counting process, as this process knows it.
struct Thread {
    expected: Expected,
    recovered: Recovered,
}

impl Thread {
    fn new(thread: usize) -> Self {
        let recovered = Recovered { likes: 0, values: vec![0; VIDEOS], verdict: Verdict::default() };
        Self { expected: Expected::new(thread), recovered }
    }
}

/// Prints what the counting process said and answers how many likes were acknowledged in this round.
fn print_counted(number: u64, start: &[u64], all: &[Reported], span: Duration) -> Result<u64, Failure> {
    let before: u64 = start.iter().sum();
    let likes = all.iter().map(|one| one.counted).sum::<u64>().saturating_sub(before);
    let acknowledged = all.iter().map(|one| one.acknowledged).sum::<u64>().saturating_sub(before);
    let (all_by_viewers, before) =
        (all.last().map_or(0, |viewers| viewers.counted), start.last().map_or(0, |from| *from));
    let by_viewers = all_by_viewers.saturating_sub(before);
    print(&format!(
        "round {number} of {ROUNDS}  counted    {} likes, {} of them by viewers, in {}, {}\n              killed     with SIGKILL, when {} of them were acknowledged",
        grouped(likes),
        grouped(by_viewers),
        duration(span),
        rate(likes, span),
        grouped(acknowledged),
    ))?;
    Ok(acknowledged)
}

fn shown(verdict: Verdict) -> String {
    format!("lost {}, double-counted {}", grouped(verdict.lost), grouped(verdict.double_counted))
}

/// What opening the store took and found.
fn recovery(report: &RecoveryReport, opened: Duration) -> String {
    let base = match report.generation {
        Some(generation) => format!("snapshot {generation} and {}", counted(report.frames, "frame")),
        None => counted(report.frames, "frame"),
    };
    let dropped = match report.dropped_bytes {
        0 => "no unfinished frame at its end".to_owned(),
        size => format!("an unfinished frame of {} at its end dropped", bytes(size)),
    };
    format!("in {} from {base} of log, {dropped}", duration(opened))
}
