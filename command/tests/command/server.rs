//! A running `sttabt serve`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::http::{self, Answer, PATIENCE};
use super::with_model;

/// It ends with this.
pub struct Server {
    child: Child,
    stderr: BufReader<ChildStderr>,
    /// What it says when it is there.
    pub hello: String,
    pub port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    pub fn start(model: &str, args: &[&str]) -> Self {
        let mut command = with_model(model, "serve", &[&["--port", "0"], args].concat());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("a process");
        let (mut hello, mut stderr) = (String::new(), BufReader::new(child.stderr.take().expect("stderr")));
        // Notes may come first.
        let mut notes = String::new();
        let port = loop {
            notes.push_str(&hello);
            hello.clear();
            let count = stderr.read_line(&mut hello).expect("a line");
            assert!(count > 0, "no address in `{notes}`");
            let port = hello.split_once(" is at http://127.0.0.1:").and_then(|(_, rest)| rest.split(':').next());
            if let Some(port) = port {
                break port.parse().expect("a port");
            }
        };
        Self { child, stderr, hello, port }
    }

    pub fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", b"")
    }

    /// `headers` end with a line break each.
    pub fn ask(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        http::receive(self.begin(method, path, headers, body))
    }

    /// Sends a request, whose answer is not read.
    pub fn begin(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> TcpStream {
        let mut stream = http::connect(self.port);
        stream.write_all(&request(method, path, headers, body)).expect("a request");
        stream
    }

    pub fn begin_post(&self, path: &str, json: &Value) -> TcpStream {
        self.begin("POST", path, "Content-Type: application/json\r\n", json.to_string().as_bytes())
    }

    pub fn post(&self, path: &str, json: &Value) -> (u16, Value) {
        let answer = http::receive(self.begin_post(path, json));
        (answer.status, answer.json())
    }

    /// The answer to a request that is in order.
    pub fn answer(&self, path: &str, json: &Value) -> Value {
        let (status, answer) = self.post(path, json);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// A line of `/metrics`, up to its number; 0 where there is none.
    pub fn metric(&self, name: &str) -> f64 {
        let text = String::from_utf8(self.get("/metrics").body).expect("UTF-8");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_default()
    }

    /// Waits until a metric has a value.
    pub fn wait_for(&self, name: &str, value: f64) {
        let start = Instant::now();
        loop {
            let found = self.metric(name);
            if found == value {
                return;
            }
            assert!(start.elapsed() < PATIENCE, "{name} is {found}, expected {value}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(status.expect("kill").success());
    }

    /// Its exit code, and what it has said since its address.
    pub fn end(mut self) -> (i32, String) {
        let mut said = String::new();
        self.stderr.read_to_string(&mut said).expect("stderr");
        (self.child.wait().expect("an end").code().expect("no signal"), said)
    }
}

impl Answer {
    pub fn json(&self) -> Value {
        assert_eq!(self.header("Content-Type"), Some("application/json"), "{}", self.headers);
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
}

/// With one connection for each request.
pub fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}{length}\r\n");
    [head.as_bytes(), body].concat()
}
