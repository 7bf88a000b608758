//! What a namespace may be met with on disk.

use crate::edge::{Content, ViewerWidth};
use crate::manifest::Manifest;
use crate::shard::NamespaceId;

/// Which namespace numbers may be met on disk, and with what.
pub(crate) struct KnownNamespaces {
    namespaces: Vec<Known>,
}

#[derive(Debug, Clone, Copy)]
enum Known {
    Dropped,
    Counters,
    Likes(ViewerWidth),
}

impl KnownNamespaces {
    pub(crate) fn new(manifest: &Manifest) -> Self {
        let mut namespaces = vec![Known::Dropped; manifest.next_namespace as usize];
        for namespace in &manifest.namespaces {
            namespaces[usize::from(namespace.id)] = namespace.viewers().map_or(Known::Counters, Known::Likes);
        }
        Self { namespaces }
    }

    /// Whether the namespace exists; if not, it was dropped after the bytes were written. One of likes has counters
    /// too, which are the counts of its items.
    pub(crate) fn check(&self, namespace: NamespaceId, content: Content) -> Result<bool, &'static str> {
        let known = self.namespaces.get(usize::from(namespace)).ok_or("names a namespace that was never created")?;
        match (known, content) {
            (Known::Dropped, _) => Ok(false),
            (_, Content::Counters) => Ok(true),
            (Known::Counters, Content::Edges(_)) => Err("has likes of a namespace of counters"),
            (Known::Likes(width), Content::Edges(found)) if *width == found => Ok(true),
            (Known::Likes(_), Content::Edges(_)) => Err("has likes by viewers of another width than the namespace's"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Namespace, NamespaceKind};
    use crate::options::{CounterOptions, LikeOptions};

    #[test]
    fn what_is_met_of_a_namespace_must_be_what_it_is_of() {
        let [narrow, wide] = [ViewerWidth::Bits64, ViewerWidth::Bits128];
        let mut manifest = Manifest::new(1, 1);
        manifest.next_namespace = 3;
        let kinds = [
            NamespaceKind::Counters(CounterOptions::default()),
            NamespaceKind::Likes { options: LikeOptions::default(), newest_ms: 0 },
        ];
        for (id, kind) in (0..).zip(kinds) {
            manifest.namespaces.push(Namespace { id, name: "name".into(), kind });
        }
        let known = KnownNamespaces::new(&manifest);
        let found = |content| [0, 1, 2, 3].map(|namespace| known.check(namespace, content));
        let unknown = Err("names a namespace that was never created");
        assert_eq!(found(Content::Counters), [Ok(true), Ok(true), Ok(false), unknown]);
        let of_counters = Err("has likes of a namespace of counters");
        assert_eq!(found(Content::Edges(narrow)), [of_counters, Ok(true), Ok(false), unknown]);
        let of_another_width = Err("has likes by viewers of another width than the namespace's");
        assert_eq!(found(Content::Edges(wide)), [of_counters, of_another_width, Ok(false), unknown]);
    }
}
