//! The `plaudit` command does what its help says: output, exit statuses, and that a replay counts every event once.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod likes;
mod replay;

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use plaudit::Store;
use tempfile::TempDir;

const SUBCOMMANDS: [&str; 13] = [
    "demo",
    "replay",
    "get",
    "add",
    "top",
    "likers",
    "liked-by",
    "has-liked",
    "forget-viewer",
    "dump",
    "stat",
    "verify",
    "compact",
];

fn plaudit<S: AsRef<OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plaudit"));
    command.args(args).stdin(Stdio::null());
    command
}

fn run<S: AsRef<OsStr>>(args: &[S]) -> Output {
    plaudit(args).output().unwrap()
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Runs a command that must succeed without a word on standard error, and answers what it printed.
fn printed<S: AsRef<OsStr>>(args: &[S]) -> String {
    let output = run(args);
    assert_eq!((status(&output), stderr(&output)), (0, ""));
    stdout(&output).to_owned()
}

/// A directory for one test, with a store's and a source's path in it.
struct Fixture {
    dir: TempDir,
    store: PathBuf,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = dir.path().join("store");
        Self { dir, store }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn fill(&self, namespace: &str, counters: &[(&[u8], i64)]) {
        let store = Store::open(&self.store).unwrap();
        let handle = store.counters(namespace).unwrap();
        for (key, value) in counters {
            handle.add(key, *value).unwrap();
        }
        store.close().unwrap();
    }

    /// The arguments of a replay into namespace `n`.
    fn replay(&self, file: impl AsRef<OsStr>, more: &[&str]) -> Vec<OsString> {
        let mut args: Vec<OsString> = vec!["replay".into(), file.as_ref().into(), "--store".into()];
        args.push(self.store.clone().into());
        args.extend(["--namespace", "n"].iter().chain(more).map(Into::into));
        args
    }

    /// How many events of the source were counted in namespace `n`.
    fn position(&self, source: &str) -> usize {
        let key = format!("n\t{source}\tposition");
        let line = printed(&self.on_store(&["get", &key, "--namespace", "plaudit.replay"]));
        line.trim_end().rsplit('\t').next().unwrap().parse().unwrap()
    }

    fn dump(&self, namespace: &str) -> String {
        printed(&[OsStr::new("dump"), namespace.as_ref(), "--store".as_ref(), self.store.as_ref()])
    }

    /// Arguments of a subcommand on this store.
    fn on_store<'a>(&'a self, args: &'a [&'a str]) -> Vec<&'a OsStr> {
        args.iter().map(OsStr::new).chain([OsStr::new("--store"), self.store.as_os_str()]).collect()
    }
}

/// The first `count` events of an endless history over seven keys.
fn history(count: usize) -> String {
    let rows = (0..count).map(|row| format!("{},key-{},{}\n", 1_000 + row, row % 7, row % 5));
    std::iter::once("time_ms,key,delta\n".to_owned()).chain(rows).collect()
}

/// What `dump` prints after the first `count` events of [`history`].
fn history_counted(count: usize) -> String {
    let mut sums = std::collections::BTreeMap::new();
    for row in 0..count {
        *sums.entry(row % 7).or_insert(0) += row % 5;
    }
    sums.iter().map(|(key, sum)| format!("key-{key}\t{sum}\n")).collect()
}

#[test]
fn every_help_ends_with_an_example() {
    for subcommand in SUBCOMMANDS {
        for flag in ["--help", "-h"] {
            let help = printed(&[subcommand, flag]);
            let (_, examples) = help.rsplit_once("Example").unwrap_or_else(|| panic!("{subcommand} has no example"));
            assert!(examples.contains(&format!("plaudit {subcommand}")), "{help}");
        }
    }
    let help = printed(&["--help"]);
    assert!(SUBCOMMANDS.iter().all(|subcommand| help.contains(subcommand)), "{help}");
    assert!(!help.contains("worker"), "{help}");
}

