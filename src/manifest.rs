//! MANIFEST: the one small file that says which namespaces exist, which snapshot generations are true, and which
//! segments the log has. It is replaced atomically, and it is what makes a directory a store. From a clean close until
//! the log goes on it also says how the log ends.
//!
//! ```text
//! manifest   = magic[8] version:u32 length:u32 body checksum:u32      length is of the body
//! body       = store_id:u64 hash_seed:u64 first_segment:u64 last_segment:u64 next_generation:u64
//!              next_namespace:u32 count:u32 namespace* count:u32 generation* seal?
//! namespace  = id:u16 (counters | likes) name_length:u8 name
//! counters   = 0:u8 at_bound:u8 min:i64 max:i64
//! likes      = kind:u8 0:u8 horizon_ms:u64 newest_ms:u64              kind is 1 with viewers of 64 bits, 2 of 128
//! generation = meta[65] log_from:u64 through_epoch:u64
//! seal       = end:u64 epoch:u64 chain:u32                            there only while the store is closed
//! ```
//!
//! All numbers are little-endian. The checksum is CRC-32C of everything before it.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::limits::{MAX_NAMESPACES, MAX_TIME_MS};
use crate::log::Seal;
use crate::shard::NamespaceId;
use crate::snapshot::GenerationMeta;
use crate::storage::Storage;
use crate::sync::Mutex;

#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod namespace;

pub(crate) use namespace::{Namespace, NamespaceKind, check_name};

use namespace::MAX_NAME_BYTES;

const MAGIC: [u8; 8] = *b"plaudit\0";
const VERSION: u32 = 1;
const VERSION_AT: usize = MAGIC.len();
const LENGTH_AT: usize = VERSION_AT + size_of::<u32>();
const BODY_AT: usize = LENGTH_AT + size_of::<u32>();
const CHECKSUM_BYTES: usize = size_of::<u32>();

// Namespace numbers are 16 bits and never used again.
const _: () = assert!(MAX_NAMESPACES == 1 << NamespaceId::BITS);

/// No store gets so far with its segments or generations. What is near the end of 64 bits would have no number left for
/// the next, so that the store could be opened and, once it had gone on, never again.
const LAST_NUMBER: u64 = u64::MAX / 2;

/// More than all namespaces with the longest names take.
const MAX_BYTES: usize = 32 << 20;
const _: () = assert!(MAX_BYTES > MAX_NAMESPACES * (MAX_NAME_BYTES + 64));

/// The file's name in the store's directory.
pub(crate) const FILE_NAME: &str = "MANIFEST";
/// Its name while it is written.
pub(crate) const TEMPORARY_NAME: &str = "MANIFEST.tmp";

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    /// Random; segments of another store are told by it.
    pub(crate) store_id: u64,
    /// Random; keeps the hashes of keys from being predictable.
    pub(crate) hash_seed: u64,
    /// The oldest segment that is needed.
    pub(crate) first_segment: u64,
    /// The newest segment; one less than the oldest when there is none yet.
    pub(crate) last_segment: u64,
    pub(crate) next_generation: u64,
    /// The next namespace gets this number.
    pub(crate) next_namespace: u32,
    pub(crate) namespaces: Vec<Namespace>,
    /// Oldest first.
    pub(crate) generations: Vec<Generation>,
    /// What the last segment ends with, if the store was closed and the log has not gone on since.
    pub(crate) seal: Option<Seal>,
}

/// A published snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Generation {
    pub(crate) meta: GenerationMeta,
    /// The snapshot has everything that is in segments before this one.
    pub(crate) log_from: u64,
    /// The snapshot may have parts of epochs up to this one, so the log must reach it.
    pub(crate) through_epoch: u64,
}

impl Manifest {
    /// Of a store that has nothing yet.
    pub(crate) fn new(store_id: u64, hash_seed: u64) -> Self {
        Self {
            store_id,
            hash_seed,
            first_segment: 1,
            last_segment: 0,
            next_generation: 1,
            next_namespace: 0,
            namespaces: Vec::new(),
            generations: Vec::new(),
            seal: None,
        }
    }

