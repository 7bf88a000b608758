//! Other processes: this test's own binary, started again to do one thing with a store, in a shell that sets limits.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const ROLE: &str = "PLAUDIT_TEST_HOSTILE_ROLE";
const STORE: &str = "PLAUDIT_TEST_HOSTILE_STORE";

/// A process that runs the test `role`, which does its part only where [`store_for`] names a store.
pub(crate) fn command(role: &str, store: &Path) -> Command {
    in_shell("exec \"$@\"", role, store)
}

/// The same, started by a shell script that ends in `"$@"`.
pub(crate) fn in_shell(script: &str, role: &str, store: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script, "sh"]).arg(std::env::current_exe().unwrap()).args(["--exact", role, "--nocapture"]);
    command.env(ROLE, role).env(STORE, store).stdin(Stdio::null());
    command
}

/// The same with privileges of its own: `unshare` runs the script where mounting is allowed, or where the files of root
/// are a stranger's. `None`, and a line that says so, where the system does not let it.
pub(crate) fn unshared(flags: &[&str], script: &str, role: &str, store: &Path) -> Option<Command> {
    let allowed = Command::new("unshare").args(flags).arg("true").stderr(Stdio::null()).status();
    if !allowed.is_ok_and(|status| status.success()) {
        println!("NOT TESTED HERE: this system does not allow `unshare {}`, which {role} needs", flags.join(" "));
        return None;
    }
    let inner = in_shell(script, role, store);
    let mut command = Command::new("unshare");
    command.args(flags).arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    Some(command)
}

/// The store of the process that was started for this role; none in the process that runs all tests.
pub(crate) fn store_for(role: &str) -> Option<std::path::PathBuf> {
    let ours = std::env::var_os(ROLE).is_some_and(|started| started == OsStr::new(role));
    ours.then(|| std::env::var_os(STORE).unwrap().into())
}

/// Runs it to its end, which must be a good one; what it printed.
pub(crate) fn run(mut command: Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let [out, err] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(status.success(), "{status}\n{out}\n{err}");
    assert!(out.contains("1 passed"), "the role names a test: {out}");
    out
}

/// What follows the word in the first line that has it.
pub(crate) fn said(output: &str, word: &str) -> String {
    let line = output.lines().find_map(|line| line.split_once(word));
    line.unwrap_or_else(|| panic!("no {word:?} in {output}")).1.trim().to_owned()
}
