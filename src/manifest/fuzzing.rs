//! What must hold of any bytes that are read as a manifest.

use std::collections::HashSet;
use std::path::Path;

use super::{
    BODY_AT, CHECKSUM_BYTES, LENGTH_AT, MAGIC, Manifest, Namespace, NamespaceKind, VERSION, VERSION_AT, check_name,
};
use crate::error::Error;
use crate::limits::MAX_TIME_MS;
use crate::options::{CounterOptions, LikeOptions, ViewerIds};

/// Reads the bytes as a manifest, as they are and with the right length and checksum.
pub fn manifest(data: &[u8]) {
    check(data);
    let mut repaired = data.to_vec();
    repair(&mut repaired);
    check(&repaired);
}

/// A manifest with namespaces of counters and of likes.
#[must_use]
pub fn manifest_of_likes() -> Vec<u8> {
    let mut manifest = Manifest::new(7, 9);
    let likes = |viewers, newest_ms| NamespaceKind::Likes {
        options: LikeOptions { viewers, ..LikeOptions::default() },
        newest_ms,
    };
    let kinds = [
        ("views", NamespaceKind::Counters(CounterOptions::default())),
        ("likes", likes(ViewerIds::U64, 1_700_000_000_000)),
        ("votes", likes(ViewerIds::U128, 0)),
    ];
    for (id, (name, kind)) in (0..).zip(kinds) {
        manifest.namespaces.push(Namespace { id, name: name.into(), kind });
        manifest.next_namespace += 1;
    }
    manifest.encode()
}

/// What is accepted says nothing but what a store can have written.
fn check(bytes: &[u8]) {
    let manifest = match Manifest::decode(bytes, Path::new("MANIFEST")) {
        Ok(manifest) => manifest,
        Err(Error::Corrupt { offset, .. }) => return assert!(offset <= bytes.len() as u64),
        Err(Error::UnsupportedVersion { found, .. }) => return assert_ne!(found, VERSION),
        Err(error) => panic!("{error:?}"),
    };
    assert_eq!(manifest.encode(), bytes, "a manifest has one encoding");
    let (mut ids, mut names) = (HashSet::new(), HashSet::new());
    for namespace in &manifest.namespaces {
        check_name(&namespace.name).expect("a namespace has a name");
        namespace.kind.validate().expect("a namespace has options");
        assert!(namespace.kind.newest_ms().is_none_or(|newest_ms| newest_ms <= MAX_TIME_MS));
        assert!(ids.insert(namespace.id) && names.insert(&namespace.name), "a namespace is there once");
    }
}

/// Makes magic, version, length and checksum right, and leaves the body.
pub(crate) fn repair(bytes: &mut [u8]) {
    let Some(covered) = bytes.len().checked_sub(CHECKSUM_BYTES).filter(|&covered| covered >= BODY_AT) else { return };
    bytes[..VERSION_AT].copy_from_slice(&MAGIC);
    // A version that is not this one is met only at its last byte, so that most changes get behind it.
    bytes[VERSION_AT..LENGTH_AT - 1].copy_from_slice(&VERSION.to_le_bytes()[..3]);
    bytes[LENGTH_AT..BODY_AT].copy_from_slice(&((covered - BODY_AT) as u32).to_le_bytes());
    let checksum = crc32c::crc32c(&bytes[..covered]);
    bytes[covered..].copy_from_slice(&checksum.to_le_bytes());
}

/// Reads what [`repair`] made right.
pub(crate) fn decode(bytes: &[u8]) -> Option<Manifest> {
    Manifest::decode(bytes, Path::new("MANIFEST")).ok()
}

/// Writes a manifest that was changed.
pub(crate) fn encode(manifest: &Manifest) -> Vec<u8> {
    manifest.encode()
}