#[test]
fn wrong_usage_is_status_2() {
    let wrong: [&[&str]; 6] = [
        &[],
        &["no-such-subcommand"],
        &["stat"],
        &["get", "--store", "s", "--namespace", "n"],
        &["add", "key", "many", "--store", "s", "--namespace", "n"],
        &["replay", "f.csv", "--store", "s", "--namespace", "n", "--limit", "0"],
    ];
    for args in wrong {
        assert_eq!(status(&run(args)), 2, "{args:?}");
    }
}

#[test]
fn commands_that_only_read_create_no_store() {
    let fixture = Fixture::new();
    let readers: [&[&str]; 10] = [
        &["likers", "n", "item"],
        &["liked-by", "n", "7"],
        &["has-liked", "n", "item", "7"],
        &["forget-viewer", "n", "7"],
        &["get", "key", "--namespace", "n"],
        &["top", "--namespace", "n"],
        &["dump", "n"],
        &["stat"],
        &["verify"],
        &["compact"],
    ];
    for args in readers {
        let output = run(&fixture.on_store(args));
        assert_eq!(status(&output), 1, "{args:?}");
        assert!(stderr(&output).starts_with("plaudit: there is no store at "), "{}", stderr(&output));
        assert!(!fixture.store.exists(), "{args:?}");
    }
    fs::create_dir(&fixture.store).unwrap();
    for args in readers {
        assert_eq!(status(&run(&fixture.on_store(args))), 1, "{args:?}");
        assert_eq!(fs::read_dir(&fixture.store).unwrap().count(), 0, "{args:?}");
    }
}

#[test]
fn a_missing_namespace_is_an_error_and_is_not_created() {
    let fixture = Fixture::new();
    fixture.fill("n", &[(b"key", 1)]);
    let readers: [&[&str]; 8] = [
        &["get", "key", "--namespace", "typo"],
        &["top", "--namespace", "typo"],
        &["dump", "typo"],
        &["dump", "typo", "--edges"],
        &["likers", "typo", "item"],
        &["liked-by", "typo", "7"],
        &["has-liked", "typo", "item", "7"],
        &["forget-viewer", "typo", "7"],
    ];
    for args in readers {
        let output = run(&fixture.on_store(args));
        assert_eq!((status(&output), stderr(&output)), (1, "plaudit: there is no namespace \"typo\"\n"));
    }
    let names: Vec<String> =
        Store::open(&fixture.store).unwrap().namespaces().into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["n"]);
}

#[test]
fn add_prints_the_new_value_and_get_finds_it() {
    let fixture = Fixture::new();
    let add = |delta| run(&fixture.on_store(&["add", "video-1", delta, "--namespace", "n"]));
    assert_eq!(stdout(&add("5")), "5\n");
    assert_eq!(stdout(&add("-7")), "-2\n");
    let refused = add("-9223372036854775807");
    assert_eq!((status(&refused), stdout(&refused)), (1, ""));
    assert!(stderr(&refused).contains("does not fit 64 bits"), "{}", stderr(&refused));
    let got = printed(&fixture.on_store(&["get", "video-1", "other", "video-1", "--namespace", "n"]));
    assert_eq!(got, "video-1\t-2\nother\t0\nvideo-1\t-2\n");
}

#[test]
fn keys_are_given_as_the_help_says() {
    let fixture = Fixture::new();
    let store = fixture.store.to_str().unwrap();
    let behind = |subcommand, key: &[u8], delta: &[&str]| {
        let options = [subcommand, "--store", store, "--namespace", "n", "--"].map(OsString::from);
        let key = OsString::from_vec(key.to_vec());
        let args: Vec<OsString> = options.into_iter().chain([key]).chain(delta.iter().map(Into::into)).collect();
        printed(&args)
    };
    for key in [&b"-key"[..], b"--store", b"--", b"-5", b"\xff\x01", b"\\xff"] {
        assert_eq!(behind("add", key, &["-3"]), "-3\n");
        assert!(behind("get", key, &[]).ends_with("\t-3\n"));
    }
    assert_eq!(fixture.dump("n"), "--\t-3\n--store\t-3\n-5\t-3\n-key\t-3\n\\\\xff\t-3\n\\xff\\x01\t-3\n");
    for subcommand in ["add", "get"] {
        assert!(printed(&[subcommand, "--help"]).contains("-- -key-with-a-dash"));
    }
}

