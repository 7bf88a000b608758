#![no_main]

#[path = "../properties/csv.rs"]
mod csv;
#[path = "../properties/memory.rs"]
mod memory;
// The rows' reader finds it at the root of its crate.
#[path = "../../src/bin/plaudit/human.rs"]
#[allow(dead_code, reason = "only the words for a bad row are used")]
mod human;

libfuzzer_sys::fuzz_target!(|data: &[u8]| csv::csv(data));
