//! Handles go to any thread, are cheap to clone, and errors are what every error crate takes. Checked when it
//! compiles.

use std::panic::{RefUnwindSafe, UnwindSafe};

use plaudit::storage::RealStorage;
use plaudit::storage::sim::{SimClock, SimDisk};
use plaudit::*;
use static_assertions::{assert_impl_all, assert_not_impl_any, assert_obj_safe};

assert_impl_all!(Store: Send, Sync, Clone, std::fmt::Debug);
assert_impl_all!(Counters: Send, Sync, Clone, std::fmt::Debug);
assert_impl_all!(HotCounter: Send, Sync, Clone, std::fmt::Debug);
assert_impl_all!(Batch: Send, Sync, std::fmt::Debug);
assert_impl_all!(Receipt<'static>: Send, Sync, Unpin, Future<Output = Result<()>>, std::fmt::Debug);
assert_impl_all!(BatchReceipt: Send, Sync, Unpin, Future<Output = Result<()>>, std::fmt::Debug);
assert_impl_all!(CompareAndSet<'static>: Send, Sync, std::fmt::Debug);
assert_impl_all!(Iter<'static>: Send, Sync, Iterator<Item = Result<(bytes::Bytes, i64)>>);
assert_impl_all!(Subscription: Send, Sync, Iterator<Item = Delivery>);
assert_impl_all!(Delivery: Send, Sync, Clone, PartialEq);
assert_impl_all!(Error: Send, Sync, Clone, std::error::Error);
assert_impl_all!(Options: Send, Sync, Clone);
assert_impl_all!(CounterOptions: Send, Sync, Copy, PartialEq);
assert_impl_all!(LikeOptions: Send, Sync, Copy, PartialEq);
assert_impl_all!(Environment: Send, Sync, Clone);
assert_impl_all!(RecoveryReport: Send, Sync, Clone);
assert_impl_all!(Stats: Send, Sync, Clone);
assert_impl_all!(VerifyReport: Send, Sync, Clone);
assert_impl_all!(RealStorage: Send, Sync, Clone);
assert_impl_all!(SimDisk: Send, Sync, Clone);
assert_impl_all!(SimClock: Send, Sync, Clone);
assert_impl_all!(CounterOptions: UnwindSafe, RefUnwindSafe);
// A receipt is an acknowledgement, and there is one of each.
assert_not_impl_any!(Receipt<'static>: Clone);
assert_not_impl_any!(Subscription: Clone);
assert_obj_safe!(storage::Storage, storage::StorageFile, storage::StorageLock, Clock);

#[test]
fn handles_are_a_few_words() {
    assert_eq!(size_of::<Store>(), size_of::<usize>());
    assert!(size_of::<Receipt<'static>>() <= 64, "a receipt is returned by every call: {}", size_of::<Receipt<'_>>());
    assert!(size_of::<Result<Receipt<'static>>>() <= 96, "{}", size_of::<Result<Receipt<'_>>>());
}