    pub(crate) fn namespace(&self, name: &str) -> Option<&Namespace> {
        self.namespaces.iter().find(|namespace| &*namespace.name == name)
    }

    /// Lets the log go on in this segment, which has no frame yet.
    pub(crate) fn begin_segment(&mut self, number: u64) {
        self.last_segment = number;
        self.seal = None;
    }

    fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        for word in [self.store_id, self.hash_seed, self.first_segment, self.last_segment, self.next_generation] {
            body.extend(word.to_le_bytes());
        }
        body.extend(self.next_namespace.to_le_bytes());
        body.extend((self.namespaces.len() as u32).to_le_bytes());
        for Namespace { id, name, kind } in &self.namespaces {
            body.extend(id.to_le_bytes());
            body.extend(kind.encode());
            body.push(name.len() as u8);
            body.extend(name.as_bytes());
        }
        body.extend((self.generations.len() as u32).to_le_bytes());
        for Generation { meta, log_from, through_epoch } in &self.generations {
            body.extend(meta.encode());
            body.extend(log_from.to_le_bytes());
            body.extend(through_epoch.to_le_bytes());
        }
        if let Some(Seal { end, epoch, chain }) = self.seal {
            body.extend(end.to_le_bytes());
            body.extend(epoch.to_le_bytes());
            body.extend(chain.to_le_bytes());
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((body.len() as u32).to_le_bytes());
        bytes.extend(body);
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8], path: &Path) -> Result<Self> {
        let corrupt = |offset: usize, what: &str| Error::corrupt(path, offset as u64, what);
        if !bytes.starts_with(&MAGIC) {
            return Err(corrupt(0, "does not begin as a manifest does"));
        }
        let covered = bytes.len().saturating_sub(CHECKSUM_BYTES);
        let (covered, checksum) = bytes.split_at(covered);
        if covered.len() < BODY_AT || checksum != crc32c::crc32c(covered).to_le_bytes() {
            return Err(corrupt(covered.len(), "the checksum does not match the bytes before it"));
        }
        let mut fields = Fields { bytes: covered, at: VERSION_AT };
        let unexpected_end = |at| corrupt(at, "ends within a field");
        let version = fields.u32().ok_or_else(|| unexpected_end(VERSION_AT))?;
        if version != VERSION {
            return Err(Error::UnsupportedVersion { file: path.to_owned(), found: version, supported: VERSION });
        }
        let length = fields.u32().ok_or_else(|| unexpected_end(LENGTH_AT))?;
        if length as usize != covered.len() - BODY_AT {
            return Err(corrupt(LENGTH_AT, "the length is not that of the body"));
        }
        let manifest = Self::decode_body(&mut fields).ok_or_else(|| unexpected_end(fields.at))?;
        if !fields.is_at_end() {
            return Err(corrupt(fields.at, "bytes follow the last field"));
        }
        manifest.check().map_err(|what| corrupt(BODY_AT, what))?;
        Ok(manifest)
    }

    fn decode_body(fields: &mut Fields<'_>) -> Option<Self> {
        let mut manifest = Self::new(fields.u64()?, fields.u64()?);
        manifest.first_segment = fields.u64()?;
        manifest.last_segment = fields.u64()?;
        manifest.next_generation = fields.u64()?;
        manifest.next_namespace = fields.u32()?;
        for _ in 0..fields.u32()? {
            let id = NamespaceId::from_le_bytes(fields.array()?);
            let kind = NamespaceKind::decode(&fields.array()?)?;
            let [name_length] = fields.array()?;
            let name = std::str::from_utf8(fields.take(usize::from(name_length))?).ok()?.into();
            manifest.namespaces.push(Namespace { id, name, kind });
        }
        for _ in 0..fields.u32()? {
            let meta = GenerationMeta::decode(&fields.array()?)?;
            let (log_from, through_epoch) = (fields.u64()?, fields.u64()?);
            manifest.generations.push(Generation { meta, log_from, through_epoch });
        }
        if !fields.is_at_end() {
            manifest.seal = Some(Seal { end: fields.u64()?, epoch: fields.u64()?, chain: fields.u32()? });
        }
        Some(manifest)
    }

    /// What must hold between the fields.
    fn check(&self) -> std::result::Result<(), &'static str> {
        if self.last_segment > LAST_NUMBER || self.next_generation > LAST_NUMBER {
            return Err("a segment or a generation has a number that no store reaches");
        }
        if self.first_segment == 0 || self.last_segment + 1 < self.first_segment {
            return Err("the segments' numbers are not a range");
        }
        if self.seal.is_some() && self.last_segment < self.first_segment {
            return Err("the log has no segment, and was closed with a seal");
        }
        let known = |namespace: &Namespace| u32::from(namespace.id) < self.next_namespace;
        if self.next_namespace as usize > MAX_NAMESPACES || !self.namespaces.iter().all(known) {
            return Err("a namespace has a number that was not given out");
        }
        let (mut ids, mut names) = (HashSet::new(), HashSet::new());
        let is_new = |namespace: &Namespace| ids.insert(namespace.id) && names.insert(Arc::clone(&namespace.name));
        if !self.namespaces.iter().all(is_new) {
            return Err("a namespace is there twice");
        }
        let is_valid = |namespace: &Namespace| check_name(&namespace.name).is_ok() && namespace.kind.validate().is_ok();
        if !self.namespaces.iter().all(is_valid) {
            return Err("a namespace has a name or options that none can have");
        }
        let newest_ms = self.namespaces.iter().filter_map(|namespace| namespace.kind.newest_ms());
        if newest_ms.max() > Some(MAX_TIME_MS) {
            return Err("a namespace has a like of a time that none can have");
        }
        let ascending = self.generations.is_sorted_by(|a, b| a.meta.number < b.meta.number && a.log_from <= b.log_from);
        let given_out = |generation: &Generation| {
            generation.meta.number < self.next_generation
                && (self.first_segment..=self.last_segment + 1).contains(&generation.log_from)
        };
        if !ascending || !self.generations.iter().all(given_out) {
            return Err("a generation is out of order or not covered by the log");
        }
        Ok(())
    }
}

