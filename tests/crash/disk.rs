//! A storage in front of the simulated disk. It keeps the disk of every moment at which the power can go, can end as a
//! killed process does, and can break the order of the calls in ways that are named: see [`Mutation`].

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use plaudit::storage::sim::{Operation, SimDisk};
use plaudit::storage::{Entry, Storage, StorageFile, StorageLock};

use super::calls::{Call, History, Piece, Place};
use super::model::Expected;
use super::mutations::{Fate, Mutation};

/// The disk just before a call, and what must be found on it then.
#[derive(Debug)]
pub struct Moment {
    pub disk: SimDisk,
    pub call: Option<Call>,
    pub expected: Arc<Expected>,
}

/// One process's view of a simulated disk. Clones are the same view.
#[derive(Debug, Clone)]
pub struct Process {
    disk: SimDisk,
    script: Arc<Mutex<Script>>,
}

#[derive(Debug, Default)]
struct Script {
    expected: Arc<Expected>,
    /// `None` when they are of no interest.
    moments: Option<Vec<Moment>>,
    history: History,
    mutation: Option<&'static Mutation>,
    deferred: Vec<Deferred>,
    /// Where the frames of the newest segment end so far, and those of the one before.
    ends: [Option<FramesEnd>; 2],
    calls: u64,
    kill_at: Option<u64>,
    killed: bool,
}

/// A segment, and where its last frame ends.
type FramesEnd = (Arc<dyn StorageFile>, u64);

/// A call that was answered with `Ok` and is carried out later.
struct Deferred(Box<dyn FnOnce() -> io::Result<()> + Send>);

impl std::fmt::Debug for Deferred {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deferred")
    }
}

impl Process {
    pub fn new(disk: &SimDisk, mutation: Option<&'static Mutation>) -> Self {
        let script = Script { mutation, ..Script::default() };
        Self { disk: disk.clone(), script: Arc::new(Mutex::new(script)) }
    }

    /// One that keeps its moments.
    pub fn recorded(disk: &SimDisk, mutation: Option<&'static Mutation>) -> Self {
        let process = Self::new(disk, mutation);
        process.script().moments = Some(Vec::new());
        process
    }

    /// What must be found when the power goes from now on.
    pub fn expect(&self, expected: &Expected) {
        self.script().expected = Arc::new(expected.clone());
    }

    /// Ends the process in its call of this number, counted from 0. Half of a write is done then, and nothing of any
    /// other call.
    pub fn kill_at(&self, call: u64) {
        self.script().kill_at = Some(call);
    }

    /// Ends the process: no call of it reaches the disk any more.
    pub fn kill(&self) {
        self.script().killed = true;
    }

    pub fn is_killed(&self) -> bool {
        self.script().killed
    }

    /// The moments so far, and the one that is now.
    pub fn take_moments(&self) -> Vec<Moment> {
        let mut script = self.script();
        script.keep_moment(&self.disk, None);
        script.moments.take().unwrap_or_default()
    }

    /// Carries out what was put off.
    pub fn finish(&self) {
        let deferred = std::mem::take(&mut self.script().deferred);
        for Deferred(call) in deferred {
            call().expect("a call that was put off can still be carried out");
        }
    }

    fn script(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().expect("no holder panics")
    }

    /// Fails when the process has ended.
    fn check_alive(&self) -> io::Result<()> {
        if self.is_killed() { Err(killed()) } else { Ok(()) }
    }

    /// Decides on a call that can change the disk.
    fn admit(&self, call: Call) -> io::Result<Fate> {
        let mut script = self.script();
        if script.killed {
            return Err(killed());
        }
        if script.kill_at.is_some_and(|at| script.calls >= at) {
            script.killed = true;
            return Ok(Fate::Interrupted);
        }
        script.calls += 1;
        script.keep_moment(&self.disk, Some(call));
        let Some(mutation) = script.mutation else { return Ok(Fate::Done) };
        if !script.deferred.is_empty() && mutation.is_over(call, &script.history) {
            for Deferred(call) in std::mem::take(&mut script.deferred) {
                call()?;
                script.keep_moment(&self.disk, None);
            }
        }
        let deferring = !script.deferred.is_empty();
        if mutation.cuts(call, &script.history)
            && let Some((file, end)) = script.ends[1].take()
        {
            file.truncate(end)?;
            script.keep_moment(&self.disk, None);
        }
        let fate = mutation.fate(call, &script.history, deferring);
        script.history.note(call);
        Ok(fate)
    }