#[test]
fn a_key_that_no_counter_can_have_is_refused() {
    let fixture = Fixture::new();
    fixture.fill("n", &[(b"key", 1)]);
    let long = "k".repeat(1_025);
    for (key, expected) in [("", "the key is empty"), (long.as_str(), "the key has 1025 bytes")] {
        for args in [&["add", key, "1", "--namespace", "n"][..], &["get", key, "--namespace", "n"]] {
            let output = run(&fixture.on_store(args));
            assert_eq!(status(&output), 1);
            assert!(stderr(&output).contains(expected), "{}", stderr(&output));
        }
    }
}

#[test]
fn dump_is_sorted_by_key_bytes_and_escapes_what_does_not_print() {
    let fixture = Fixture::new();
    let keys: [(&[u8], i64); 7] = [
        ("\u{e9}t\u{e9}".as_bytes(), 3),
        (b"b", -2),
        (b"a\tb\\c", 1),
        (b"\xff\x00", 4),
        (b"B", i64::MAX),
        (b"line\r\nbreak", i64::MIN),
        (b"a b", 5),
    ];
    fixture.fill("n", &keys);
    let expected = "B\t9223372036854775807\n\
         a\\tb\\\\c\t1\n\
         a b\t5\n\
         b\t-2\n\
         line\\r\\nbreak\t-9223372036854775808\n\
         \u{e9}t\u{e9}\t3\n\
         \\xff\\x00\t4\n";
    assert_eq!(fixture.dump("n"), expected);
}

