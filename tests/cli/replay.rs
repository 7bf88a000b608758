//! What `plaudit replay` counts, where it goes on, and what it says of a source that is not what it should be.

use std::fs;
use std::io::Write as _;
use std::process::Stdio;

use crate::{Fixture, history, history_counted, plaudit, printed, run, status, stderr, stdout};

#[test]
fn a_replay_of_a_missing_or_headless_file_creates_no_store() {
    let fixture = Fixture::new();
    let output = run(&fixture.replay(fixture.path("missing.csv"), &[]));
    assert_eq!(status(&output), 1);
    assert!(stderr(&output).contains("missing.csv: No such file"), "{}", stderr(&output));

    let headers = [
        ("", "expected the header time_ms,key,delta or time_ms,item,viewer,action, found the end of the file"),
        ("1,a,1\n", "action, found \"1,a,1\""),
        ("key,delta\n", "found \"key,delta\""),
    ];
    for (content, expected) in headers {
        let output = run(&fixture.replay(fixture.write("bad.csv", content), &[]));
        assert_eq!(status(&output), 1);
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
    assert!(!fixture.store.exists());
}

#[test]
fn every_compression_and_standard_input_count_the_same() {
    let text = history(5_000);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(text.as_bytes()).unwrap();
    let files: [(&str, Vec<u8>); 3] = [
        ("h.csv", text.clone().into_bytes()),
        ("h.csv.gz", gz.finish().unwrap()),
        ("h.csv.zst", zstd::encode_all(text.as_bytes(), 1).unwrap()),
    ];
    for (name, content) in files {
        let fixture = Fixture::new();
        let summary = printed(&fixture.replay(fixture.write(name, content), &[]));
        assert!(summary.starts_with("5,000 events in "), "{summary}");
        assert!(summary.ends_with(", 7 keys in namespace n\n"), "{summary}");
        assert_eq!(fixture.dump("n"), history_counted(5_000), "{name}");
        assert_eq!(fixture.position(name), 5_000);
    }

    let fixture = Fixture::new();
    let mut child = plaudit(&fixture.replay("-", &[])).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(fixture.dump("n"), history_counted(5_000));
    assert_eq!(fixture.position("-"), 5_000);
}

#[test]
fn a_replay_goes_on_where_it_stopped() {
    let fixture = Fixture::new();
    let file = fixture.write("h.csv", history(3_333));
    let mut position = 0;
    for limit in [1, 999, 1_500] {
        printed(&fixture.replay(&file, &["--limit", &limit.to_string(), "--batch", "100"]));
        position += limit;
        assert_eq!(fixture.dump("n"), history_counted(position));
        assert_eq!(fixture.position("h.csv"), position);
    }
    printed(&fixture.replay(&file, &[]));
    assert_eq!(fixture.dump("n"), history_counted(3_333));
    let summary = printed(&fixture.replay(&file, &[]));
    assert!(summary.starts_with("0 events"), "{summary}");
    assert_eq!(fixture.dump("n"), history_counted(3_333));
}

#[test]
fn a_batch_takes_as_many_events_as_the_help_says() {
    let fixture = Fixture::new();
    let rows = "1,a,1\n".repeat(1_048_575);
    let file = fixture.write("h.csv", format!("time_ms,key,delta\n{rows}"));
    for size in ["0", "1048575", "-1", "many"] {
        let output = run(&fixture.replay(&file, &[&format!("--batch={size}")]));
        assert_eq!(status(&output), 2);
        let message = stderr(&output);
        assert!(message.contains("a whole number from 1 to 1,048,574 is expected"), "{message}");
    }
    assert!(printed(&["replay", "--help"]).contains("1 to 1,048,574"));
    printed(&fixture.replay(&file, &["--batch", "1048574"]));
    assert_eq!((fixture.dump("n"), fixture.position("h.csv")), ("a\t1048575\n".to_owned(), 1_048_575));
}

#[test]
fn sources_have_positions_of_their_own() {
    let fixture = Fixture::new();
    let file = fixture.write("h.csv", history(10));
    printed(&fixture.replay(&file, &["--source", "monday"]));
    printed(&fixture.replay(&file, &["--source", "tuesday", "--limit", "4"]));
    assert_eq!(["monday", "tuesday"].map(|name| fixture.position(name)), [10, 4]);
}

#[test]
fn acks_grow_to_the_number_of_events() {
    let fixture = Fixture::new();
    let (file, acks) = (fixture.write("h.csv", history(2_500)), fixture.path("acks"));
    let with_acks = ["--batch", "10", "--acks", acks.to_str().unwrap()];
    printed(&fixture.replay(&file, &[&with_acks[..], &["--limit", "1500"]].concat()));
    let read =
        || -> Vec<u64> { fs::read_to_string(&acks).unwrap().lines().map(|line| line.parse().unwrap()).collect() };
    assert_eq!(read().last(), Some(&1_500));
    printed(&fixture.replay(&file, &with_acks));
    assert_eq!(read().last(), Some(&2_500));
    assert!(read().is_sorted_by(|earlier, later| earlier < later), "{:?}", read());
}

#[test]
fn acks_tell_the_position_when_there_was_nothing_to_count_and_nothing_of_a_refused_file() {
    let fixture = Fixture::new();
    let acks = fixture.path("acks");
    let replay = |text: String| {
        let _ = fs::remove_file(&acks);
        run(&fixture.replay(fixture.write("h.csv", text), &["--acks", acks.to_str().unwrap()]));
        fs::read_to_string(&acks).unwrap()
    };
    assert_eq!(replay(history(0)), "0\n");
    assert_eq!(replay(history(20)), "20\n");
    assert_eq!(replay(history(20)), "20\n");
    assert_eq!(replay(history(19)), "");
}

#[test]
fn acks_appear_while_a_slow_source_is_open() {
    let fixture = Fixture::new();
    let acks = fixture.path("acks");
    let args = fixture.replay("-", &["--batch", "2", "--acks", acks.to_str().unwrap()]);
    let mut child = plaudit(&args).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"time_ms,key,delta\n1,a,1\n2,a,1\n3,a,1\n").unwrap();
    let started = std::time::Instant::now();
    while fs::read_to_string(&acks).unwrap_or_default() != "2\n" {
        assert!(started.elapsed().as_secs() < 30, "no line appeared");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
    assert_eq!(fs::read_to_string(&acks).unwrap(), "2\n3\n");
}

#[test]
fn a_row_that_is_no_event_stops_with_its_place_and_keeps_the_batches_before() {
    let long_key = format!("9,{},1", "k".repeat(1_025));
    let long_row = format!("9,{}1", "text,".repeat(2_000));
    let unclosed = format!("9,\"{}", "text,\n".repeat(2_000));
    let bad_rows = [
        ("9,a,many", "line 26, column 3 (delta): expected a whole number of 64 bits, found \"many\""),
        ("9,a,9223372036854775808", "line 26, column 3 (delta): expected a whole number of 64 bits, found"),
        ("9,a,", "line 26, column 3 (delta): expected a whole number of 64 bits, found \"\""),
        ("noon,a,1", "line 26, column 1 (time_ms): expected a time in milliseconds"),
        ("9,,1", "line 26, column 2 (key): expected a key of 1 to 1,024 bytes, found 0 bytes"),
        (&long_key, "line 26, column 2 (key): expected a key of 1 to 1,024 bytes, found 1,025 bytes"),
        ("9,a", "line 26, column 3 (delta): expected a delta, found the end of the row"),
        ("9,a,1,more", "line 26, column 4: expected the end of the row, found \"more\""),
        ("9,\"a\nb\",x", "line 26, column 3 (delta): expected a whole number of 64 bits, found \"x\""),
        (&long_row, "line 26: expected a row of at most 4,096 bytes, found a longer one"),
        (&unclosed, "line 26, column 2 (key): expected a closing quote, found none"),
        ("9,\"unclosed", "line 26, column 2 (key): expected a closing quote, found none"),
        ("9,\"a\"\",b", "line 26, column 2 (key): expected a closing quote, found none"),
        ("9,\"a\"\"\n\n,b\",\"1", "line 28, column 3 (delta): expected a closing quote, found none"),
    ];
    for (row, expected) in bad_rows {
        for ending in ["\n", "\r\n"] {
            let fixture = Fixture::new();
            let content = format!("{}{row}\n1,a,1\n", history(24)).replace('\n', ending);
            let output = run(&fixture.replay(fixture.write("bad.csv", content), &["--batch", "10"]));
            assert_eq!(status(&output), 1);
            let message = stderr(&output);
            assert!(message.contains("bad.csv, ") && message.contains(expected), "{message}");
            assert_eq!(message.lines().count(), 1, "{message}");
            assert!(stdout(&output).starts_with("20 events"), "{}", stdout(&output));
            assert_eq!(fixture.dump("n"), history_counted(20));
            assert_eq!(fixture.position("bad.csv"), 20);
        }
    }
}

#[test]
fn quotes_line_endings_and_empty_lines_are_understood() {
    let fixture = Fixture::new();
    let content = "time_ms,key,delta\r\n1,\"a,\"\"b\"\"\",1\r\n\r\n\n2,\"two\nlines\",2\n\"3\",c,\"-3\"\n4,c,+5";
    printed(&fixture.replay(fixture.write("q.csv", content), &[]));
    assert_eq!(fixture.dump("n"), "a,\"b\"\t1\nc\t2\ntwo\\nlines\t2\n");
}

#[test]
fn lines_are_counted_over_empty_lines_and_line_breaks_in_quotes() {
    let fixture = Fixture::new();
    let content = "time_ms,key,delta\r\n\r\n1,\"two\r\nlines\",1\r\n\r\n2,b,1\r\n\r\n3,c,x\r\n";
    let output = run(&fixture.replay(fixture.write("q.csv", content), &[]));
    assert!(stderr(&output).contains("q.csv, line 8, column 3 (delta)"), "{}", stderr(&output));
}

#[test]
fn a_file_that_ends_in_the_header_is_no_error() {
    let fixture = Fixture::new();
    let summary = printed(&fixture.replay(fixture.write("none.csv", "time_ms,key,delta"), &[]));
    assert!(summary.starts_with("0 events"), "{summary}");
    assert_eq!(fixture.dump("n"), "");
}

#[test]
fn a_refused_batch_names_its_lines_and_changes_nothing() {
    let fixture = Fixture::new();
    let content = format!("{}9,key-0,{}\n9,key-0,{}\n", history(25), i64::MAX, i64::MAX);
    let output = run(&fixture.replay(fixture.write("h.csv", content), &["--batch", "10"]));
    assert_eq!(status(&output), 1);
    assert!(stderr(&output).contains("h.csv, lines 22 to 28: cannot apply the batch: adding "), "{}", stderr(&output));
    assert!(stderr(&output).contains("does not fit 64 bits"), "{}", stderr(&output));
    assert_eq!(fixture.dump("n"), history_counted(20));
    assert_eq!(fixture.position("h.csv"), 20);
}

#[test]
fn a_file_that_does_not_begin_with_what_was_counted_is_refused_before_anything_is_applied() {
    let counted = history(20);
    let (another_time, another_key) = (counted.replace("1005,", "1006,"), counted.replace("key-3", "key-4"));
    let (another_delta, one_row_less) =
        (counted.replace("key-2,4", "key-2,3"), counted.replacen("1000,key-0,0\n", "", 1));
    let columns_elsewhere = counted.replace("1000,key-0,0", "1000k,ey-0,0");
    let others = [another_time, another_key, another_delta, one_row_less + "9,a,1\n", columns_elsewhere];
    let shorter = (history(19), "found only 19 events");
    for (other, found) in others.map(|other| (other, "found other ones")).into_iter().chain([shorter]) {
        let fixture = Fixture::new();
        printed(&fixture.replay(fixture.write("h.csv", &counted), &[]));
        assert_ne!(other, counted);
        let more = if found == "found other ones" { "9,new,1\n" } else { "" };
        let file = fixture.write("h.csv", other + more);
        let output = run(&fixture.replay(&file, &["--batch", "1"]));
        assert_eq!(status(&output), 1);
        let expected = format!(
            "{} does not begin with the 20 events that were counted as source \"h.csv\", {found}: ",
            file.display()
        );
        let message = stderr(&output);
        assert!(message.contains(&expected) && message.contains("--source NAME counts it from its start"), "{message}");
        assert_eq!((fixture.dump("n"), fixture.position("h.csv")), (history_counted(20), 20));
    }
}

#[test]
fn the_same_events_written_otherwise_go_on_where_they_stopped() {
    let all = history(30);
    let again: [(&str, String); 3] = [
        ("longer", all.clone()),
        ("line endings and empty lines", all.replace('\n', "\r\n\r\n")),
        ("quotes", all.replace("key-3", "\"key-3\"")),
    ];
    for (what, text) in again {
        let fixture = Fixture::new();
        let start = history(20);
        printed(&fixture.replay(fixture.write("h.csv", start.trim_end()), &["--batch", "3"]));
        printed(&fixture.replay(fixture.write("h.csv", text), &[]));
        assert_eq!(fixture.dump("n"), history_counted(30), "{what}");
    }
}

#[test]
fn one_file_is_counted_in_two_namespaces_with_a_position_in_each() {
    let fixture = Fixture::new();
    let file = fixture.write("h.csv", history(20));
    printed(&fixture.replay(&file, &["--limit", "7"]));
    printed(&fixture.on_store(&["replay", file.to_str().unwrap(), "--namespace", "m"]));
    assert_eq!((fixture.dump("n"), fixture.dump("m")), (history_counted(7), history_counted(20)));
    printed(&fixture.replay(&file, &[]));
    assert_eq!(fixture.dump("n"), history_counted(20));
}

#[test]
fn a_compressed_file_that_was_cut_off_keeps_the_batches_before() {
    let fixture = Fixture::new();
    let whole = zstd::encode_all(history(200_000).as_bytes(), 1).unwrap();
    let cut = fixture.write("h.csv.zst", &whole[..whole.len() / 2]);
    let output = run(&fixture.replay(cut, &[]));
    assert_eq!(status(&output), 1);
    assert!(stderr(&output).contains("cannot read") && stderr(&output).contains("after line"), "{}", stderr(&output));

    let position = fixture.position("h.csv.zst");
    assert!(position > 0 && position.is_multiple_of(1_000), "{position}");
    assert_eq!(fixture.dump("n"), history_counted(position));
    printed(&fixture.replay(fixture.write("h.csv.zst", whole), &[]));
    assert_eq!(fixture.dump("n"), history_counted(200_000));
}
