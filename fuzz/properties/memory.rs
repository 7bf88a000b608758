//! What is read may claim any length, and must not have memory allocated for what is not there.

use std::alloc::System;

use cap::Cap;

/// Many times of what any input needs. Whoever asks for more ends the process.
const MOST_BYTES: usize = 64 << 20;

#[global_allocator]
static ALLOCATOR: Cap<System> = Cap::new(System, MOST_BYTES);
