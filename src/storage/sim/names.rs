//! Directories of the simulated file system, and changes of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// Stands for a file or directory whatever its name is at the moment.
pub(super) type NodeId = u64;

pub(super) const ROOT: NodeId = 0;

/// Links that change together: a rename has two.
#[derive(Clone)]
pub(super) struct NameChange {
    pub(super) number: u64,
    pub(super) links: Vec<Link>,
}

/// What a name stands for from now on.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) directory: NodeId,
    pub(super) name: OsString,
    /// `None` removes the name.
    pub(super) node: Option<NodeId>,
}

/// Directories and what is in them.
#[derive(Clone)]
pub(super) struct Names(BTreeMap<NodeId, BTreeMap<OsString, NodeId>>);

impl Names {
    pub(super) fn new() -> Self {
        Self(BTreeMap::from([(ROOT, BTreeMap::new())]))
    }

    pub(super) fn add_directory(&mut self, node: NodeId) {
        self.0.insert(node, BTreeMap::new());
    }

    pub(super) fn retain(&mut self, mut keep: impl FnMut(NodeId) -> bool) {
        self.0.retain(|node, _| keep(*node));
    }

    /// What is in a directory; `None` when the node is none.
    pub(super) fn inside(&self, directory: NodeId) -> Option<&BTreeMap<OsString, NodeId>> {
        self.0.get(&directory)
    }

    pub(super) fn get(&self, directory: NodeId, name: &OsString) -> Option<NodeId> {
        self.0.get(&directory)?.get(name).copied()
    }

    pub(super) fn is_directory(&self, node: NodeId) -> bool {
        self.0.contains_key(&node)
    }

    /// Whatever has a name.
    pub(super) fn all(&self) -> impl Iterator<Item = NodeId> {
        self.0.values().flat_map(BTreeMap::values).copied()
    }

    pub(super) fn apply(&mut self, link: &Link) {
        if let Some(node) = link.node {
            // There are no hard links, so a node's new name ends its old one. After a power cut that lost one of two
            // renames of the same file, this is what keeps it from appearing twice.
            for names in self.0.values_mut() {
                names.retain(|_, named| *named != node);
            }
        }
        if let Some(names) = self.0.get_mut(&link.directory) {
            match link.node {
                Some(node) => names.insert(link.name.clone(), node),
                None => names.remove(&link.name),
            };
        }
    }

    /// Every file and directory that is reached from the root, with its path.
    pub(super) fn walk(&self) -> Vec<(NodeId, PathBuf)> {
        let mut found = vec![(ROOT, PathBuf::from("/"))];
        let mut next = 0;
        while let Some((node, path)) = found.get(next) {
            let names = self.0.get(node).into_iter().flatten();
            let inside: Vec<_> = names.map(|(name, node)| (*node, path.join(name))).collect();
            found.extend(inside);
            next += 1;
        }
        found
    }
}

/// The names that a path is made of, from the root on, where a relative path starts too.
pub(super) fn components(path: &Path) -> Vec<OsString> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.to_owned()),
            Component::ParentDir => drop(names.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    names
}
