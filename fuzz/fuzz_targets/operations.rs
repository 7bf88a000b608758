#![no_main]

#[path = "../properties/memory.rs"]
mod memory;
#[path = "../properties/operations.rs"]
mod operations;

libfuzzer_sys::fuzz_target!(|data: &[u8]| operations::operations(data));
