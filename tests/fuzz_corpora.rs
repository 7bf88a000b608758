//! What the fuzzer looks for is looked for in every input that it has kept, without the fuzzer: fuzz/corpus has the
//! inputs, fuzz/README.md tells how to go on from them.
//!
//! `PLAUDIT_WRITE_SEEDS=1 cargo test --test fuzz_corpora` writes the inputs that a fuzzer starts from: what a real
//! store has on disk.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../fuzz/properties/csv.rs"]
mod csv;
// The rows' reader finds it at the root of its crate.
#[path = "../src/bin/plaudit/human.rs"]
#[allow(dead_code, reason = "only the words for a bad row are used")]
mod human;
#[path = "../fuzz/properties/memory.rs"]
mod memory;
#[path = "../fuzz/properties/operations.rs"]
mod operations;
mod support;

use std::fs;
use std::path::{Path, PathBuf};

use plaudit::fuzzing::{self, Stored};
use plaudit::{CounterOptions, Options};
use support::{ROOT, Random, World, options};

type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 7] = [
    ("frames", fuzzing::frames),
    ("segments", fuzzing::segments),
    ("blocks", fuzzing::blocks),
    ("manifest", fuzzing::manifest),
    ("directory", fuzzing::directory),
    ("csv", csv::csv),
    ("operations", operations::operations),
];

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn replay(target: &str) {
    let (_, check) = TARGETS.iter().find(|(name, _)| *name == target).unwrap();
    let mut inputs: Vec<_> = fs::read_dir(corpus(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    inputs.sort();
    for input in &inputs {
        println!("cargo fuzz run -s none {target} {}", input.display());
        check(&fs::read(input).unwrap());
    }
    println!("{target}: {} inputs", inputs.len());
    assert!(inputs.len() >= 10, "{target} has few inputs");
}

#[test]
fn frames_and_bodies_of_the_corpus_come_back_or_are_refused() {
    replay("frames");
}

#[test]
fn segments_of_the_corpus_are_read_whole_or_refused() {
    replay("segments");
}

#[test]
fn blocks_and_generations_of_the_corpus_are_read_whole_or_refused() {
    replay("blocks");
}

#[test]
fn manifests_of_the_corpus_come_back_or_are_refused() {
    replay("manifest");
}

#[test]
fn directories_of_the_corpus_open_to_counts_that_last_or_are_refused_and_left_as_they_are() {
    replay("directory");
}

#[test]
fn rows_of_the_corpus_are_events_or_refused_with_their_line() {
    replay("csv");
}

#[test]
fn operations_of_the_corpus_agree_with_a_plain_map() {
    replay("operations");
}

/// A store with everything that the formats know, at three moments of its life.
fn stores() -> Vec<Vec<Stored>> {
    let world = World::new();
    let mut stores = Vec::new();
    for life in 0..3 {
        let store = world.open_with(Options { segment_bytes: 4_096, ..options() }).unwrap();
        let free = store.counters("likes").unwrap();
        let bounds = CounterOptions { min: -5, max: 1 << 40, at_bound: plaudit::AtBound::Clamp };
        let bounded = store.counters_with("bounded", bounds).unwrap();
        let dropped = store.counters("dropped").unwrap();
        for n in 0..6 {
            free.add(format!("video-{n}"), n + life).unwrap();
            free.add("-".repeat(200 + n as usize), 1).unwrap();
            bounded.set([n as u8 + 1], i64::MAX >> (6 * n)).unwrap();
            dropped.add("gone", -1).unwrap();
            store.sync().unwrap();
            free.remove(format!("video-{}", n - 2)).unwrap();
        }
        store.drop_namespace("dropped").unwrap();
        if life > 0 {
            store.compact().unwrap();
            free.add("after", 1).unwrap();
        }
        store.sync().unwrap();
        stores.push(files(&world));
        store.close().unwrap();
        stores.push(files(&world));
    }
    stores
}

fn files(world: &World) -> Vec<Stored> {
    let stored = |(path, bytes): (PathBuf, _)| Stored { path: path.strip_prefix(ROOT).unwrap().to_owned(), bytes };
    world.files().into_iter().map(stored).collect()
}

/// What a run that ended early leaves beside a store.
fn leftovers() -> [Stored; 2] {
    ["log/00000000000000000001.log.tmp", "snapshot/00000000000000000001.tmp"]
        .map(|path| Stored { path: path.into(), bytes: b"unfinished".to_vec() })
}

/// The inputs that a target starts from.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let all: Vec<Stored> = stores().into_iter().flatten().collect();
    let of = |suffix: &'static str| {
        let named = move |stored: &&Stored| stored.path.to_string_lossy().ends_with(suffix);
        all.iter().filter(named).map(|stored| stored.bytes.as_slice())
    };
    match target {
        "frames" => {
            let bodies = [false, true].map(fuzzing::body_of_likes);
            let of_likes: Vec<_> = bodies.iter().map(|body| frame(body)).collect();
            let frames = of(".log").map(|segment| without_zeros(&segment[64..]).to_vec());
            frames.chain(bodies).chain(of_likes).collect()
        }
        "segments" => of(".log")
            .enumerate()
            .map(|(n, segment)| {
                let content = without_zeros(segment);
                let zeros = (segment.len() - content.len()) as u16;
                let script = [&zeros.to_le_bytes()[..], &[(n * 40) as u8, (n % 8) as u8, (n % 3) as u8, 0]].concat();
                [&script, content].concat()
            })
            .collect(),
        "blocks" => {
            let generations = of(".snap").map(|file| [&[2, 9, 1, 1, 255], file].concat());
            let blocks = of(".snap").map(|file| [&[0], &file[24..file.len() - 8]].concat());
            let edges = [false, true].map(fuzzing::block_of_edges);
            let edges = [
                [&[0][..], &edges[0]].concat(),
                [&[0][..], &edges[1]].concat(),
                // Both in one generation, behind what makes it right and the header.
                [&[2, 9, 1, 1, 255][..], &[0; 24], &edges[0], &edges[1]].concat(),
            ];
            let lists =
                [[&[3][..], b"PLDTSUMS\x01\0\0\0\x01\0\0\0\0\0\0\0\x01\0\0\0\x02\0db", &[3], &[0; 15]].concat()];
            generations.chain(blocks).chain(edges).chain(lists).collect()
        }
        "manifest" => of("MANIFEST").map(<[u8]>::to_vec).chain([fuzzing::manifest_of_likes()]).collect(),
        "directory" => stores().iter().map(|files| fuzzing::pack(&[&files[..], &leftovers()].concat())).collect(),
        "csv" => [
            // The first character says whether a header is put before the rest.
            "01,a,1\n2,b,-3\n",
            "01,\"a \"\"quoted\"\" key\",9223372036854775807\r\n\r\n\n2,\"two\nlines\",0\n",
            "0noon,a,1\n",
            "01,,1\n",
            "01,a\n1,a,2,3\n",
            "1time_ms,key,delta\n1,a,1\n",
            "01,\"never closed,1\n",
            "21,a,7,like\n2,b,67e55044-10b1-426f-9247-bb680e5fe0c8,unlike\n",
            "21,\"a \"\"quoted\"\" item\",18446744073709551615,like\r\n140737488355327,\"two\nlines\",0,unlike\n",
            "21,a,7,liked\n",
            "21,a,7,unliked\n",
            "21,a,7\n",
            "2140737488355328,a,7,like\n",
            "1time_ms,item,viewer,action\n1,a,someone,like\n",
        ]
        .map(|text| text.as_bytes().to_vec())
        .to_vec(),
        _ => {
            let mut random = Random(1);
            let mut bytes = |n: u64, long: bool| -> Vec<u8> {
                let byte = |random: &mut Random| (random.word() >> (8 * random.below(8))) as u8;
                // An even byte may be where a list ends.
                let odd = |random: &mut Random| if long && random.below(9) > 0 { 1 } else { 0 };
                (0..n).map(|_| byte(&mut random) | odd(&mut random)).collect()
            };
            let short: Vec<_> = (1..9).map(|n| bytes(n * 80, false)).collect();
            short.into_iter().chain((1..13).map(|n| bytes(n * 70, true))).collect()
        }
    }
}

