//! A client of the commands' servers: what goes out is written as it is, and no client tidies it up.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// What a server has for an answer, before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct Answer {
    pub status: u16,
    pub headers: String,
    pub body: Vec<u8>,
}

pub fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("a connection");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// All that comes until the server closes.
pub fn send(port: u16, request: &[u8]) -> Answer {
    let mut stream = connect(port);
    stream.write_all(request).expect("a request");
    receive(stream)
}

pub fn receive(mut stream: TcpStream) -> Answer {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    Answer::of(&answer)
}

impl Answer {
    pub fn of(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("the end of the headers");
        let headers = String::from_utf8(bytes[..end].to_vec()).expect("UTF-8");
        let status = headers.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Self { status, headers, body: bytes[end + 4..].to_vec() }
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.headers.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}
