#![no_main]

#[path = "../properties/memory.rs"]
mod memory;

libfuzzer_sys::fuzz_target!(|data: &[u8]| plaudit::fuzzing::manifest(data));
