//! What must hold of any bytes that are found on a disk, for the fuzzer and for the tests that replay what it found.
//!
//! Each function takes the bytes that a fuzzer made up, and panics when a promise is broken. No part of the public
//! interface: it changes without notice.

mod directory;

pub use self::directory::{Stored, directory, pack};
pub use crate::log::fuzzing::{body_of_likes, frames, segments};
pub use crate::manifest::fuzzing::{manifest, manifest_of_likes};
pub use crate::snapshot::fuzzing::{block_of_edges, blocks};
