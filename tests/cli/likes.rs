//! What the command does with likes: replays them, lists them, takes its own list back, forgets.

use std::ffi::OsString;
use std::fs;

use plaudit::{LikeOptions, Store, ViewerIds};
use serde_json::{Value, json};

use crate::{Fixture, history, printed, run, status, stderr, stdout};

const HEADER: &str = "time_ms,item,viewer,action\n";
const UUID: &str = "67e55044-10b1-426f-9247-bb680e5fe0c8";

/// Two items and three viewers, with a like sent again, one taken back, and an unlike that comes late.
const ROWS: &str = "\
    1000,cats,1,like\n\
    2000,cats,2,like\n\
    2000,cats,2,like\n\
    3000,dogs,1,like\n\
    4000,cats,3,like\n\
    5000,cats,3,unlike\n\
    1500,dogs,1,unlike\n";

fn filled() -> Fixture {
    let fixture = Fixture::new();
    let summary = replayed(&fixture, ROWS, &[]);
    assert!(summary.starts_with("7 events in "), "{summary}");
    assert!(summary.contains(", position 7 of h.csv, 2 items in namespace n\n"), "{summary}");
    assert!(summary.ends_with("\n4 new likes, 1 taken back, 2 absorbed, 0 too old and not applied\n"), "{summary}");
    fixture
}

fn replayed(fixture: &Fixture, rows: &str, more: &[&str]) -> String {
    printed(&fixture.replay(fixture.write("h.csv", format!("{HEADER}{rows}")), more))
}

fn on(fixture: &Fixture, args: &[&str]) -> String {
    printed(&fixture.on_store(args))
}

#[test]
fn likes_are_counted_ranked_and_listed() {
    let fixture = filled();
    assert_eq!(fixture.dump("n"), "cats\t2\ndogs\t1\n");
    assert_eq!(on(&fixture, &["get", "dogs", "birds", "cats", "--namespace", "n"]), "dogs\t1\nbirds\t0\ncats\t2\n");
    let top = on(&fixture, &["top", "--namespace", "n"]);
    let items: Vec<&str> = top.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(items, ["cats", "dogs"]);
    assert_eq!(on(&fixture, &["likers", "n", "cats"]), "2\t2000\n1\t1000\n");
    assert_eq!(on(&fixture, &["liked-by", "n", "1"]), "dogs\t3000\ncats\t1000\n");
    assert_eq!(on(&fixture, &["likers", "n", "birds"]), "");

    let json = |args: &[&str]| -> Value { serde_json::from_str(&on(&fixture, &[args, &["--json"]].concat())).unwrap() };
    let likers = json!([{ "viewer": "2", "time_ms": 2_000 }, { "viewer": "1", "time_ms": 1_000 }]);
    assert_eq!(json(&["likers", "n", "cats"]), likers);
    assert_eq!(json(&["liked-by", "n", "2"]), json!([{ "item": "cats", "time_ms": 2_000 }]));
    assert_eq!(json(&["has-liked", "n", "cats", "2"]), json!({ "liked": true }));
    assert_eq!(json(&["get", "cats", "--namespace", "n"]), json!([{ "key": "cats", "value": 2 }]));
}

#[test]
fn a_list_goes_on_behind_its_last_line() {
    let fixture = Fixture::new();
    let rows: String =
        (0..23).map(|n| format!("{},a@b,{n},like\n{},item@{n},7,like\n", 100 + n / 3, 100 + n / 3)).collect();
    replayed(&fixture, &rows, &[]);
    for list in [["likers", "n", "a@b"], ["liked-by", "n", "7"]] {
        let whole = on(&fixture, &list);
        let (mut pages, mut after) = (String::new(), None::<String>);
        loop {
            let mut args = [&list[..], &["--limit", "4"]].concat();
            args.extend(after.as_ref().into_iter().flat_map(|after| ["--after", after.as_str()]));
            let page = on(&fixture, &args);
            pages.push_str(&page);
            after = page.lines().last().map(|line| line.replace('\t', "@"));
            if page.lines().count() < 4 {
                break;
            }
        }
        assert_eq!(
            (pages.as_str(), whole.lines().count()),
            (whole.as_str(), if list[0] == "likers" { 23 } else { 24 })
        );
    }
    for after in ["7", "7@", "7@noon", "someone@5"] {
        assert_eq!(status(&run(&fixture.on_store(&["likers", "n", "a@b", "--after", after]))), 2, "{after}");
    }
}

