//! Redis: the system's `redis-server`, started here on a unix socket, with its append-only file. INCR for a counter,
//! SADD and SREM for a like. The client is as thin as can be, so that the server is what is measured.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::load::{Event, key};
use crate::peer::{Counting, Hand, Home, LikeHand, Liking, Peer, Sync};

const START_LIMIT: Duration = Duration::from_secs(300);

/// Keys that are read at once.
const READ_BATCH: u64 = 1_000;

/// How an answer ends that refuses to rewrite the append-only file twice at a time.
const BUSY: &str = "rewriting already in progress";

pub(crate) struct Redis;

impl Peer for Redis {
    fn name(&self) -> &'static str {
        "Redis"
    }

    fn version(&self) -> String {
        let output = Command::new("redis-server").arg("--version").output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let version = text.split_whitespace().find_map(|word| word.strip_prefix("v="));
        version.unwrap_or("not installed").to_owned()
    }

    fn settings(&self, sync: Sync) -> String {
        format!("unix socket, append-only file, `appendfsync {}`, no snapshots; INCR, SADD, SREM", appendfsync(sync))
    }

    fn home(&self) -> Home {
        Home::MemoryAndDisk
    }

    fn batches(&self) -> bool {
        true
    }

    fn missing(&self) -> Option<String> {
        let is_missing = Command::new("redis-server").arg("--version").output().is_err();
        is_missing.then(|| "redis-server is not installed (apt-get install redis-server)".to_owned())
    }

    fn counting(&self, dir: &Path, sync: Sync) -> Box<dyn Counting> {
        Box::new(Server::start(dir, sync))
    }

    fn liking(&self, dir: &Path, sync: Sync) -> Option<Box<dyn Liking>> {
        Some(Box::new(Server::start(dir, sync)))
    }
}

fn appendfsync(sync: Sync) -> &'static str {
    match sync {
        Sync::Relaxed => "everysec",
        Sync::EachCall => "always",
    }
}

struct Server {
    child: Child,
    socket: PathBuf,
}

impl Server {
    /// Returns once it has loaded what it has on disk.
    fn start(dir: &Path, sync: Sync) -> Self {
        let socket = dir.join("redis.sock");
        let _ = std::fs::remove_file(&socket); // a server before this one may have left it
        let child = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--appendonly", "yes", "--daemonize", "no", "--loglevel", "warning"])
            .args(["--appendfsync", appendfsync(sync)])
            .arg("--unixsocket")
            .arg(&socket)
            .arg("--dir")
            .arg(dir)
            .stdout(Stdio::null())
            .spawn();
        let server = Self { child: child.expect("redis-server starts"), socket };
        let started = Instant::now();
        while !server.is_ready() {
            assert!(started.elapsed() < START_LIMIT, "redis-server does not answer");
            std::thread::sleep(Duration::from_millis(1));
        }
        server
    }

    fn is_ready(&self) -> bool {
        let Ok(stream) = UnixStream::connect(&self.socket) else { return false };
        let mut connection = Connection::new(stream);
        connection.command(&[b"PING"]);
        connection.send();
        matches!(connection.reply(), Reply::Text(text) if text == "PONG")
    }

    fn connect(&self) -> Connection {
        Connection::new(UnixStream::connect(&self.socket).expect("redis-server takes connections"))
    }

    /// Rewrites the append-only file, and returns once that is done. Redis may be at it already, by itself.
    fn rewrite(&self) {
        let mut connection = self.connect();
        loop {
            connection.command(&[b"BGREWRITEAOF"]);
            connection.send();
            let is_begun = !matches!(connection.reply(), Reply::Text(text) if text.ends_with(BUSY));
            connection.wait_for_rewrite();
            if is_begun {
                return;
            }
        }
    }

