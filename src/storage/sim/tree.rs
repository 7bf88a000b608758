//! The simulated file system: names and files, each as the process sees them and as they are on the medium.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::image::Image;
use super::names::{Link, NameChange, Names, NodeId, ROOT, components};
use super::survival::{Change, Lottery, Survival};
use crate::storage::Entry;

/// The largest length of a file, as on Linux.
const MAX_LEN: u64 = i64::MAX as u64;

pub(super) struct Tree {
    current: Names,
    durable: Names,
    files: BTreeMap<NodeId, File>,
    /// Changes of names since the directories were synced, in order.
    unsynced: Vec<NameChange>,
    capacity: Option<u64>,
    next_node: NodeId,
    next_number: u64,
}

struct File {
    current: Image,
    durable: Image,
    unsynced: Vec<FileChange>,
    /// How many handles are open: a file that lost its name lives on while there are any.
    handles: usize,
}

#[derive(Clone)]
struct FileChange {
    number: u64,
    change: Change,
}

impl Tree {
    pub(super) fn new() -> Self {
        Self {
            current: Names::new(),
            durable: Names::new(),
            files: BTreeMap::new(),
            unsynced: Vec::new(),
            capacity: None,
            next_node: ROOT + 1,
            next_number: 0,
        }
    }

    pub(super) fn set_capacity(&mut self, capacity: Option<u64>) {
        self.capacity = capacity;
    }

    /// What is found when the power comes back.
    pub(super) fn after_power_cut(&self, survival: Survival, seed: u64) -> Self {
        let unsynced_in_files = self.files.values().flat_map(|file| &file.unsynced).map(|change| change.number);
        let unsynced = self.unsynced.iter().map(|change| change.number).chain(unsynced_in_files).collect();
        let mut lottery = Lottery::new(survival, seed, unsynced);
        let mut names = self.durable.clone();
        for change in &self.unsynced {
            if lottery.keeps(change.number) {
                change.links.iter().for_each(|link| names.apply(link));
            }
        }
        let reached: BTreeSet<NodeId> = names.walk().into_iter().map(|(node, _)| node).collect();
        names.retain(|node| reached.contains(&node));
        let survivors = self.files.iter().filter(|(node, _)| reached.contains(node));
        let files = survivors.map(|(node, file)| (*node, file.after_power_cut(&mut lottery))).collect();
        Self { current: names.clone(), durable: names, files, unsynced: Vec::new(), ..*self }
    }

    /// What the next process finds when the one that has the files open is killed.
    pub(super) fn after_process_kill(&self) -> Self {
        let files = self.files.iter().map(|(node, file)| (*node, file.copy())).collect();
        let (current, durable, unsynced) = (self.current.clone(), self.durable.clone(), self.unsynced.clone());
        let mut tree = Self { current, durable, files, unsynced, ..*self };
        tree.forget_unreachable();
        tree
    }

    pub(super) fn node(&self, path: &Path) -> io::Result<NodeId> {
        let mut node = ROOT;
        for name in components(path) {
            if !self.current.is_directory(node) {
                return Err(Errno::NOTDIR.into());
            }
            node = self.current.get(node, &name).ok_or(Errno::NOENT)?;
        }
        Ok(node)
    }

    /// The directory that a path's last name is in, and that name.
    fn parent(&self, path: &Path) -> io::Result<(NodeId, OsString)> {
        let mut names = components(path);
        // The root has no name, so it can be neither created nor renamed nor removed.
        let name = names.pop().ok_or(Errno::BUSY)?;
        let directory = self.node(&names.iter().collect::<PathBuf>())?;
        if self.current.is_directory(directory) { Ok((directory, name)) } else { Err(Errno::NOTDIR.into()) }
    }

    pub(super) fn file(&self, path: &Path) -> io::Result<NodeId> {
        let node = self.node(path)?;
        if self.current.is_directory(node) { Err(Errno::ISDIR.into()) } else { Ok(node) }
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        let names = self.current.inside(self.node(path)?).ok_or(Errno::NOTDIR)?;
        let entry = |(name, node): (&OsString, &NodeId)| Entry {
            name: name.to_string_lossy().into_owned(),
            is_dir: self.current.is_directory(*node),
            len: self.files.get(node).map_or(0, |file| file.current.len()),
        };
        Ok(names.iter().map(entry).collect())
    }