#[test]
fn has_liked_answers_by_a_status_that_no_failure_has() {
    let fixture = filled();
    for (item, viewer, expected) in [
        ("cats", "2", (0, "yes\n")),
        ("cats", "3", (4, "no\n")),
        ("birds", "2", (4, "no\n")),
        ("cats", "99", (4, "no\n")),
    ] {
        let output = run(&fixture.on_store(&["has-liked", "n", item, viewer]));
        assert_eq!((status(&output), stdout(&output), stderr(&output)), (expected.0, expected.1, ""));
    }
    let failures: [(&[&str], i32); 4] = [
        (&["has-liked", "typo", "cats", "2"], 1),
        (&["has-liked", "n", "", "2"], 1),
        (&["has-liked", "n", "cats", UUID], 1),
        (&["has-liked", "n", "cats", "someone"], 2),
    ];
    for (args, expected) in failures {
        let output = run(&fixture.on_store(args));
        assert_eq!((status(&output), stdout(&output)), (expected, ""), "{args:?}");
        assert!(!stderr(&output).is_empty());
    }
}

#[test]
fn a_forgotten_viewer_is_gone_from_every_item() {
    let fixture = filled();
    assert_eq!(on(&fixture, &["forget-viewer", "n", "1"]), "2 likes forgotten\n");
    assert_eq!(on(&fixture, &["forget-viewer", "n", "1"]), "0 likes forgotten\n");
    assert_eq!(fixture.dump("n"), "cats\t1\ndogs\t0\n");
    assert_eq!(on(&fixture, &["liked-by", "n", "1"]), "");
    assert_eq!(on(&fixture, &["likers", "n", "cats"]), "2\t2000\n");
}

#[test]
fn dumped_likes_replay_into_an_equal_namespace_whatever_its_horizon() {
    let fixture = Fixture::new();
    let items = [&b"a,\"b\""[..], b"two\nlines", b"\xff\x00", b"plain", b"\r", b" ", b"time_ms"];
    let store = Store::open(&fixture.store).unwrap();
    let options = LikeOptions { viewers: ViewerIds::U128, ..LikeOptions::default() };
    let likes = store.likes_with("n", options).unwrap();
    for (item, n) in items.into_iter().cycle().zip(0..50_u64) {
        likes.like_at(item, u128::from(n % 9) << (n % 2 * 90), 1_000_000 * (50 - n)).unwrap();
    }
    likes.unlike_at("plain", 3_u64, 48_000_000).unwrap();
    store.close().unwrap();

    let dump = || run(&fixture.on_store(&["dump", "n", "--edges"])).stdout;
    let dumped = dump();
    assert!(dumped.starts_with(b"time_ms,item,viewer,action\n"));
    let other = Fixture::new();
    let file = other.write("h.csv", &dumped);
    let summary = printed(&other.replay(&file, &["--viewers", "u128", "--horizon", "1ms", "--batch", "3"]));
    assert!(summary.ends_with(", 0 taken back, 0 absorbed, 0 too old and not applied\n"), "{summary}");
    assert_eq!(run(&other.on_store(&["dump", "n", "--edges"])).stdout, dumped);
    assert_eq!((other.dump("n"), dump()), (fixture.dump("n"), dumped));
}