    /// Redis 7.2 and later can be asked to wait (WAITAOF); before, the file is on disk a second later, or when it is
    /// synced from here: a sync of a file is good for all who wrote to it.
    fn sync_files(&self) {
        let dir = self.socket.parent().expect("the socket is in a directory").join("appendonlydir");
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            std::fs::File::open(entry.path()).and_then(|file| file.sync_data()).expect("a file can be synced");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(stream) = UnixStream::connect(&self.socket) {
            let mut connection = Connection::new(stream);
            connection.command(&[b"SHUTDOWN"]);
            connection.send();
            let mut rest = Vec::new();
            let _ = connection.input.read_to_end(&mut rest); // ends when the server does
        } else {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// One connection, which may have many requests under way.
struct Connection {
    output: UnixStream,
    input: BufReader<UnixStream>,
    requests: Vec<u8>,
    line: Vec<u8>,
}

#[derive(Debug)]
enum Reply {
    Number(i64),
    Text(String),
    Bytes(Vec<u8>),
    Nothing,
    List(Vec<Reply>),
}

impl Connection {
    fn new(stream: UnixStream) -> Self {
        let output = stream.try_clone().expect("a socket can be cloned");
        Self { output, input: BufReader::new(stream), requests: Vec::new(), line: Vec::new() }
    }

    fn command(&mut self, words: &[&[u8]]) {
        write!(self.requests, "*{}\r\n", words.len()).expect("memory can be written");
        for word in words {
            write!(self.requests, "${}\r\n", word.len()).expect("memory can be written");
            self.requests.extend_from_slice(word);
            self.requests.extend_from_slice(b"\r\n");
        }
    }

    fn send(&mut self) {
        self.output.write_all(&self.requests).expect("redis-server takes requests");
        self.requests.clear();
    }

    fn reply(&mut self) -> Reply {
        self.line.clear();
        self.input.read_until(b'\n', &mut self.line).expect("redis-server answers");
        let text = std::str::from_utf8(&self.line).expect("a reply's head is text").trim_end();
        let (kind, rest) = text.split_at_checked(1).expect("redis-server is still there");
        let number = rest.parse::<i64>();
        match (kind, number) {
            (":", Ok(number)) => Reply::Number(number),
            ("$", Ok(..0)) => Reply::Nothing,
            ("$", Ok(length)) => {
                let mut bytes = vec![0; length as usize + 2];
                self.input.read_exact(&mut bytes).expect("redis-server answers");
                bytes.truncate(length as usize);
                Reply::Bytes(bytes)
            }
            ("*", Ok(count)) => Reply::List((0..count).map(|_| self.reply()).collect()),
            ("+", _) => Reply::Text(rest.to_owned()),
            ("-", _) if rest.starts_with("LOADING") || rest.ends_with(BUSY) => Reply::Text(rest.to_owned()),
            _ => panic!("redis-server answered {text:?}"),
        }
    }

    /// Returns once no append-only file is being rewritten.
    fn wait_for_rewrite(&mut self) {
        loop {
            self.command(&[b"INFO", b"persistence"]);
            self.send();
            let Reply::Bytes(info) = self.reply() else { panic!("INFO answers with bytes") };
            let info = String::from_utf8_lossy(&info);
            let is_quiet = |field: &str| info.lines().any(|line| line.strip_prefix(field) == Some(":0"));
            if is_quiet("aof_rewrite_in_progress") && is_quiet("aof_rewrite_scheduled") {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Reads the answers to so many requests.
    fn numbers(&mut self, count: usize) {
        for _ in 0..count {
            let reply = self.reply();
            assert!(matches!(reply, Reply::Number(_)), "redis-server answered {reply:?}");
        }
    }
}

impl Counting for Server {
    fn hand(&self, batch: usize) -> Box<dyn Hand + '_> {
        let mut connection = self.connect();
        Box::new(move |numbers: &[u32]| {
            for call in numbers.chunks(batch) {
                for &number in call {
                    connection.command(&[b"INCR", &key(number)]);
                }
                connection.send();
                connection.numbers(call.len());
            }
        })
    }

    fn sync(&self) {
        self.sync_files();
    }

    fn settle(&self) {
        self.connect().wait_for_rewrite();
        self.sync_files();
    }

    fn sum(&self, keys: u64) -> u64 {
        let mut connection = self.connect();
        connection.command(&[b"DBSIZE"]);
        connection.send();
        let Reply::Number(size) = connection.reply() else { panic!("DBSIZE answers with a number") };
        assert!(size.unsigned_abs() <= keys, "Redis has {size} keys of {keys}");
        let mut sum = 0;
        for first in (0..keys).step_by(READ_BATCH as usize) {
            let keys: Vec<_> = (first..keys.min(first + READ_BATCH)).map(|number| key(number as u32)).collect();
            let words: Vec<&[u8]> = [&b"MGET"[..]].into_iter().chain(keys.iter().map(|key| &key[..])).collect();
            connection.command(&words);
            connection.send();
            let Reply::List(values) = connection.reply() else { panic!("MGET answers with a list") };
            for value in values {
                if let Reply::Bytes(value) = value {
                    let value = std::str::from_utf8(&value).expect("a counter is text");
                    sum += value.parse::<u64>().expect("a counter is a number");
                }
            }
        }
        sum
    }

    fn compact(&self) -> bool {
        self.rewrite();
        true
    }

    fn process(&self) -> Option<u32> {
        Some(self.child.id())
    }
}

impl Liking for Server {
    fn hand(&self, batch: usize) -> LikeHand<'_> {
        let mut connection = self.connect();
        Box::new(move |events: &[Event]| {
            for call in events.chunks(batch) {
                for event in call {
                    let command: &[u8] = if event.liked { b"SADD" } else { b"SREM" };
                    connection.command(&[command, &key(event.item), event.viewer.to_string().as_bytes()]);
                }
                connection.send();
                connection.numbers(call.len());
            }
        })
    }

    fn sync(&self) {
        self.sync_files();
    }

    fn count(&self, item: u32) -> u64 {
        let mut connection = self.connect();
        connection.command(&[b"SCARD", &key(item)]);
        connection.send();
        let Reply::Number(count) = connection.reply() else { panic!("SCARD answers with a number") };
        count.unsigned_abs()
    }

    fn process(&self) -> Option<u32> {
        Some(self.child.id())
    }
}
