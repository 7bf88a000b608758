//! What the manifest says of a namespace. The grammar is at the top of the manifest's file.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Fields;
use crate::edge::ViewerWidth;
use crate::error::{Error, Result};
use crate::options::{AtBound, CounterOptions, LikeOptions, ViewerIds};
use crate::shard::NamespaceId;

/// The longest name of a namespace, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 255;

/// A named set of counters or of likes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Namespace {
    pub(crate) id: NamespaceId,
    pub(crate) name: Arc<str>,
    pub(crate) kind: NamespaceKind,
}

/// What a namespace is a set of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamespaceKind {
    /// Counters.
    Counters(CounterOptions),
    /// Items, each with a count and its likes.
    Likes {
        options: LikeOptions,
        /// The newest time of an event that counted towards the horizon when the newest generation was published.
        newest_ms: u64,
    },
}

impl Namespace {
    /// Between which bounds its counts stay, and what happens at them.
    pub(crate) fn bounds(&self) -> &CounterOptions {
        const OF_ITEMS: &CounterOptions = &CounterOptions { min: 0, max: i64::MAX, at_bound: AtBound::Reject };
        match &self.kind {
            NamespaceKind::Counters(options) => options,
            NamespaceKind::Likes { .. } => OF_ITEMS,
        }
    }

    /// How wide the viewers are who like its items; `None` for counters, which have none.
    pub(crate) fn viewers(&self) -> Option<ViewerWidth> {
        match self.kind {
            NamespaceKind::Counters(_) => None,
            NamespaceKind::Likes { options, .. } => Some(options.viewers.into()),
        }
    }

    /// Whether it is what a caller asks for.
    pub(crate) fn check_is(&self, requested: &NamespaceKind) -> Result<()> {
        match (&self.kind, requested) {
            (NamespaceKind::Counters(stored), NamespaceKind::Counters(requested)) => self.check_same(stored, requested),
            (NamespaceKind::Likes { options: stored, .. }, NamespaceKind::Likes { options: requested, .. }) => {
                self.check_same(stored, requested)
            }
            (_, requested) => Err(self.is_not(requested.noun())),
        }
    }

    /// Whether it is one of counters, whatever its options.
    pub(crate) fn check_is_of_counters(&self) -> Result<()> {
        match self.kind {
            NamespaceKind::Counters(_) => Ok(()),
            NamespaceKind::Likes { .. } => Err(self.is_not(OF_COUNTERS)),
        }
    }

    fn check_same<T: PartialEq + fmt::Display>(&self, stored: &T, requested: &T) -> Result<()> {
        if stored == requested {
            return Ok(());
        }
        let (stored, requested) = (stored.to_string(), requested.to_string());
        Err(Error::NamespaceOptions { namespace: self.name.to_string(), stored, requested })
    }

    fn is_not(&self, requested: &'static str) -> Error {
        Error::NamespaceKind { namespace: self.name.to_string(), stored: self.kind.noun(), requested }
    }
}

const OF_COUNTERS: &str = "counters";
const OF_LIKES: &str = "likes";

const KIND_COUNTERS: u8 = 0;
const KIND_LIKES_64: u8 = 1;
const KIND_LIKES_128: u8 = 2;

/// The kind, at_bound, and two words.
const KIND_BYTES: usize = 2 + 2 * size_of::<u64>();

impl NamespaceKind {
    pub(crate) fn validate(&self) -> Result<()> {
        match self {
            Self::Counters(options) => options.validate(),
            Self::Likes { options, .. } => options.validate(),
        }
    }

    /// The newest time of an event; `None` for counters, which have no times.
    pub(super) fn newest_ms(&self) -> Option<u64> {
        match *self {
            Self::Counters(_) => None,
            Self::Likes { newest_ms, .. } => Some(newest_ms),
        }
    }