/// A frame of this body, before its checksums are made right.
fn frame(body: &[u8]) -> Vec<u8> {
    let header = [&[0; 8][..], &(body.len() as u64).to_le_bytes(), &[0; 32]].concat();
    [&header[..], body, &vec![0; body.len().next_multiple_of(8) - body.len()]].concat()
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1)]
}

#[test]
fn what_a_real_store_has_on_disk_passes() {
    for (target, check) in TARGETS {
        for (seed, n) in seeds(target).into_iter().zip(0..) {
            check(&seed);
            if std::env::var_os("PLAUDIT_WRITE_SEEDS").is_some() {
                fs::create_dir_all(corpus(target)).unwrap();
                fs::write(corpus(target).join(format!("seed-{n:02}")), seed).unwrap();
            }
        }
    }
}

#[test]
fn a_length_that_nothing_can_have_allocates_nothing() {
    // The allocator ends the process when one of these lengths is believed.
    let mut inputs = 0;
    for hostile in (0..64).step_by(3).map(|shift| (1_u64 << shift).to_le_bytes()) {
        for mut input in seeds("segments").into_iter().take(3) {
            // Behind the script and the segment's header: the first frame's length, and that it is left as it is.
            let frame = 6 + 64;
            input[frame + 8..frame + 16].copy_from_slice(&hostile);
            input[frame + 31] = 1;
            fuzzing::segments(&input);
            inputs += 1;
        }
        for (target, check) in [("blocks", fuzzing::blocks as fn(&[u8])), ("manifest", fuzzing::manifest)] {
            for seed in seeds(target).into_iter().step_by(3) {
                // The counts and lengths of the first block, and most of a manifest's.
                for at in (0..seed.len().min(160) - 8).step_by(2) {
                    let mut input = seed.clone();
                    input[at..at + 8].copy_from_slice(&hostile);
                    check(&input);
                    inputs += 1;
                }
            }
        }
    }
    println!("{inputs} inputs with lengths from 1 to 2^63");
}