#[test]
fn a_replayed_queue_is_harmless_and_tells_of_what_is_too_old() {
    let fixture = filled();
    let again = replayed(&fixture, ROWS, &["--source", "again"]);
    assert!(again.ends_with("\n0 new likes, 0 taken back, 7 absorbed, 0 too old and not applied\n"), "{again}");
    assert_eq!(fixture.dump("n"), "cats\t2\ndogs\t1\n");

    let fixture = Fixture::new();
    let years: String = (0..10_u64).map(|year| format!("{},cats,{year},like\n", year * 31_536_000_000)).collect();
    for batch in ["1", "1000"] {
        let summary = replayed(&fixture, &years, &["--source", batch, "--batch", batch]);
        let expected = if batch == "1" {
            "10 new likes, 0 taken back, 0 absorbed, 0"
        } else {
            "0 new likes, 0 taken back, 1 absorbed, 9"
        };
        assert!(summary.contains(expected), "{summary}");
        assert_eq!((fixture.dump("n"), fixture.position(batch)), ("cats\t10\n".to_owned(), 10));
    }
}

#[test]
fn a_row_that_is_no_like_stops_with_its_place_and_keeps_the_batches_before() {
    let bad_rows = [
        ("1,a,7,liked", "line 4, column 4 (action): expected like or unlike, found \"liked\""),
        ("1,a,7,Like", "line 4, column 4 (action): expected like or unlike, found \"Like\""),
        ("1,a,-7,like", "line 4, column 3 (viewer): expected a viewer, as a number of 64 bits or a UUID, found \"-7\""),
        (
            "1,a,67e55044-10b1-426f-9247-bb680e5fe0c8,like",
            "line 4, column 3 (viewer): expected a viewer of 64 bits, for",
        ),
        ("-1,a,7,like", "line 4, column 1 (time_ms): expected a time in milliseconds from 0 to 140,737,488,355,327"),
        ("140737488355328,a,7,like", "line 4, column 1 (time_ms): expected a time in milliseconds from 0 to"),
        ("1,,7,like", "line 4, column 2 (item): expected an item of 1 to 1,024 bytes, found 0 bytes"),
        ("1,a,7", "line 4, column 4 (action): expected an action, found the end of the row"),
        ("1,a,1", "line 4, column 4 (action): expected an action, found the end of the row"),
        ("1,a,7,like,more", "line 4, column 5: expected the end of the row, found \"more\""),
    ];
    for (row, expected) in bad_rows {
        let fixture = Fixture::new();
        let file = fixture.write("h.csv", format!("{HEADER}1,a,1,like\n2,a,2,like\n{row}\n"));
        let output = run(&fixture.replay(file, &["--batch", "2"]));
        assert_eq!(status(&output), 1);
        let message = stderr(&output);
        assert!(message.contains("h.csv, ") && message.contains(expected), "{message}");
        assert!(stdout(&output).starts_with("2 events"), "{}", stdout(&output));
        assert_eq!((fixture.dump("n"), fixture.position("h.csv")), ("a\t2\n".to_owned(), 2));
    }
    // A row of a like in a file of counts.
    let fixture = Fixture::new();
    let output = run(&fixture.replay(fixture.write("h.csv", history(1) + "1,a,7,like\n"), &[]));
    let expected = "h.csv, line 3, column 4: expected the end of the row, found \"like\"";
    assert!(stderr(&output).contains(expected), "{}", stderr(&output));
}