    fn noun(&self) -> &'static str {
        match self {
            Self::Counters(_) => OF_COUNTERS,
            Self::Likes { .. } => OF_LIKES,
        }
    }

    pub(super) fn encode(&self) -> [u8; KIND_BYTES] {
        let (kind, at_bound, words) = match *self {
            Self::Counters(CounterOptions { min, max, at_bound }) => {
                (KIND_COUNTERS, at_bound as u8, [min.to_le_bytes(), max.to_le_bytes()])
            }
            Self::Likes { options, newest_ms } => {
                let kind = match options.viewers {
                    ViewerIds::U64 => KIND_LIKES_64,
                    ViewerIds::U128 => KIND_LIKES_128,
                };
                (kind, 0, [options.horizon_ms().to_le_bytes(), newest_ms.to_le_bytes()])
            }
        };
        let mut bytes = [0; KIND_BYTES];
        bytes[..2].copy_from_slice(&[kind, at_bound]);
        bytes[2..].copy_from_slice(words.as_flattened());
        bytes
    }

    /// `None` when the kind, or what happens at a bound, is none that there is.
    pub(super) fn decode(bytes: &[u8; KIND_BYTES]) -> Option<Self> {
        let mut fields = Fields { bytes, at: 0 };
        let [kind, at_bound] = fields.array()?;
        let at_bound = match at_bound {
            0 => AtBound::Reject,
            1 if kind == KIND_COUNTERS => AtBound::Clamp,
            _ => return None,
        };
        let viewers = match kind {
            KIND_COUNTERS => {
                let (min, max) = (i64::from_le_bytes(fields.array()?), i64::from_le_bytes(fields.array()?));
                return Some(Self::Counters(CounterOptions { min, max, at_bound }));
            }
            KIND_LIKES_64 => ViewerIds::U64,
            KIND_LIKES_128 => ViewerIds::U128,
            _ => return None,
        };
        let (horizon, newest_ms) = (Duration::from_millis(fields.u64()?), fields.u64()?);
        Some(Self::Likes { options: LikeOptions { viewers, horizon }, newest_ms })
    }
}

/// Checks that a name can be a namespace's: it is stored with one byte for its length and printed in messages.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let fits = (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control);
    if fits {
        return Ok(());
    }
    Err(Error::NamespaceName { name: name.to_owned(), expected: "1 to 255 bytes without control characters" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_of_a_namespaces_kind_never_change() {
        let bounds = CounterOptions { min: -2, max: 3, at_bound: AtBound::Clamp };
        let golden = [0, 1, 254, 255, 255, 255, 255, 255, 255, 255, 3, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(NamespaceKind::Counters(bounds).encode(), golden);
        for (viewers, kind) in [(ViewerIds::U64, 1), (ViewerIds::U128, 2)] {
            let options = LikeOptions { viewers, horizon: Duration::from_millis(258) };
            let likes = NamespaceKind::Likes { options, newest_ms: 7 };
            let mut golden = [kind, 0, 2, 1, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0];
            assert_eq!(likes.encode(), golden);
            assert_eq!(NamespaceKind::decode(&golden), Some(likes));
            golden[1] = 1;
            assert_eq!(NamespaceKind::decode(&golden), None, "likes have no bound to stop at");
        }
        for (kind, at_bound) in [(0, 2), (3, 0), (255, 0)] {
            let mut bytes = [0; KIND_BYTES];
            bytes[..2].copy_from_slice(&[kind, at_bound]);
            assert_eq!(NamespaceKind::decode(&bytes), None);
        }
    }

    #[test]
    fn a_namespace_is_opened_as_what_it_was_created() {
        let likes = |viewers| LikeOptions { viewers, ..LikeOptions::default() };
        let named = |kind| Namespace { id: 1, name: "name".into(), kind };
        let counters = named(NamespaceKind::Counters(CounterOptions { min: 0, ..CounterOptions::default() }));
        let narrow = named(NamespaceKind::Likes { options: likes(ViewerIds::U64), newest_ms: 7 });
        let wide = named(NamespaceKind::Likes { options: likes(ViewerIds::U128), newest_ms: 0 });
        for namespace in [&counters, &narrow, &wide] {
            namespace.check_is(&namespace.kind).unwrap();
        }
        let likes_now = NamespaceKind::Likes { options: LikeOptions::default(), newest_ms: 0 };
        narrow.check_is(&likes_now).unwrap();
        assert!(matches!(wide.check_is(&likes_now), Err(Error::NamespaceOptions { .. })));
        let unbounded = NamespaceKind::Counters(CounterOptions::default());
        assert!(matches!(counters.check_is(&unbounded), Err(Error::NamespaceOptions { .. })));
        let refused = narrow.check_is(&unbounded).unwrap_err();
        assert!(matches!(refused, Error::NamespaceKind { stored: "likes", requested: "counters", .. }));
        let refused = counters.check_is(&likes_now).unwrap_err();
        assert!(matches!(refused, Error::NamespaceKind { stored: "counters", requested: "likes", .. }));
        counters.check_is_of_counters().unwrap();
        assert!(matches!(wide.check_is_of_counters(), Err(Error::NamespaceKind { .. })));
    }

    #[test]
    fn names_are_checked() {
        check_name("likes").unwrap();
        for bad in ["", "a\nb", &"x".repeat(256)] {
            assert!(check_name(bad).is_err());
        }
    }
}
