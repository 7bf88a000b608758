//! Whatever a process, a user or a file system does to a store: it counts exactly, or says why not. Nobody hangs,
//! nothing is corrupted, and what was acknowledged is there.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod calls;
mod child;
mod clocks;
mod crowds;
mod hooked;
mod likes;
mod limits;
mod paths;
mod processes;
#[path = "../support/mod.rs"]
mod support;