/// A cursor over bytes that never reads past their end.
struct Fields<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Fields<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..)?.get(..len)?;
        self.at += len;
        Some(taken)
    }

    fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}

/// The manifest of an open store.
///
/// Its lock is held over the file's replacement, so that replacements happen one after another. Locks of the shards and
/// of the subscribers may be taken meanwhile, because a namespace gets its place there before anybody can find it.
#[derive(Debug)]
pub(crate) struct ManifestFile {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    manifest: Manifest,
    /// The store is closed, and the file may be another opener's.
    ended: bool,
}

/// Why a manifest could not be changed.
#[derive(Debug)]
pub(crate) enum UpdateFailure {
    /// Nothing is different.
    Unchanged(Error),
    /// It is not known which manifest a crash would leave, or the disk does not keep its word. The store must stop.
    Unknown(Error),
}

impl ManifestFile {
    /// Creates the file. Everything else that makes a store must be durable already.
    pub(crate) fn create(storage: Arc<dyn Storage>, dir: &Path, manifest: Manifest) -> Result<Self> {
        write(&*storage, dir, &manifest).map_err(UpdateFailure::into_error)?;
        Ok(Self::holding(storage, dir, manifest))
    }

    /// Reads the file; changes nothing.
    pub(crate) fn open(storage: Arc<dyn Storage>, dir: &Path) -> Result<Self> {
        let path = dir.join(FILE_NAME);
        let bytes = crate::storage::read_file(&*storage, &path, MAX_BYTES)?;
        let manifest = Manifest::decode(&bytes, &path)?;
        Ok(Self::holding(storage, dir, manifest))
    }

    fn holding(storage: Arc<dyn Storage>, dir: &Path, manifest: Manifest) -> Self {
        Self { storage, dir: dir.to_owned(), current: Mutex::new(Current { manifest, ended: false }) }
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Manifest) -> T) -> T {
        read(&self.current.lock().manifest)
    }

    /// Changes the manifest, durably.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Manifest) -> T) -> Result<T, UpdateFailure> {
        let mut current = self.current.lock();
        if current.ended {
            return Err(UpdateFailure::Unchanged(Error::Closed));
        }
        let mut next = current.manifest.clone();
        let result = change(&mut next);
        write(&*self.storage, &self.dir, &next)?;
        current.manifest = next;
        Ok(result)
    }

    /// Lets nobody change it any more, because the store's lock is about to be given back.
    pub(crate) fn end(&self) {
        self.current.lock().ended = true;
    }
}

