//! A server that means harm, over real connections. Whatever it does has an end, so that no test hangs on it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What it does with a connection, after the request has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// Says nothing.
    Silence,
    /// A head, and a body without an end.
    Flood,
    /// A body that is announced to be as long as can be written.
    Announced,
    /// A body of one chunk that is announced to be as long as can be written.
    Chunk,
    /// A head without an end.
    Headers,
    /// One interim answer after the other.
    Interim,
    /// A head, byte by byte.
    SlowHead,
    /// A body, byte by byte.
    SlowBody,
    /// A kilobyte or so that is megabytes when it is unpacked.
    Bomb,
    /// Leads somewhere else, with this status.
    Redirect(u16, String),
    /// Ends in the middle.
    Cut,
}

/// Everything but redirects.
pub(crate) const ALL: [Harm; 10] = [
    Harm::Silence,
    Harm::Flood,
    Harm::Announced,
    Harm::Chunk,
    Harm::Headers,
    Harm::Interim,
    Harm::SlowHead,
    Harm::SlowBody,
    Harm::Bomb,
    Harm::Cut,
];

/// Most bytes that one connection is sent, and the longest that it lasts.
const MOST: usize = 256 * 1024 * 1024;
const LONGEST: Duration = Duration::from_secs(20);

/// A running one.
pub(crate) struct Rogue {
    pub(crate) address: String,
    connections: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
}

impl Rogue {
    /// `status` is that of its answers.
    pub(crate) fn start(harm: Harm, status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = format!("http://{}", listener.local_addr().expect("it is bound"));
        let rogue = Self { address, connections: Arc::default(), sent: Arc::default() };
        let (connections, sent) = (Arc::clone(&rogue.connections), Arc::clone(&rogue.sent));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                connections.fetch_add(1, Ordering::SeqCst);
                let (harm, sent) = (harm.clone(), Arc::clone(&sent));
                thread::spawn(move || Connection { stream, sent, began: Instant::now() }.answer(&harm, status));
            }
        });
        rogue
    }

    /// How many connections there were.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// How many bytes it got rid of, what lies in the sockets' buffers included.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }
}

struct Connection {
    stream: TcpStream,
    sent: Arc<AtomicUsize>,
    began: Instant,
}

impl Connection {
    /// Nothing when the other side has hung up, or it has lasted long enough.
    fn send(&mut self, bytes: &[u8]) -> Option<()> {
        if self.sent.load(Ordering::SeqCst) > MOST || self.began.elapsed() > LONGEST {
            return None;
        }
        self.stream.write_all(bytes).ok()?;
        self.sent.fetch_add(bytes.len(), Ordering::SeqCst);
        Some(())
    }

    fn for_ever(&mut self, bytes: &[u8]) {
        while self.send(bytes).is_some() {}
    }

    fn slowly(&mut self, bytes: &[u8]) {
        for byte in bytes.iter().cycle() {
            if self.send(&[*byte]).is_none() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn answer(&mut self, harm: &Harm, status: u16) {
        let _ = self.stream.read(&mut vec![0; 65536]);
        let mut head = |more: &str| self.send(format!("HTTP/1.1 {status} Whatever\r\n{more}").as_bytes());
        match harm {
            Harm::Silence => {
                // Until the other side hangs up.
                let _ = self.stream.set_read_timeout(Some(LONGEST));
                let _ = self.stream.read(&mut [0]);
            }
            Harm::Flood => {
                head("connection: close\r\n\r\n");
                self.for_ever(&vec![b'x'; 65536]);
            }
            Harm::Announced => {
                head(&format!("content-length: {}\r\n\r\n", u64::MAX));
                self.for_ever(&vec![b'x'; 65536]);
            }
            Harm::Chunk => {
                head("transfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFF\r\n");
                self.for_ever(&vec![b'x'; 65536]);
            }
            Harm::Headers => {
                head("");
                self.for_ever(b"x-more: and more, and more, and more, and more, and more\r\n");
            }
            Harm::Interim => self.for_ever(b"HTTP/1.1 100 Continue\r\n\r\n"),
            Harm::SlowHead => {
                head("x-slow: ");
                self.slowly(b"x");
            }
            Harm::SlowBody => {
                head("content-length: 1000000\r\n\r\n");
                self.slowly(b"x");
            }
            Harm::Bomb => {
                let bomb = bomb();
                head(&format!("content-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len()));
                self.send(&bomb);
            }
            Harm::Redirect(status, to) => {
                self.send(format!("HTTP/1.1 {status} Moved\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").as_bytes());
            }
            Harm::Cut => {
                head("content-length: 1000\r\n\r\n{");
            }
        }
    }
}

/// Twelve kilobytes of gzip that hold two megabytes of zeros (RFC 1951, fixed codes): one zero, and the copies of it.
fn bomb() -> Vec<u8> {
    let mut bits: Vec<bool> = vec![true, true, false];
    let mut code = |digits: &str| bits.extend(digits.chars().map(|digit| digit == '1'));
    code("00110000");
    for _ in 0..8000 {
        // The 258 bytes before, from one byte back.
        code("11000101");
        code("00000");
    }
    code("0000000");
    let byte = |bits: &[bool]| bits.iter().rev().fold(0, |byte, bit| (byte << 1) | u8::from(*bit));
    let packed = bits.chunks(8).map(byte);
    [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255].into_iter().chain(packed).chain([0; 8]).collect()
}
