//! Namespaces: found, created, listed and dropped.

use super::Engine;
use crate::error::{Error, Result};
use crate::limits::MAX_NAMESPACES;
use crate::manifest::{self, Manifest, Namespace, NamespaceKind};
use crate::shard::NamespaceId;

impl Engine {
    pub(crate) fn open_namespace(&self, name: &str, kind: NamespaceKind) -> Result<Namespace> {
        manifest::check_name(name)?;
        kind.validate()?;
        self.check_running()?;
        // Two callers may come to create the same name, and the second finds what the first created.
        let opened = match self.find_namespace(name) {
            Some(found) => found,
            None => self.update_manifest(|manifest| self.create_namespace(manifest, name, kind))??,
        };
        opened.check_is(&kind).map(|()| opened)
    }

    /// Gives the namespace its place in the shards while the manifest is locked, so that nobody can find it before.
    fn create_namespace(&self, manifest: &mut Manifest, name: &str, kind: NamespaceKind) -> Result<Namespace> {
        if let Some(found) = manifest.namespace(name) {
            return Ok(found.clone());
        }
        let id = NamespaceId::try_from(manifest.next_namespace)
            .map_err(|_| Error::TooManyNamespaces { limit: MAX_NAMESPACES })?;
        let namespace = Namespace { id, name: name.into(), kind };
        manifest.next_namespace += 1;
        manifest.namespaces.push(namespace.clone());
        self.shared.shards.add_namespace(id, namespace.like_rules());
        self.shared.subscribers.name(id, namespace.name.clone());
        Ok(namespace)
    }

    pub(crate) fn existing_namespace(&self, name: &str) -> Result<Namespace> {
        self.check_running()?;
        self.find_namespace(name).ok_or_else(|| Error::NoSuchNamespace { name: name.to_owned() })
    }

    fn find_namespace(&self, name: &str) -> Option<Namespace> {
        self.shared.manifest.read(|manifest| manifest.namespace(name).cloned())
    }

    pub(crate) fn namespaces(&self) -> Vec<Namespace> {
        let mut namespaces = self.shared.manifest.read(|manifest| manifest.namespaces.clone());
        namespaces.sort_by(|a, b| a.name.cmp(&b.name));
        namespaces
    }

    pub(crate) fn drop_namespace(&self, name: &str) -> Result<()> {
        let dropped = self.existing_namespace(name)?;
        self.update_manifest(|manifest| manifest.namespaces.retain(|namespace| namespace.id != dropped.id))?;
        self.shared.shards.drop_namespace(dropped.id);
        Ok(())
    }
}