impl UpdateFailure {
    fn into_error(self) -> Error {
        match self {
            Self::Unchanged(error) | Self::Unknown(error) => error,
        }
    }
}

/// Replaces the file in one step: a temporary one in the same directory, synced, renamed, and the name synced.
fn write(storage: &dyn Storage, dir: &Path, manifest: &Manifest) -> Result<(), UpdateFailure> {
    let (temporary, path) = (dir.join(TEMPORARY_NAME), dir.join(FILE_NAME));
    let unchanged = |action| {
        let path = &temporary;
        move |error| UpdateFailure::Unchanged(Error::io(action, path, error))
    };
    let file = storage.create(&temporary).map_err(unchanged("create"))?;
    file.write_all_at(&manifest.encode(), 0).map_err(unchanged("write"))?;
    // A full disk may show in the sync or the rename only, and then neither has happened. Any other failure of theirs
    // says that the disk cannot be relied on.
    let unknown = |action| {
        let path = &temporary;
        move |error| match Error::io(action, path, error) {
            full if full.is_storage_full() => UpdateFailure::Unchanged(full),
            error => UpdateFailure::Unknown(error),
        }
    };
    file.sync().map_err(unknown("sync"))?;
    drop(file);
    storage.rename(&temporary, &path).map_err(|error| match unknown("rename")(error) {
        // Whatever the answer was, a temporary file that has lost its name is the manifest now.
        UpdateFailure::Unchanged(error) if storage.open(&temporary).is_err() => {
            UpdateFailure::Unknown(error.no_longer_temporary())
        }
        failure => failure,
    })?;
    // From here on the new manifest may be what a crash leaves, so not even a full disk can be tried again.
    let synced = sync_dir_with_patience(storage, dir);
    synced.map_err(|error| UpdateFailure::Unknown(error.no_longer_temporary()))
}