#[test]
fn top_ranks_by_value_and_then_by_key() {
    let fixture = Fixture::new();
    fixture.fill("n", &[(b"c", 5), (b"a", 5), (b"b", 9), (b"d", 1)]);
    let ranked = printed(&fixture.on_store(&["top", "--namespace", "n", "-n", "3"]));
    let keys: Vec<&str> = ranked.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(keys, ["b", "a", "c"]);
    let json = printed(&fixture.on_store(&["top", "--namespace", "n", "-n", "1", "--json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json, serde_json::json!([{ "key": "b", "value": 9 }]));
}

#[test]
fn json_is_what_a_script_can_read() {
    let fixture = Fixture::new();
    fixture.fill("n", &[(b"a\xff", 5), (b"b", 6)]);
    let json = |args: &[&str]| -> serde_json::Value {
        serde_json::from_str(&printed(&fixture.on_store(&[args, &["--json"]].concat()))).unwrap()
    };
    assert_eq!(json(&["get", "b", "--namespace", "n"]), serde_json::json!([{ "key": "b", "value": 6 }]));
    assert_eq!(json(&["top", "--namespace", "n"])[1]["key"], "a\\xff");
    assert_eq!(json(&["stat"])["counters"], 2);
    assert_eq!(json(&["stat"])["namespaces"][0]["name"], "n");
    assert_eq!(json(&["verify"])["sound"], true);
}

#[test]
fn stat_verify_and_compact_tell_of_a_sound_store() {
    let fixture = Fixture::new();
    fixture.fill("likes", &[(b"a", 1), (b"b", 2)]);
    assert!(printed(&fixture.on_store(&["verify"])).ends_with("sound: 1 namespace read and verified\n"));
    assert!(printed(&fixture.on_store(&["compact"])).contains("2 counters"));
    assert!(printed(&fixture.on_store(&["stat"])).contains("likes"));
    assert!(printed(&fixture.on_store(&["verify"])).contains("sound"));
    assert_eq!(fixture.dump("likes"), "a\t1\nb\t2\n");
}

#[test]
fn a_store_that_is_open_elsewhere_is_status_1() {
    let fixture = Fixture::new();
    fixture.fill("n", &[(b"a", 1)]);
    let store = Store::open(&fixture.store).unwrap();
    let output = run(&fixture.on_store(&["stat"]));
    assert_eq!(status(&output), 1);
    assert!(stderr(&output).contains("open elsewhere"), "{}", stderr(&output));
    store.close().unwrap();
}

#[test]
fn damage_is_status_3() {
    let fixture = Fixture::new();
    run(&fixture.replay(fixture.write("h.csv", history(2_000)), &[]));
    let log = newest_segment(&fixture.store.join("log"));
    let mut bytes = fs::read(&log).unwrap();
    let written = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[written / 2] ^= 0x10;
    fs::write(&log, &bytes).unwrap();

    let output = run(&fixture.on_store(&["verify"]));
    assert_eq!(status(&output), 3, "{}", stderr(&output));
    assert!(stdout(&output).contains("is corrupt at byte"), "{}", stdout(&output));
    for args in [&["stat"][..], &["dump", "n"]] {
        let output = run(&fixture.on_store(args));
        assert_eq!(status(&output), 3, "{}", stderr(&output));
        assert!(stderr(&output).contains("is corrupt at byte"), "{}", stderr(&output));
    }
    assert_eq!(fs::read(&log).unwrap(), bytes, "nothing on disk is changed");
}

fn newest_segment(log: &Path) -> PathBuf {
    let Ok(entries) = fs::read_dir(log) else { return log.to_owned() };
    entries.map(|entry| entry.unwrap().path()).max().unwrap()
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let fixture = Fixture::new();
    let rows: String = (0..20_000).map(|row| format!("1,a-rather-long-key-{row},1\n")).collect();
    let file = fixture.write("many.csv", format!("time_ms,key,delta\n{rows}"));
    printed(&fixture.replay(file, &[]));

    let mut child = plaudit(&fixture.on_store(&["dump", "n"]));
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(line, "a-rather-long-key-0\t1\n");
    assert_eq!((status(&output), stderr(&output)), (0, ""));
}

#[test]
fn nothing_is_counted_in_the_namespaces_of_the_command() {
    let fixture = Fixture::new();
    let file = fixture.write("h.csv", history(10));
    for namespace in ["plaudit.replay", "plaudit."] {
        let add = ["add", "h.csv", "5", "--namespace", namespace];
        let replay = ["replay", file.to_str().unwrap(), "--namespace", namespace];
        for args in [&add[..], &replay] {
            let output = run(&fixture.on_store(args));
            assert_eq!(status(&output), 1);
            let expected = format!("nothing is counted in namespace {namespace:?}: names that start with plaudit. are");
            assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
            assert!(!fixture.store.exists());
        }
    }
    printed(&fixture.on_store(&["add", "a", "1", "--namespace", "plaudits"]));
}

#[test]
fn the_demo_loses_nothing_and_leaves_nothing_behind() {
    let fixture = Fixture::new();
    let output = plaudit(&["demo", "--seconds", "1"]).env("TMPDIR", fixture.dir.path()).output().unwrap();
    assert_eq!((status(&output), stderr(&output)), (0, ""), "{}", stdout(&output));
    let rounds: Vec<&str> = stdout(&output).lines().filter(|line| line.contains("duplicates absorbed")).collect();
    assert_eq!(rounds.len(), 3, "{}", stdout(&output));
    assert!(rounds.iter().all(|round| round.ends_with(": lost 0, double-counted 0")), "{rounds:?}");
    let last = stdout(&output).lines().last().unwrap();
    let acknowledged =
        last.strip_prefix("acknowledged ").and_then(|rest| rest.strip_suffix(", lost 0, double-counted 0"));
    assert!(acknowledged.unwrap_or(last).parse::<u64>().unwrap() > 0, "{last}");
    assert_eq!(fs::read_dir(fixture.dir.path()).unwrap().count(), 0);
}

#[test]
fn the_demo_keeps_a_store_only_where_it_was_asked_to_and_never_over_another() {
    let fixture = Fixture::new();
    fixture.fill("n", &[(b"mine", 1)]);
    let output = run(&fixture.on_store(&["demo"]));
    assert_eq!(status(&output), 1);
    assert!(stderr(&output).contains("the demo starts with an empty store"), "{}", stderr(&output));
    assert_eq!(fixture.dump("n"), "mine\t1\n");
}
