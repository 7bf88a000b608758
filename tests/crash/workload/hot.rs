//! The part of a workload that adds to hot counters.

use plaudit::{Error, Store};

use super::{Stop, Workload};

impl Workload {
    /// Adds some times by a handle, while the committer comes some of the way: what it takes may still be in a cell.
    pub(super) fn add_hot(&mut self, store: &Store) -> Result<(), Stop> {
        let Some(name) = self.pick() else { return Ok(()) };
        let (counters, key) = (store.existing_counters(&name)?, self.key());
        let of = self.model.now.get_mut(&name).expect("a namespace that was picked exists");
        let is_new = of.insert(key.clone(), of.get(&key).copied().unwrap_or(0)).is_none();
        self.begin_change();
        let handle = match counters.hot(&key) {
            // The counter is created all the same.
            Err(Error::StorageFull { .. }) => return Ok(()),
            handle => handle?,
        };
        self.end_change(Ok(is_new))?;
        *self.met.entry("a hot counter".to_owned()).or_default() += 1;
        for _ in 0..1 + self.random.below(4) {
            let delta = 1 + self.random.below(1_000) as i64;
            let Some(value) = self.model.now.get_mut(&name).and_then(|of| of.get_mut(&key)) else { break };
            *value += delta;
            let expected = *value;
            self.begin_change();
            let added = handle.add(delta);
            self.end_change(added.map(|()| true))?;
            match self.random.below(4) {
                0 => self.seal(store)?,
                1 => self.sync(store)?,
                2 if handle.get()? != expected => {
                    return Err(Stop::Wrong(format!("{name}/{key} is not {expected} after a hot add")));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