#[test]
fn the_options_of_a_namespace_are_those_of_its_creation() {
    let fixture = Fixture::new();
    let row = format!("1,a,{UUID},like\n");
    replayed(&fixture, &row, &["--viewers", "u128", "--horizon", "12h"]);
    assert_eq!(on(&fixture, &["likers", "n", "a"]), format!("{UUID}\t1\n"));
    replayed(&fixture, &row, &["--viewers", "u128"]);
    replayed(&fixture, &row, &[]);
    for option in [["--viewers", "u64"], ["--horizon", "7d"]] {
        let output = run(&fixture.replay(fixture.path("h.csv"), &option));
        assert_eq!(status(&output), 1);
        let expected = "namespace \"n\" was created with viewers of 128 bits, horizon 43200s, and ";
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
    let stat = on(&fixture, &["stat"]);
    assert!(stat.contains("1  n               1 like by viewers of 128 bits, horizon 12h\n"), "{stat}");

    for option in [["--viewers", "u8"], ["--horizon", "12"]] {
        assert_eq!(status(&run(&fixture.replay(fixture.path("h.csv"), &option))), 2);
    }
    let fresh = Fixture::new();
    let output = run(&fresh.replay(fresh.write("h.csv", history(1)), &["--horizon", "1d"]));
    assert_eq!(stderr(&output), "plaudit: --viewers and --horizon are of likes, and the file has counts\n");
    assert!(!fresh.store.exists());
}

#[test]
fn counts_and_likes_are_not_mixed_up() {
    let fixture = filled();
    fixture.fill("counts", &[(b"a", 1)]);
    let [counts, likes] = [("counts.csv", history(3)), ("likes.csv", format!("{HEADER}{ROWS}"))]
        .map(|(name, text)| fixture.write(name, text).into_os_string().into_string().unwrap());
    let of_likes = "namespace \"n\" was created for likes, and counters were asked for";
    let of_counters = "namespace \"counts\" was created for counters, and likes were asked for";
    let wrong: [(&[&str], &str); 7] = [
        (&["add", "cats", "1", "--namespace", "n"], of_likes),
        (&["replay", &counts, "--namespace", "n"], of_likes),
        (&["replay", &likes, "--namespace", "counts"], of_counters),
        (&["likers", "counts", "a"], of_counters),
        (&["liked-by", "counts", "7"], of_counters),
        (&["forget-viewer", "counts", "7"], of_counters),
        (&["dump", "counts", "--edges"], of_counters),
    ];
    for (args, expected) in wrong {
        let output = run(&fixture.on_store(args));
        assert_eq!((status(&output), stdout(&output)), (1, ""), "{args:?}");
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
    assert_eq!((fixture.dump("n"), fixture.dump("counts")), ("cats\t2\ndogs\t1\n".to_owned(), "a\t1\n".to_owned()));
}

#[test]
fn stat_verify_and_compact_tell_of_likes() {
    let fixture = filled();
    assert!(on(&fixture, &["verify"]).contains("recounted n: 3 likes of 2 items, and each viewer's\n"));
    assert!(on(&fixture, &["compact"]).contains("4 counters and 3 likes in "));
    assert!(on(&fixture, &["verify"]).contains("4 counters and 4 edges in "));
    let stat = on(&fixture, &["stat"]);
    assert!(stat.contains("2  n               3 likes by viewers of 64 bits, horizon 7d\n"), "{stat}");

    let json = |args: &[&str]| -> Value { serde_json::from_str(&on(&fixture, &[args, &["--json"]].concat())).unwrap() };
    let stat = json(&["stat"]);
    let expected = json!({ "name": "n", "items": 2, "likes": 3, "viewer_bits": 64, "horizon_ms": 604_800_000 });
    assert_eq!((&stat["likes"], &stat["namespaces"][0]), (&json!(3), &expected));
    let verified = json(&["verify"]);
    assert_eq!(verified["likes"], json!([{ "name": "n", "items": 2, "likes": 3 }]));
    assert_eq!(verified["generations"][0]["edges"], 4);
}

#[test]
fn a_replay_of_likes_goes_on_where_it_stopped_and_only_in_the_same_file() {
    let fixture = Fixture::new();
    let all = format!("{HEADER}{ROWS}").replace(",3,", ",30,");
    let file = fixture.write("h.csv", &all);
    for (limit, dump) in [("4", "cats\t2\ndogs\t1\n"), ("1", "cats\t3\ndogs\t1\n"), ("9", "cats\t2\ndogs\t1\n")] {
        printed(&fixture.replay(&file, &["--limit", limit, "--batch", "2"]));
        assert_eq!(fixture.dump("n"), dump);
    }
    assert_eq!(fixture.position("h.csv"), 7);
    for (from, to) in [("30,unlike", "30,like"), ("cats,30,like", "cats,31,like"), ("cats,30,unlike", "cats3,0,unlike")]
    {
        fs::write(&file, all.replace(from, to)).unwrap();
        let args: Vec<OsString> = fixture.replay(&file, &[]);
        assert!(stderr(&run(&args)).contains("does not begin with the 7 events"), "{to}");
    }
}