/// To sync a directory takes a descriptor. Without one nothing was synced yet, so that trying again is right.
fn sync_dir_with_patience(storage: &dyn Storage, dir: &Path) -> Result<()> {
    const TRIES: u32 = 100;
    const PAUSE: Duration = Duration::from_millis(20);
    let sync = || storage.sync_dir(dir).map_err(|error| Error::sync(dir, error));
    for _ in 1..TRIES {
        match sync() {
            Err(Error::NoDescriptor { .. }) => std::thread::sleep(PAUSE),
            synced => return synced,
        }
    }
    sync()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{AtBound, CounterOptions, LikeOptions, ViewerIds};
    use crate::snapshot::HomeKind;

    fn sample() -> Manifest {
        let mut manifest = Manifest::new(7, 9);
        manifest.last_segment = 4;
        manifest.next_generation = 3;
        manifest.next_namespace = 4;
        let counters = NamespaceKind::Counters(CounterOptions { min: 0, max: 100, at_bound: AtBound::Clamp });
        let narrow = NamespaceKind::Likes { options: LikeOptions::default(), newest_ms: 1_700_000_000_000 };
        let horizon = Duration::from_millis(MAX_TIME_MS);
        let wide = LikeOptions { viewers: ViewerIds::U128, horizon };
        let wide = NamespaceKind::Likes { options: wide, newest_ms: MAX_TIME_MS };
        for (id, name, kind) in [(1, "views", counters), (2, "likes", narrow), (3, "votes", wide)] {
            manifest.namespaces.push(Namespace { id, name: name.into(), kind });
        }
        let meta = GenerationMeta {
            number: 2,
            home: HomeKind::File,
            blocks: 3,
            counters: 4,
            edges: 8,
            bytes: 5,
            disk_bytes: 6,
            digest: 7,
            files_digest: 0,
        };
        manifest.generations.push(Generation { meta, log_from: 3, through_epoch: 11 });
        manifest
    }

    fn closed() -> Manifest {
        Manifest { seal: Some(Seal { end: 0x201, epoch: 3, chain: 0xaabb_ccdd }), ..sample() }
    }

    fn decode(bytes: &[u8]) -> Result<Manifest> {
        Manifest::decode(bytes, Path::new("MANIFEST"))
    }

    #[test]
    fn what_is_written_is_read() {
        for manifest in [sample(), closed()] {
            assert_eq!(decode(&manifest.encode()).unwrap(), manifest);
        }
    }

    #[test]
    fn a_seal_stands_behind_everything_else_and_is_gone_once_the_log_goes_on() {
        let (open, mut manifest) = (sample().encode(), closed());
        let bytes = manifest.encode();
        let body = BODY_AT..open.len() - CHECKSUM_BYTES;
        assert_eq!(bytes[body.clone()], open[body.clone()]);
        let golden = [1, 2, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0xdd, 0xcc, 0xbb, 0xaa];
        assert_eq!(bytes[body.end..bytes.len() - CHECKSUM_BYTES], golden);
        manifest.begin_segment(5);
        assert_eq!(manifest, Manifest { last_segment: 5, ..sample() });
    }

    #[test]
    fn every_flipped_bit_and_every_truncation_is_noticed() {
        let bytes = closed().encode();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&damaged).unwrap_err().is_corrupt(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).unwrap_err().is_corrupt(), "length {len}");
        }
    }

    #[test]
    fn a_newer_version_is_named() {
        let mut bytes = sample().encode();
        bytes.truncate(bytes.len() - CHECKSUM_BYTES);
        bytes[VERSION_AT] = 2;
        bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
        assert!(matches!(decode(&bytes), Err(Error::UnsupportedVersion { found: 2, supported: 1, .. })));
    }

    #[test]
    fn fields_that_contradict_each_other_are_corrupt() {
        fn broken(change: impl FnOnce(&mut Manifest)) -> bool {
            let mut manifest = sample();
            change(&mut manifest);
            decode(&manifest.encode()).unwrap_err().is_corrupt()
        }
        assert!(broken(|manifest| manifest.first_segment = 0));
        assert!(broken(|manifest| manifest.last_segment = u64::MAX));
        assert!(broken(|manifest| manifest.last_segment = u64::MAX - 1));
        assert!(broken(|manifest| manifest.first_segment = 9));
        assert!(broken(|manifest| *manifest = Manifest { first_segment: 5, generations: vec![], ..closed() }));
        assert!(broken(|manifest| manifest.namespaces[0].id = 4));
        assert!(broken(|manifest| manifest.namespaces[0].name = "".into()));
        let bounds = CounterOptions { min: 1, ..CounterOptions::default() };
        assert!(broken(move |manifest| manifest.namespaces[0].kind = NamespaceKind::Counters(bounds)));
        let options = LikeOptions::default();
        let late = NamespaceKind::Likes { options, newest_ms: MAX_TIME_MS + 1 };
        assert!(broken(move |manifest| manifest.namespaces[1].kind = late));
        let horizon = Duration::from_millis(MAX_TIME_MS + 1);
        let long = NamespaceKind::Likes { options: LikeOptions { horizon, ..options }, newest_ms: 0 };
        assert!(broken(move |manifest| manifest.namespaces[1].kind = long));
        assert!(broken(|manifest| {
            let twice = Namespace { id: 0, ..manifest.namespaces[0].clone() };
            manifest.namespaces.push(twice);
        }));
        assert!(broken(|manifest| {
            let twice = Namespace { name: "other".into(), ..manifest.namespaces[0].clone() };
            manifest.namespaces.push(twice);
        }));
        assert!(broken(|manifest| manifest.generations[0].log_from = 6));
        assert!(broken(|manifest| manifest.next_generation = 2));
        assert!(broken(|manifest| manifest.next_generation = u64::MAX - 1));
    }

    #[test]
    fn a_namespace_is_opened_as_what_it_was_created() {
        let [counters, narrow, wide] = <[Namespace; 3]>::try_from(sample().namespaces).unwrap();
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
