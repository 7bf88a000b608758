//! What a disk may hold at a moment: the states that an exact model allows, and a ledger of operation ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::likes;
use super::support::State;

/// Namespaces of the ledger. Operation `n` is one batch: it counts `n` in [`IDS`], and moves [`amount`]`(n)` from
/// [`DEBIT`] to [`CREDIT`].
pub const IDS: &str = "ids";
pub const CREDIT: &str = "credit";
pub const DEBIT: &str = "debit";

/// What an operation moves. So wide that no two sets of operations have the same sum by chance.
pub fn amount(id: u64) -> i64 {
    (super::support::Random(id).word() >> 20) as i64
}

/// What must be found after a crash at some moment.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// The state that was acknowledged last, and those of epochs that are on their way to the disk.
    pub possible: Vec<Arc<State>>,
    /// Operations up to this one were acknowledged.
    pub acknowledged: u64,
    /// Operations up to this one were begun.
    pub begun: u64,
    /// Whether the log must end with the seal of a close.
    pub sealed: bool,
    /// The generation that was damaged on purpose, and not replaced yet.
    pub damaged: Option<u64>,
}

impl Expected {
    /// Checks what a recovery found.
    pub fn check(&self, found: &State) -> Result<(), String> {
        let ids = self.check_ledger(found)?;
        if !(self.acknowledged..=self.begun).contains(&ids) {
            let Self { acknowledged, begun, .. } = self;
            return Err(format!("operations up to {ids} are there, of {acknowledged} acknowledged and {begun} begun"));
        }
        if self.possible.iter().any(|state| likes::is_same(state, found)) {
            return Ok(());
        }
        let difference = self.possible.first().map_or_else(String::new, |state| difference(state, found));
        Err(format!("the state is none of {} possible ones; to the oldest: {difference}", self.possible.len()))
    }

    /// Checks that every operation that left a trace is there exactly once and whole, and answers the last one.
    fn check_ledger(&self, found: &State) -> Result<u64, String> {
        let none = BTreeMap::new();
        let of = |name| found.get(name).unwrap_or(&none);
        let ids = of(IDS);
        let last = ids.len() as u64;
        for id in 1..=last {
            match ids.get(&id.to_string()) {
                Some(1) => {}
                times => return Err(format!("operation {id} of {last} is there {times:?} times")),
            }
        }
        let moved: i64 = (1..=last).map(amount).sum();
        let [credit, debit] = [CREDIT, DEBIT].map(|name| of(name).values().sum::<i64>());
        if (credit, debit) == (moved, -moved) {
            return Ok(last);
        }
        Err(format!("{last} operations moved {moved}, and the sums are {credit} and {debit}"))
    }
}

/// The counters of two states that differ, shortened: keys may be long.
pub fn difference(expected: &State, found: &State) -> String {
    let flat = |state: &State| -> BTreeMap<(String, String), i64> {
        let counters = |(name, counters): (&String, &BTreeMap<String, i64>)| {
            let name = name.clone();
            // The namespace itself, which may be empty, has an entry too.
            let own = ((name.clone(), "(namespace)".to_owned()), 0);
            let of = move |(key, value): (&String, &i64)| ((name.clone(), key.trim_start().to_owned()), *value);
            std::iter::once(own).chain(counters.iter().map(of)).collect::<Vec<_>>()
        };
        state.iter().flat_map(counters).collect()
    };
    let (expected, found) = (flat(expected), flat(found));
    let differing = expected.keys().chain(found.keys()).filter(|key| expected.get(key) != found.get(key));
    let lines: std::collections::BTreeSet<_> = differing
        .map(|key| format!("{}/{}: {:?} became {:?}", key.0, key.1, expected.get(key), found.get(key)))
        .collect();
    lines.into_iter().collect::<Vec<_>>().join(", ")
}

/// Follows a workload: what was done, what may be on the disk, what must be.
#[derive(Debug)]
pub struct Model {
    /// Everything that was done.
    pub now: State,
    expected: Expected,
}

impl Model {
    pub fn new() -> Self {
        let possible = vec![Arc::default()];
        Self { now: State::new(), expected: Expected { possible, ..Expected::default() } }
    }

    pub fn expected(&self) -> &Expected {
        &self.expected
    }

    /// The number of the next operation of the ledger.
    pub fn begin_operation(&mut self) -> u64 {
        self.expected.begun += 1;
        self.expected.begun
    }

    /// What was done so far may be on the disk from here on.
    pub fn sealed(&mut self) {
        if self.expected.possible.last().is_none_or(|last| **last != self.now) {
            self.expected.possible.push(Arc::new(self.now.clone()));
        }
    }

    /// What was done so far must be on the disk from here on.
    pub fn acknowledged(&mut self) {
        self.expected.possible = vec![Arc::new(self.now.clone())];
        self.expected.acknowledged = self.expected.begun;
    }

    /// The store was closed, and that was acknowledged.
    pub fn closed(&mut self, sealed: bool) {
        self.acknowledged();
        self.expected.sealed = sealed;
    }

    /// From here on the log may go on.
    pub fn opened(&mut self) {
        self.expected.sealed = false;
    }

    /// A recovery showed this, so it is there from now on, and nothing else.
    pub fn restored(&mut self, found: State) {
        let ids = found.get(IDS).map_or(0, |ids| ids.len() as u64);
        self.now = found;
        self.expected.begun = ids;
        self.acknowledged();
    }

    pub fn damaged(&mut self, generation: Option<u64>) {
        self.expected.damaged = generation;
    }

    /// A call that takes its place on the disk at once, beside the epochs, is about to be made.
    pub fn begin_at_once(&mut self, change: &dyn Fn(&mut State)) {
        let changed = self.changed(change);
        self.expected.possible.extend(changed);
    }

    /// Such a call was acknowledged.
    pub fn end_at_once(&mut self, change: &dyn Fn(&mut State)) {
        // The states with the change are the second half.
        let half = self.expected.possible.len() / 2;
        self.expected.possible.drain(..half);
        change(&mut self.now);
    }

    /// Such a call was refused, and nothing was done.
    pub fn refuse_at_once(&mut self) {
        let half = self.expected.possible.len() / 2;
        self.expected.possible.truncate(half);
    }

    fn changed(&self, change: &dyn Fn(&mut State)) -> Vec<Arc<State>> {
        let with_change = |state: &Arc<State>| {
            let mut state = State::clone(state);
            change(&mut state);
            Arc::new(state)
        };
        self.expected.possible.iter().map(with_change).collect()
    }
}
