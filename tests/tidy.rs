//! Habits that are kept by the tests: modules use only what stands below them, files stay short, nothing is left open.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

/// The modules from the top. A module uses only modules further down.
const ORDER: [&str; 30] = [
    "lib",
    "fuzzing",
    "store",
    "verify",
    "batch",
    "likes",
    "counters",
    "engine",
    "drive",
    "compaction",
    "recovery",
    "directory",
    "receipt",
    "commit",
    "manifest",
    "subscription",
    "stats",
    "shard",
    "log",
    "snapshot",
    "edge",
    "hash",
    "varint",
    "reuse",
    "storage",
    "clock",
    "options",
    "error",
    "limits",
    "sync",
];

const MAX_LINES_BEFORE_TESTS: usize = 500;
const MAX_COLUMNS: usize = 120;

fn sources(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push((path, text));
        }
    }
    found
}

fn crate_sources() -> Vec<(PathBuf, String)> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let relative = |(path, text): (PathBuf, String)| (path.strip_prefix(&src).unwrap().to_owned(), text);
    sources(&src).into_iter().map(relative).collect()
}

/// The module at the top of the crate that a file belongs to; `None` for the command and for models.
fn module_of(path: &Path) -> Option<String> {
    let first = path.iter().next()?.to_str()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (name != "bin" && name != "models").then(|| name.to_owned())
}

fn without_tests(text: &str) -> &str {
    let tests = text.find("#[cfg(test)]\nmod tests {").unwrap_or(text.len());
    &text[..tests]
}

/// Every `crate::name` outside comments, also those of a `use crate::{...}` list.
fn used_modules(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let mut used = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let list = match rest.strip_prefix('{') {
            Some(list) => list.split('}').next().unwrap(),
            None => rest,
        };
        let names = if list.len() == rest.len() { vec![rest] } else { list.split(',').map(str::trim).collect() };
        for name in names {
            let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
            used.push(name[..end].to_owned());
        }
    }
    used
}

#[test]
fn a_module_uses_only_what_stands_below_it() {
    let place = |name: &str| ORDER.iter().position(|known| *known == name);
    let mut wrong = Vec::new();
    for (path, text) in crate_sources() {
        let Some(module) = module_of(&path).filter(|module| module != "lib") else { continue };
        let own = place(&module).unwrap_or_else(|| panic!("{module} has no place in ORDER"));
        // `Error`, `Result` and the limits are re-exported at the root; they stand near the bottom.
        let is_module = |name: &String| name.starts_with(char::is_lowercase) && *name != module;
        for used in used_modules(without_tests(&text)).into_iter().filter(is_module) {
            match place(&used) {
                Some(place) if place > own => {}
                _ => wrong.push(format!("{} uses {used}", path.display())),
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_fit_in_a_head() {
    for (path, text) in crate_sources().into_iter().filter(|(path, _)| !path.ends_with("tests.rs")) {
        let lines = without_tests(&text).lines().count();
        assert!(lines <= MAX_LINES_BEFORE_TESTS, "{} has {lines} lines", path.display());
    }
}

#[test]
fn nothing_is_left_open_and_comments_are_wrapped() {
    // Put together here, so that this file does not name them.
    let open =
        [["TO", "DO"], ["FIX", "ME"], ["X", "XX"], ["todo", "!("], ["#[ign", "ore"]].map(|halves| halves.concat());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dirs = ["src", "tests", "benches", "examples", "fuzz"].map(|dir| root.join(dir));
    for (path, text) in dirs.iter().filter(|dir| dir.is_dir()).flat_map(|dir| sources(dir)) {
        if path.components().any(|part| part.as_os_str() == "target") {
            continue;
        }
        for (line, number) in text.lines().zip(1..) {
            let left = open.iter().find(|word| line.contains(word.as_str()));
            assert!(left.is_none(), "{}:{number}: {line}", path.display());
            // rustfmt keeps the length of code, and leaves comments alone.
            let is_comment = line.trim_start().starts_with("//") && !line.contains("| "); // a table row cannot be wrapped
            let is_long_comment = is_comment && line.chars().count() > MAX_COLUMNS;
            assert!(!is_long_comment, "{}:{number} is too long", path.display());
        }
    }
}

#[test]
fn documents_are_wrapped() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // The crate as it is published lacks the fuzzer's.
    let documents = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "fuzz/README.md"].map(|name| root.join(name));
    for path in documents.iter().filter(|path| path.exists()) {
        for (line, number) in fs::read_to_string(path).unwrap().lines().zip(1..) {
            // A table row cannot be wrapped.
            let is_long = line.chars().count() > MAX_COLUMNS && !line.starts_with('|');
            assert!(!is_long, "{}:{number} is too long", path.display());
        }
    }
}
