//! Adds by handles to hot counters. A handle is held over whatever else happens, until its store is closed or gone.

use arbitrary::Arbitrary;
use plaudit::{Durability, Error, HotCounter};

use super::model::{KEYS, LIKES, key, name};
use super::{Run, What};

/// Of all counters together; more than one has cells on a small machine.
const MOST_HANDLES: usize = 8;

#[derive(Debug, Clone, Copy, Arbitrary)]
pub(super) enum Use {
    Take,
    Clone,
    Add(i8),
    AddLarge(i64),
    Receipt,
    Drop,
}

/// A handle, and the number of its namespace and of its key.
pub(super) type Handle = (u32, u8, HotCounter);

impl Run {
    /// Uses the handle that was taken last, or takes one.
    pub(super) fn hot(&mut self, namespace: u8, number: u8, what: Use) {
        self.refuse_dropped();
        let (namespace, number) = (namespace % LIKES, number % KEYS);
        let Some(&id) = self.model.names.get(&namespace) else { return };
        let held = self.hots.iter().rposition(|(of, key, _)| (*of, *key) == (id, number));
        match (held, what) {
            (None, _) | (_, Use::Take) => self.take_hot(id, namespace, number),
            (Some(held), Use::Clone) if self.hots.len() < MOST_HANDLES => {
                self.hots.push((id, number, self.hots[held].2.clone()));
            }
            (Some(_), Use::Clone) => {}
            (Some(held), Use::Add(delta)) => self.add_hot(held, namespace, delta.into()),
            (Some(held), Use::AddLarge(delta)) => self.add_hot(held, namespace, delta),
            (Some(held), Use::Receipt) => self.look_at_hot(held),
            (Some(held), Use::Drop) => drop(self.hots.swap_remove(held)),
        }
    }

    /// All that handles answer once their store is closed.
    pub(super) fn refuse_closed(&mut self) {
        for (_, _, hot) in self.hots.drain(..) {
            assert!(matches!(hot.add(1), Err(Error::Closed)));
            assert!(matches!(hot.receipt(), Err(Error::Closed)));
        }
    }

    fn refuse_dropped(&mut self) {
        let names = &self.model.names;
        for (_, _, hot) in self.hots.extract_if(.., |(id, _, _)| names.values().all(|named| named != id)) {
            assert!(matches!(hot.add(1), Err(Error::NoSuchNamespace { .. })), "{hot:?}");
        }
    }

    fn take_hot(&mut self, id: u32, namespace: u8, number: u8) {
        if self.hots.len() >= MOST_HANDLES {
            self.hots.swap_remove(0);
        }
        let mut contents = self.model.contents.clone();
        contents.counts.entry((id, number)).or_insert(0);
        let store = self.store();
        let counters = store.existing_counters(&name(namespace)).unwrap_or_else(|error| panic!("{error:?}"));
        let taken = counters.hot(key(number)).map(|hot| {
            self.hots.push((id, number, hot));
            None
        });
        self.applied(taken, true, contents);
    }

    fn add_hot(&mut self, held: usize, namespace: u8, delta: i64) {
        let (id, number, _) = self.hots[held];
        let mut contents = self.model.contents.clone();
        let value = super::apply(&mut contents.counts, id, namespace, number, What::AddLarge(delta));
        let added = self.hots[held].2.add(delta).map(|()| None);
        self.applied(added, value.is_some(), contents);
    }

    /// The receipt tells the epoch of all that was added before.
    fn look_at_hot(&mut self, held: usize) {
        let (id, number, hot) = &self.hots[held];
        let contents = self.model.contents.clone();
        let expected = contents.counts.get(&(*id, *number)).copied().unwrap_or(0);
        let looked = hot.receipt().map(|receipt| {
            assert_eq!(receipt.value(), expected);
            receipt.epoch()
        });
        match looked {
            Ok(epoch) => self.model.changed(contents, Some(epoch)),
            Err(Error::NotDriven { .. }) => assert_eq!(self.options.durability, Durability::Immediate),
            Err(error) => drop(self.succeeded::<()>(Err(error))),
        }
    }
}