    /// Makes a call that only tells whether it succeeded.
    fn make(&self, call: Call, action: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
        match self.admit(call)? {
            Fate::Done => action(),
            Fate::LeftOut => Ok(()),
            Fate::Interrupted => Err(killed()),
            Fate::PutOff => {
                self.script().deferred.push(Deferred(Box::new(action)));
                Ok(())
            }
        }
    }

    /// Like [`make`](Self::make) for a call on the disk.
    fn make_on_disk(
        &self,
        call: Call,
        action: impl FnOnce(&SimDisk) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let disk = self.disk.clone();
        self.make(call, move || action(&disk))
    }

    /// Notes where the frames of a segment end.
    fn note_piece(&self, piece: Option<Piece>, file: &Arc<dyn StorageFile>, end: u64) {
        let ends = &mut self.script().ends;
        match piece {
            Some(Piece::Header) => *ends = [None, ends[0].take()],
            Some(Piece::Frame | Piece::Again) => ends[0] = Some((Arc::clone(file), end)),
            _ => {}
        }
    }

    fn file(&self, file: Box<dyn StorageFile>, path: &Path) -> Box<dyn StorageFile> {
        let (process, file, place) = (self.clone(), Arc::from(file), Place::of(path));
        Box::new(ProcessFile { process, file, place, written: AtomicBool::new(false) })
    }
}

impl Script {
    fn keep_moment(&mut self, disk: &SimDisk, call: Option<Call>) {
        if let Some(moments) = &mut self.moments {
            moments.push(Moment { disk: disk.process_kill(), call, expected: Arc::clone(&self.expected) });
        }
    }
}

fn killed() -> io::Error {
    io::Error::other("the process was killed")
}

impl Storage for Process {
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let owned = path.to_owned();
        self.make_on_disk(Call::new(Operation::Create, path), move |disk| disk.create_dir_all(&owned))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        self.check_alive()?;
        self.disk.list(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        match self.admit(Call::new(Operation::Create, path))? {
            Fate::Interrupted => Err(killed()),
            _ => Ok(self.file(self.disk.create(path)?, path)),
        }
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn StorageFile>> {
        self.check_alive()?;
        Ok(self.file(self.disk.open(path)?, path))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let paths: [PathBuf; 2] = [from.to_owned(), to.to_owned()];
        self.make_on_disk(Call::new(Operation::Rename, from), move |disk| disk.rename(&paths[0], &paths[1]))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let owned = path.to_owned();
        self.make_on_disk(Call::new(Operation::Remove, path), move |disk| disk.remove_file(&owned))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let owned = path.to_owned();
        self.make_on_disk(Call::new(Operation::Remove, path), move |disk| disk.remove_dir_all(&owned))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let owned = path.to_owned();
        self.make_on_disk(Call::new(Operation::SyncDir, path), move |disk| disk.sync_dir(&owned))
    }

    fn try_lock(&self, path: &Path) -> io::Result<Option<Box<dyn StorageLock>>> {
        self.check_alive()?;
        self.disk.try_lock(path)
    }
}

/// A file of a [`Process`].
#[derive(Debug)]
struct ProcessFile {
    process: Process,
    file: Arc<dyn StorageFile>,
    place: Place,
    /// Whether anything was written through this handle.
    written: AtomicBool,
}

impl ProcessFile {
    fn call(&self, operation: Operation, piece: Option<Piece>) -> Call {
        Call { operation, place: self.place, piece }
    }

    fn make(
        &self,
        call: Call,
        action: impl FnOnce(&dyn StorageFile) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let file = Arc::clone(&self.file);
        self.process.make(call, move || action(&*file))
    }
}

impl StorageFile for ProcessFile {
    fn len(&self) -> io::Result<u64> {
        self.process.check_alive()?;
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.process.check_alive()?;
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let first = !self.written.swap(true, Ordering::Relaxed);
        let piece = Piece::of(self.place, bytes, offset, first);
        let fate = self.process.admit(self.call(Operation::Write, piece))?;
        self.process.note_piece(piece, &self.file, offset + bytes.len() as u64);
        match fate {
            Fate::Done => self.file.write_all_at(bytes, offset),
            Fate::LeftOut | Fate::PutOff => Ok(()),
            Fate::Interrupted => {
                self.file.write_all_at(&bytes[..bytes.len() / 2], offset)?;
                Err(killed())
            }
        }
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        self.make(self.call(Operation::Allocate, None), move |file| file.allocate(len))
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.make(self.call(Operation::Truncate, None), move |file| file.truncate(len))
    }

    fn sync(&self) -> io::Result<()> {
        self.make(self.call(Operation::Sync, None), |file| file.sync())
    }
}
