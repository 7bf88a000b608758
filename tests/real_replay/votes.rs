//! Votes, as likes: in their order, and shuffled with each sent twice, they come to the likes of a plain fold, in which
//! the newest event of a viewer and an item decides, and at equal times the unlike.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use plaudit::{LikeOptions, Likes, Store};

use crate::support::Random;
use crate::{Fold, POSITIONS, acknowledged, apply_with_compactions, child, kill_and_finish, plaudit, shared};

const EVENTS: usize = 269_103;
const ITEMS: usize = 2_772;
const LIKES: usize = 157_648;

const FILE: &str = "polis-votes.csv.zst";
const NAMESPACE: &str = "votes";

/// The file that has every row twice, in any order.
const SHUFFLED: &str = "shuffled.csv.zst";
const SHUFFLED_SOURCE: &str = "votes\tshuffled.csv.zst";

/// It covers the file's ten years, as an argument and as an option.
const HORIZON: &str = "5000d";

fn options() -> LikeOptions {
    LikeOptions { horizon: Duration::from_secs(5_000 * 86_400), ..LikeOptions::default() }
}

/// A like or an unlike.
#[derive(Debug, Clone)]
struct Vote {
    time_ms: u64,
    item: String,
    viewer: u64,
    liked: bool,
}

impl Vote {
    fn of(row: &csv::ByteRecord) -> Self {
        let text = |column| std::str::from_utf8(&row[column]).unwrap();
        let liked = text(3) == "like";
        assert!(liked || text(3) == "unlike");
        Self { time_ms: text(0).parse().unwrap(), item: text(1).into(), viewer: text(2).parse().unwrap(), liked }
    }

    fn row(&self) -> [String; 4] {
        let action = if self.liked { "like" } else { "unlike" };
        [self.time_ms.to_string(), self.item.clone(), self.viewer.to_string(), action.to_owned()]
    }
}

/// The file and its events, if it is there.
fn votes() -> Option<&'static (PathBuf, Vec<Vote>)> {
    static VOTES: OnceLock<Option<(PathBuf, Vec<Vote>)>> = OnceLock::new();
    VOTES.get_or_init(|| shared(FILE).map(|file| (file.clone(), read(&file)))).as_ref()
}

fn read(file: &Path) -> Vec<Vote> {
    let mut reader = csv::Reader::from_reader(zstd::Decoder::new(File::open(file).unwrap()).unwrap());
    let votes: Vec<Vote> = reader.byte_records().map(|row| Vote::of(&row.unwrap())).collect();
    assert_eq!(votes.len(), EVENTS, "this is not the file that was measured");
    votes
}

/// Every vote twice, in an order that the seed says.
fn shuffled_and_twice(votes: &[Vote], seed: u64) -> Vec<Vote> {
    let mut votes = [votes, votes].concat();
    let mut random = Random(seed);
    for left in (1..votes.len()).rev() {
        votes.swap(left, random.below(left as u64 + 1) as usize);
    }
    votes
}

fn write(votes: &[Vote], file: &Path) {
    let mut rows = csv::Writer::from_writer(zstd::Encoder::new(File::create(file).unwrap(), 1).unwrap());
    rows.write_record(["time_ms", "item", "viewer", "action"]).unwrap();
    for vote in votes {
        rows.write_record(vote.row()).unwrap();
    }
    rows.into_inner().unwrap().finish().unwrap();
}

/// The plain fold of the first votes of a file: the newest of each item and viewer, an unlike after a like.
struct Votes<'a> {
    file: &'a Path,
    source: String,
    votes: &'a [Vote],
    events: usize,
    newest: HashMap<(&'a str, u64), (u64, bool)>,
}

impl<'a> Votes<'a> {
    fn new(file: &'a Path, votes: &'a [Vote]) -> Self {
        let source = format!("{NAMESPACE}\t{}", file.file_name().unwrap().to_str().unwrap());
        Self { file, source, votes, events: 0, newest: HashMap::new() }
    }

    fn advance(&mut self, events: usize) {
        assert!(events >= self.events, "the position went back from {} to {events}", self.events);
        for Vote { time_ms, item, viewer, liked } in &self.votes[self.events..events] {
            let event = (*time_ms, !liked);
            let newest = self.newest.entry((item, *viewer)).or_insert(event);
            *newest = event.max(*newest);
        }
        self.events = events;
    }

    /// The count of each item, and all likes with their times.
    fn likes(&self) -> (BTreeMap<String, u64>, BTreeMap<(String, u64), u64>) {
        let (mut counts, mut likes) = (BTreeMap::new(), BTreeMap::new());
        for (&(item, viewer), &(time_ms, unliked)) in &self.newest {
            *counts.entry(item.to_owned()).or_default() += u64::from(!unliked);
            if !unliked {
                likes.insert((item.to_owned(), viewer), time_ms);
            }
        }
        (counts, likes)
    }
}

/// The same of a namespace.
fn likes_of(likes: &Likes) -> (BTreeMap<String, u64>, BTreeMap<(String, u64), u64>) {
    let text = |item: &[u8]| String::from_utf8(item.to_vec()).unwrap();
    let counts = likes.iter().map(Result::unwrap).map(|(item, count)| (text(&item), count));
    let edges = likes.edges().map(Result::unwrap);
    let edges = edges.map(|(item, liker)| ((text(&item), liker.viewer.as_u64().unwrap()), liker.time_ms));
    (counts.collect(), edges.collect())
}

