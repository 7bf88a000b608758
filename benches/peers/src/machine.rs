//! The machine that figures come from, and what it tells of a process.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Where peers keep their data; by default beside the build.
const DIR_VARIABLE: &str = "PLAUDIT_PEERS_DIR";

/// An empty directory on a disk, removed at the end.
pub(crate) fn temp_dir() -> TempDir {
    let dir = data_dir();
    std::fs::create_dir_all(&dir).expect("the data directory can be created");
    let (_, kind) = file_system(&dir);
    assert!(kind != "tmpfs" && kind != "ramfs", "{} is in memory; set {DIR_VARIABLE} to a disk", dir.display());
    TempDir::new_in(dir).expect("the data directory can be written")
}

fn data_dir() -> PathBuf {
    let beside_build = || Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers-data");
    std::env::var_os(DIR_VARIABLE).map_or_else(beside_build, PathBuf::from)
}

/// Mount point and kind.
fn file_system(path: &Path) -> (PathBuf, String) {
    let mounts = read("/proc/mounts");
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((PathBuf::from(fields.next()?), fields.next()?.to_owned()))
    });
    let of_path = mounts.filter(|(point, _)| path.starts_with(point)).max_by_key(|(point, _)| point.as_os_str().len());
    of_path.unwrap_or_else(|| (PathBuf::from("/"), "unknown".to_owned()))
}

/// One line for each property.
pub(crate) fn description() -> Vec<String> {
    let field = |file: &str, name: &str| {
        let text = read(file);
        let value = text.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap_or("unknown").trim_start_matches([':', ' ', '\t']).trim().to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = field("/proc/meminfo", "MemTotal");
    let memory: f64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
    vec![
        format!("date: {}", output("date", &["-u", "+%Y-%m-%d %H:%M UTC"])),
        format!("processor: {cores} cores, {}", field("/proc/cpuinfo", "model name")),
        format!("memory: {:.1} GiB", memory / (1 << 20) as f64),
        format!("kernel: Linux {}", read("/proc/sys/kernel/osrelease").trim()),
        format!("file system: {}", file_system(&data_dir()).1),
        format!("compiler: {}", output("rustc", &["--version"])),
        format!("load when it began: {}", read("/proc/loadavg").trim()),
    ]
}

/// Asked for before any result is written, which makes the tree dirty.
pub(crate) fn commit() -> String {
    format!("commit: {}", output("git", &["-C", env!("CARGO_MANIFEST_DIR"), "describe", "--always", "--dirty"]))
}

fn read(file: &str) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    if text.is_empty() { "unknown".to_owned() } else { text }
}

/// Resident memory of a process in bytes.
pub(crate) fn resident_bytes(process: Option<u32>) -> u64 {
    let status = read(&of_process(process, "status"));
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = resident.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.expect("the kernel tells the resident memory") << 10
}

/// Bytes that a process, with the children it has waited for, had the kernel write to disks: whole pages that it made
/// dirty, each once however often it was changed before it was written, less those that were dropped unwritten.
pub(crate) fn written_bytes(process: Option<u32>) -> i64 {
    let io = read(&of_process(process, "io"));
    let field = |name: &str| {
        let value = io.lines().find_map(|line| line.strip_prefix(name));
        value.and_then(|text| text.trim().parse::<i64>().ok()).expect("the kernel tells what was written")
    };
    field("write_bytes:") - field("cancelled_write_bytes:")
}

fn of_process(process: Option<u32>, file: &str) -> String {
    let process = process.map_or_else(|| "self".to_owned(), |id| id.to_string());
    format!("/proc/{process}/{file}")
}

/// Bytes that the files of a directory take on the disk.
pub(crate) fn disk_bytes(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(dir).expect("a directory can be read").flatten();
    let bytes = entries.map(|entry| {
        let meta = entry.metadata().expect("an entry can be looked at");
        if meta.is_dir() { disk_bytes(&entry.path()) } else { meta.blocks() * 512 }
    });
    bytes.sum()
}

/// How long it takes to write 4 KiB into a file that has its room, and to sync: the median.
pub(crate) fn sync_time() -> Duration {
    const PAGE: [u8; 4096] = [7; 4096];
    const TIMES: u64 = 200;
    let dir = temp_dir();
    let path = dir.path().join("sync");
    let file = OpenOptions::new().create_new(true).write(true).open(path).expect("a file can be created");
    let write = |file: &File, page: u64| {
        file.write_all_at(&PAGE, page * 4096).and_then(|()| file.sync_data()).expect("a file can be written");
    };
    (0..TIMES).for_each(|page| file.write_all_at(&PAGE, page * 4096).expect("a file can be written"));
    file.sync_all().expect("a file can be synced");
    let mut times: Vec<Duration> = (0..TIMES)
        .map(|page| {
            let started = Instant::now();
            write(&file, page);
            started.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}