    /// The paths of all files, sorted.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let walked = self.current.walk().into_iter();
        let mut paths: Vec<_> =
            walked.filter(|(node, _)| self.files.contains_key(node)).map(|(_, path)| path).collect();
        paths.sort_unstable();
        paths
    }

    /// The directories that `create_dir_all` would have to create, parents first.
    pub(super) fn missing_directories(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut missing = Vec::new();
        let mut prefix = PathBuf::new();
        for name in components(path) {
            prefix.push(name);
            match self.node(&prefix) {
                Ok(node) if self.current.is_directory(node) => {}
                Ok(_) => return Err(Errno::EXIST.into()),
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing.push(prefix.clone()),
                Err(error) => return Err(error),
            }
        }
        Ok(missing)
    }

    pub(super) fn create_directory(&mut self, path: &Path) -> io::Result<()> {
        let (directory, name) = self.parent(path)?;
        let node = self.new_node();
        self.current.add_directory(node);
        self.durable.add_directory(node);
        self.change_names(vec![Link { directory, name, node: Some(node) }]);
        Ok(())
    }

    /// Creates a file, or empties the one that is there.
    pub(super) fn create_file(&mut self, path: &Path) -> io::Result<NodeId> {
        let (directory, name) = self.parent(path)?;
        if self.current.get(directory, &name).is_some() {
            let node = self.file(path)?;
            self.truncate(node, 0)?;
            return Ok(node);
        }
        let node = self.new_node();
        self.files.insert(node, File::new());
        self.change_names(vec![Link { directory, name, node: Some(node) }]);
        Ok(node)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_directory, from_name) = self.parent(from)?;
        let (to_directory, to_name) = self.parent(to)?;
        let node = self.current.get(from_directory, &from_name).ok_or(Errno::NOENT)?;
        let replaced = self.current.get(to_directory, &to_name);
        if replaced == Some(node) {
            return Ok(());
        }
        let is_directory = self.current.is_directory(node);
        if is_directory && components(to).starts_with(&components(from)) {
            return Err(Errno::INVAL.into());
        }
        if let Some(replaced) = replaced {
            match (is_directory, self.current.inside(replaced)) {
                (false, None) => {}
                (true, Some(names)) if names.is_empty() => {}
                (true, Some(_)) => return Err(Errno::NOTEMPTY.into()),
                (true, None) => return Err(Errno::NOTDIR.into()),
                (false, Some(_)) => return Err(Errno::ISDIR.into()),
            }
        }
        self.change_names(vec![
            Link { directory: from_directory, name: from_name, node: None },
            Link { directory: to_directory, name: to_name, node: Some(node) },
        ]);
        Ok(())
    }

    /// The paths that `remove_dir_all` removes one after another, the directory itself last.
    pub(super) fn inside_out(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        if !self.current.is_directory(self.node(path)?) {
            return Err(Errno::NOTDIR.into());
        }
        self.parent(path)?;
        let top = components(path);
        let walked = self.current.walk().into_iter().rev().map(|(_, path)| path);
        Ok(walked.filter(|path| components(path).starts_with(&top)).collect())
    }

    /// Takes a name away. That a directory is empty is the caller's business.
    pub(super) fn unlink(&mut self, path: &Path) -> io::Result<()> {
        let (directory, name) = self.parent(path)?;
        self.current.get(directory, &name).ok_or(Errno::NOENT)?;
        self.change_names(vec![Link { directory, name, node: None }]);
        Ok(())
    }

    fn change_names(&mut self, links: Vec<Link>) {
        links.iter().for_each(|link| self.current.apply(link));
        let number = self.new_number();
        self.unsynced.push(NameChange { number, links });
    }

    /// Makes the names of a directory durable. A rename out of another directory, or into it, takes what happened
    /// in that directory before along: it cannot survive in one of the two alone.
    pub(super) fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        let node = self.node(path)?;
        if !self.current.is_directory(node) {
            return Err(Errno::NOTDIR.into());
        }
        let mut directories = BTreeSet::from([node]);
        let mut synced = Vec::new();
        for change in std::mem::take(&mut self.unsynced).into_iter().rev() {
            if change.links.iter().any(|link| directories.contains(&link.directory)) {
                directories.extend(change.links.iter().map(|link| link.directory));
                synced.push(change);
            } else {
                self.unsynced.push(change);
            }
        }
        self.unsynced.reverse();
        for change in synced.iter().rev() {
            change.links.iter().for_each(|link| self.durable.apply(link));
        }
        self.forget_unreachable();
        Ok(())
    }

    /// Frees files and directories that no call and no power cut can bring back.
    fn forget_unreachable(&mut self) {
        let pending = self.unsynced.iter().flat_map(|change| &change.links).filter_map(|link| link.node);
        let mut kept: BTreeSet<NodeId> = self.current.all().chain(self.durable.all()).chain(pending).collect();
        kept.insert(ROOT);
        self.current.retain(|node| kept.contains(&node));
        self.durable.retain(|node| kept.contains(&node));
        self.files.retain(|node, file| file.handles > 0 || kept.contains(node));
        self.unsynced.retain(|change| change.links.iter().any(|link| kept.contains(&link.directory)));
    }

    pub(super) fn add_handle(&mut self, node: NodeId) {
        if let Some(file) = self.files.get_mut(&node) {
            file.handles += 1;
        }
    }

    pub(super) fn drop_handle(&mut self, node: NodeId) {
        if let Some(file) = self.files.get_mut(&node) {
            file.handles = file.handles.saturating_sub(1);
        }
    }

    /// The contents of a file as a process sees them.
    pub(super) fn contents(&self, node: NodeId) -> io::Result<&Image> {
        Ok(&self.files.get(&node).ok_or(Errno::BADF)?.current)
    }

    /// Writes what there is room for, and fails when that is not all.
    pub(super) fn write(&mut self, node: NodeId, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= MAX_LEN).ok_or(Errno::FBIG)?;
        let len = self.contents(node)?.len();
        let limit = if end > len { len.saturating_add(self.room()) } else { end };
        let fits = usize::try_from(limit.saturating_sub(offset)).unwrap_or(usize::MAX);
        let part = bytes.get(..fits).unwrap_or(bytes);
        if !part.is_empty() {
            self.change_file(node, Change::Write { offset, bytes: part.to_vec() })?;
        }
        if part.len() == bytes.len() { Ok(()) } else { Err(Errno::NOSPC.into()) }
    }

    pub(super) fn allocate(&mut self, node: NodeId, len: u64) -> io::Result<()> {
        let before = self.contents(node)?.len();
        match len.checked_sub(before) {
            None | Some(0) => Ok(()),
            Some(_) if len > MAX_LEN => Err(Errno::FBIG.into()),
            Some(growth) if growth > self.room() => Err(Errno::NOSPC.into()),
            Some(_) => self.change_file(node, Change::SetLen(len)),
        }
    }

    pub(super) fn truncate(&mut self, node: NodeId, len: u64) -> io::Result<()> {
        if len < self.contents(node)?.len() { self.change_file(node, Change::SetLen(len)) } else { Ok(()) }
    }

    fn change_file(&mut self, node: NodeId, change: Change) -> io::Result<()> {
        let number = self.new_number();
        let file = self.files.get_mut(&node).ok_or(Errno::BADF)?;
        change.apply(&mut file.current);
        file.unsynced.push(FileChange { number, change });
        Ok(())
    }

    /// Makes a file's bytes and length durable.
    pub(super) fn sync_file(&mut self, node: NodeId) -> io::Result<()> {
        let file = self.files.get_mut(&node).ok_or(Errno::BADF)?;
        for FileChange { change, .. } in file.unsynced.drain(..) {
            change.apply(&mut file.durable);
        }
        Ok(())
    }

    /// Lets a sync of the file fail as on Linux: its unsynced bytes count as written from now on, though they
    /// never were. The lengths that they gave the file are left for the next sync.
    pub(super) fn forget_unsynced_bytes(&mut self, node: NodeId) {
        if let Some(file) = self.files.get_mut(&node) {
            let mut len = file.durable.len();
            file.unsynced.retain_mut(|FileChange { change, .. }| {
                let before = len;
                len = change.len_after(len);
                *change = Change::SetLen(len);
                len != before
            });
        }
    }

    /// The bytes by which files may still grow.
    fn room(&self) -> u64 {
        let Some(capacity) = self.capacity else { return u64::MAX };
        let named: BTreeSet<NodeId> = self.current.all().collect();
        let counted = self.files.iter().filter(|(node, file)| file.handles > 0 || named.contains(node));
        let used = counted.fold(0_u64, |sum, (_, file)| sum.saturating_add(file.current.len()));
        capacity.saturating_sub(used)
    }

    /// Flips a bit wherever the byte is kept.
    pub(super) fn flip_bit(&mut self, path: &Path, offset: u64, bit: u8) -> io::Result<()> {
        let node = self.file(path)?;
        let file = self.files.get_mut(&node).ok_or(Errno::NOENT)?;
        if bit > 7 || offset >= file.current.len() {
            return Err(Errno::INVAL.into());
        }
        let mask = 1 << bit;
        file.current.flip(offset, mask);
        file.durable.flip(offset, mask);
        for FileChange { change, .. } in &mut file.unsynced {
            if let Change::Write { offset: start, bytes } = change
                && let Some(within) = offset.checked_sub(*start).and_then(|within| usize::try_from(within).ok())
                && let Some(byte) = bytes.get_mut(within)
            {
                *byte ^= mask;
            }
        }
        Ok(())
    }

    /// Cuts a file wherever it is kept.
    pub(super) fn cut_file(&mut self, path: &Path, len: u64) -> io::Result<()> {
        let node = self.file(path)?;
        let file = self.files.get_mut(&node).ok_or(Errno::NOENT)?;
        for image in [&mut file.current, &mut file.durable] {
            image.set_len(image.len().min(len));
        }
        file.unsynced.iter_mut().for_each(|FileChange { change, .. }| match change {
            Change::Write { offset, bytes } => {
                let room = len.saturating_sub(*offset);
                bytes.truncate(usize::try_from(room).unwrap_or(usize::MAX));
                if bytes.is_empty() {
                    // It left the file longer than `len`, so as long as that with the cut.
                    *change = Change::SetLen(len);
                }
            }
            Change::SetLen(to) => *to = len.min(*to),
        });
        Ok(())
    }

    /// Copies a file with everything that is known about it, under a durable name.
    pub(super) fn copy_file(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let source = self.file(from)?;
        let (directory, name) = self.parent(to)?;
        match self.current.get(directory, &name) {
            Some(target) if target == source => return Ok(()),
            Some(target) if self.current.is_directory(target) => return Err(Errno::ISDIR.into()),
            _ => {}
        }
        let copy = self.files.get(&source).ok_or(Errno::NOENT)?.copy();
        let node = self.new_node();
        self.files.insert(node, copy);
        self.set_name_everywhere(Link { directory, name, node: Some(node) });
        Ok(())
    }

    /// Removes a file's name for good.
    pub(super) fn erase_file(&mut self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        let (directory, name) = self.parent(path)?;
        self.set_name_everywhere(Link { directory, name, node: None });
        Ok(())
    }

    /// Changes a name as if its directory had been synced, and forgets what was still to happen to it.
    fn set_name_everywhere(&mut self, changed: Link) {
        for change in &mut self.unsynced {
            change.links.retain(|link| link.directory != changed.directory || link.name != changed.name);
        }
        self.current.apply(&changed);
        self.durable.apply(&changed);
    }

    fn new_node(&mut self) -> NodeId {
        self.next_node += 1;
        self.next_node
    }

    fn new_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}

impl File {
    fn new() -> Self {
        Self { current: Image::default(), durable: Image::default(), unsynced: Vec::new(), handles: 0 }
    }

    fn copy(&self) -> Self {
        let (current, durable) = (self.current.clone(), self.durable.clone());
        Self { current, durable, unsynced: self.unsynced.clone(), handles: 0 }
    }

    fn after_power_cut(&self, lottery: &mut Lottery) -> Self {
        let mut image = self.durable.clone();
        for FileChange { number, change } in &self.unsynced {
            lottery.play(*number, change, &mut image);
        }
        Self { current: image.clone(), durable: image, unsynced: Vec::new(), handles: 0 }
    }
}