impl Fold for Votes<'_> {
    fn events(&self) -> usize {
        self.votes.len()
    }

    fn replay(&self, store: &Path, acks: &Path) -> Command {
        let mut command = plaudit(&["replay", "--namespace", NAMESPACE, "--horizon", HORIZON], store);
        command.arg("--acks").arg(acks).arg(self.file);
        command
    }

    fn replay_with_compactions(&self, store: &Path, acks: &Path) -> Command {
        child("votes::liking_process", self.file, store, acks)
    }

    fn check(&mut self, store: &Store, context: &str) -> usize {
        let position = store.counters(POSITIONS).unwrap().get(format!("{}\tposition", self.source)).unwrap();
        self.advance(usize::try_from(position).unwrap());
        let (found, expected) = (likes_of(&store.likes_with(NAMESPACE, options()).unwrap()), self.likes());
        let wrong = expected.0.iter().find(|(item, count)| found.0.get(*item) != Some(count));
        assert_eq!(wrong, None, "{context}: a count after {position} events");
        assert!(found == expected, "{context}: the likes after {position} events");
        self.events
    }
}

/// Not a test of its own: the process of [`Votes::replay_with_compactions`].
#[test]
fn liking_process() {
    apply_with_compactions(SHUFFLED_SOURCE, |store| {
        let likes = store.likes_with(NAMESPACE, options()).unwrap();
        move |batch, row| {
            let Vote { time_ms, item, viewer, liked } = Vote::of(row);
            match liked {
                true => batch.like_at(&likes, item, viewer, time_ms),
                false => batch.unlike_at(&likes, item, viewer, time_ms),
            };
        }
    });
}

fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_count_equals_a_plain_fold_of_the_file_and_so_do_the_dumped_likes_replayed() {
    let Some((file, votes)) = votes() else { return };
    let dir = tempfile::tempdir().unwrap();
    let [path, acks, again] = ["store", "acks", "again"].map(|name| dir.path().join(name));
    let mut fold = Votes::new(file, votes);
    let summary = printed(&mut fold.replay(&path, &acks));
    let outcome = "157,689 new likes, 41 taken back, 111,373 absorbed, 0 too old and not applied\n";
    assert!(summary.ends_with(outcome), "{summary}");
    assert_eq!(acknowledged(&acks), EVENTS);
    let problems = Store::verify(&path).unwrap().problems;
    assert!(problems.is_empty(), "{problems:?}");
    for _ in 0..2 {
        let store = Store::open(&path).unwrap();
        assert_eq!(fold.check(&store, "in one go"), EVENTS);
        store.close().unwrap();
    }
    let (counts, likes) = fold.likes();
    assert_eq!((counts.len(), counts.values().sum(), likes.len()), (ITEMS, LIKES as u64, LIKES));

    // With the horizon that a namespace has by default: the file and the dump are sorted by time.
    let dumped = dir.path().join("dumped.csv");
    std::fs::write(&dumped, printed(&mut plaudit(&["dump", NAMESPACE, "--edges"], &path))).unwrap();
    for (file, namespace) in [(&dumped, "dumped"), (file, "week")] {
        printed(plaudit(&["replay", "--namespace", namespace], &again).arg(file));
    }
    let store = Store::open(&again).unwrap();
    let [dumped, week] = ["dumped", "week"].map(|name| likes_of(&store.existing_likes(name).unwrap()));
    let liked = counts.iter().filter(|(_, count)| **count > 0).map(|(item, count)| (item.clone(), *count)).collect();
    assert!(dumped == (liked, likes.clone()), "the dumped likes");
    assert!(week == (counts, likes), "with a horizon of a week");
}

#[test]
fn shuffled_and_sent_twice_they_come_to_the_same() {
    let Some((_, votes)) = votes() else { return };
    let dir = tempfile::tempdir().unwrap();
    let [path, acks, file] = ["store", "acks", SHUFFLED].map(|name| dir.path().join(name));
    let seed = std::env::var("PLAUDIT_TEST_SEED").map_or(1, |seed| seed.parse().unwrap());
    let context = format!("PLAUDIT_TEST_SEED={seed} cargo test --test real_replay shuffled");
    let shuffled = shuffled_and_twice(votes, seed);
    write(&shuffled, &file);
    let mut fold = Votes::new(&file, &shuffled);
    let summary = printed(&mut fold.replay(&path, &acks));
    assert!(summary.ends_with(", 0 too old and not applied\n"), "{context}: {summary}");
    let store = Store::open(&path).unwrap();
    assert_eq!(fold.check(&store, &context), 2 * EVENTS);
    assert_eq!(store.namespaces().iter().map(|one| one.likes).sum::<u64>(), LIKES as u64, "{context}");
    println!("{} events: {}", shuffled.len(), summary.lines().last().unwrap());
}

#[test]
fn processes_that_are_killed_apply_every_vote_once() {
    let Some((_, votes)) = votes() else { return };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(SHUFFLED);
    let shuffled = shuffled_and_twice(votes, 1);
    write(&shuffled, &file);
    kill_and_finish("votes::processes_that_are_killed", || Votes::new(&file, &shuffled));
}
