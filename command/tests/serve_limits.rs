//! `sttabt serve` under bad weather: too many requests, slow and gone clients, a passage that overflows, and its end.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::command::http::{self, Answer, PATIENCE};
use crate::command::server::{Server, request};
use crate::command::*;
use crate::common::edit::{HostTensor, edit_tensors, save, scorer_files};
use crate::common::{classify, engine, tiny_bert};
use crate::serve::scorer;
use serde_json::{Value, json};
use sttabt::{BackendKind, Input};

/// Large requests are allowed, and computed in many small runs.
const LARGE: [&str; 6] =
    ["--max-client-batch-size", "100000", "--payload-limit", "50000000", "--max-batch-tokens", "512"];
const QUEUE: &str = "te_queue_size";

fn small() -> Value {
    json!({ "query": "w7", "texts": ["w9 w10"] })
}

/// A request that takes some time.
fn large(num_texts: usize) -> Value {
    json!({ "query": "w7 w8", "texts": vec!["w9 w10 w11 w12 w13 ".repeat(25); num_texts], "prune": "dense" })
}

fn error_of(answer: &Answer) -> (u16, String) {
    let json = answer.json();
    (
        answer.status,
        format!("{}: {}", json["error_type"].as_str().expect("a type"), json["error"].as_str().expect("a text")),
    )
}

#[test]
fn too_many_requests_are_refused() {
    let server = Server::start(&scorer("serve_queue"), &[&LARGE[..], &["--max-concurrent-requests", "2"]].concat());
    let [first, second] = [(); 2].map(|()| server.begin_post("/rerank", &large(1500)));
    server.wait_for(QUEUE, 2.0);
    // It answers while it computes.
    assert_eq!(server.get("/health").status, 200);
    let refused = http::receive(server.begin_post("/rerank", &small()));
    let expected = "Overloaded: 2 requests are waiting already, and no more may wait: try again later";
    assert_eq!(error_of(&refused), (429, expected.to_owned()));
    // Those who have gone leave their places, and what is not computed yet is not.
    drop([first, second]);
    server.wait_for("te_request_failure{err=\"gone\"}", 2.0);
    server.wait_for(QUEUE, 0.0);
    assert_eq!(server.post("/rerank", &small()).0, 200);
    let num_computed = server.metric("te_batch_next_size_sum");
    assert!(num_computed < 3000.0, "{num_computed} of 3001 were computed");
    assert_eq!(server.metric("te_request_failure{err=\"overloaded\"}"), 1.0);
}

/// By default as many requests may wait as there is room for connections, and some more: the next are refused, and not left outside.
#[cfg(target_os = "linux")]
#[test]
fn more_clients_come_in_than_may_wait() {
    let server = Server::start(&scorer("serve_crowd"), &LARGE);
    let first = server.begin_post("/rerank", &large(20_000));
    server.wait_for(QUEUE, 1.0);
    let others: Vec<TcpStream> = (1..512).map(|_| server.begin_post("/rerank", &small())).collect();
    server.wait_for(QUEUE, 512.0);
    let expected = "Overloaded: 512 requests are waiting already, and no more may wait: try again later";
    assert_eq!(error_of(&http::receive(server.begin_post("/rerank", &small()))), (429, expected.to_owned()));
    assert_eq!(server.get("/health").status, 200);
    drop((first, others));
}

#[test]
fn a_request_has_its_time() {
    let server = Server::start(&scorer("serve_time"), &[&LARGE[..], &["--request-seconds", "1"]].concat());
    let answer = http::receive(server.begin_post("/rerank", &large(10_000)));
    let expected = "Overloaded: no answer within 1 s (the server's --request-seconds): try again later, or with less";
    assert_eq!(error_of(&answer), (503, expected.to_owned()));
    server.wait_for(QUEUE, 0.0);
    assert_eq!(server.post("/rerank", &small()).0, 200);
}

/// What comes until the other side closes, however it does.
fn rest(mut stream: TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
        _ => bytes,
    }
}

#[test]
fn slow_clients_hold_nothing_for_ever() {
    let args = ["--client-seconds", "1", "--payload-limit", "50000000"];
    let server = Server::start(&scorer("serve_slow"), &args);
    let start = Instant::now();
    // A head that does not come, one that does not end, a body that does not, and one of which a byte comes now and then.
    let silent = http::connect(server.port);
    let mut half = http::connect(server.port);
    half.write_all(b"POST /rerank HTTP/1.1\r\nHost:").expect("half a head");
    let body = small().to_string();
    let whole = request("POST", "/rerank", "Content-Type: application/json\r\n", body.as_bytes());
    let [stopped, mut dripping] = [(); 2].map(|()| {
        let mut stream = http::connect(server.port);
        stream.write_all(&whole[..whole.len() - 20]).expect("most of a request");
        stream
    });
    let drip = thread::spawn(move || {
        for byte in &whole[whole.len() - 20..whole.len() - 1] {
            if dripping.write_all(&[*byte]).is_err() {
                break;
            }
            sleep(Duration::from_millis(100));
        }
        rest(dripping)
    });
    assert_eq!(server.post("/rerank", &small()).0, 200, "others go on");
    let expected = "Validation: the body did not come within 1 s (the server's --client-seconds)".to_owned();
    assert_eq!(error_of(&Answer::of(&rest(stopped))), (408, expected.clone()));
    assert_eq!(error_of(&Answer::of(&drip.join().expect("a client"))), (408, expected));
    assert_eq!((rest(silent), rest(half)), (Vec::new(), Vec::new()));
    // One that does not take its answer, which no socket buffers whole: it is cut off.
    let text = "w9 ".repeat(8 << 20);
    let lazy = server.begin_post("/rerank", &json!({ "query": "w7", "texts": [text], "return_text": true }));
    server.wait_for("te_request_success{method=\"rerank\"}", 2.0);
    sleep(Duration::from_millis(2500));
    let answer = rest(lazy);
    assert!(answer.len() < text.len(), "all {} bytes came", answer.len());
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn bytes_that_are_no_http_end_a_connection() {
    let server = Server::start(&scorer("serve_garbage"), &[]);
    for garbage in [&b"nonsense\r\n\r\n"[..], b"\x16\x03\x01\x02\0\x01\0\r\n\r\n", &[b'A'; 300 << 10]] {
        let mut stream = http::connect(server.port);
        // The server may close before all is written.
        let _ = stream.write_all(garbage);
        let answer = rest(stream);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{:?}", String::from_utf8_lossy(&answer));
    }
    // A body in pieces, as some clients send it; and one that breaks off.
    let body = small().to_string();
    let chunked = format!("{:x}\r\n{}\r\n{:x}\r\n{}\r\n0\r\n\r\n", 10, &body[..10], body.len() - 10, &body[10..]);
    let head =
        "POST /rerank HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json; charset=utf-8\r\n";
    let answer = http::send(server.port, format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunked}").as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.headers);
    drop({
        let mut stream = http::connect(server.port);
        stream.write_all(format!("{head}Content-Length: 100\r\n\r\n{{").as_bytes()).expect("a request");
        stream
    });
    server.wait_for("te_request_failure{err=\"validation\"}", 1.0);
    assert_eq!(server.post("/rerank", &small()).0, 200);
}

/// A scorer that overflows where it reads `w90`.
fn overflowing(name: &str) -> String {
    let mut files = scorer_files();
    let token =
        classify(&mut engine(&tiny_bert(), BackendKind::Cpu), &[Input::Text("w90")], &"dense".parse().expect("a rule"));
    let token = token[0].input_ids[1] as usize;
    edit_tensors(&mut files, |tensors| {
        let name = tensors.keys().find(|name| name.ends_with("word_embeddings.weight")).expect("a table").clone();
        let table = tensors.get_mut(&name).expect("a table");
        let (mut values, width) = (table.values(), table.shape[1]);
        for (at, value) in values[token * width..][..width].iter_mut().enumerate() {
            *value = if at % 2 == 0 { 3e38 } else { -3e38 };
        }
        *table = HostTensor::f32(&table.shape.clone(), &values);
    });
    let folder = scratch(name);
    save(&files, &folder);
    path(&folder)
}

/// Of requests in one run, the bad one alone fails.
#[test]
fn a_passage_that_overflows_fails_its_own_request() {
    let server = Server::start(&overflowing("serve_overflow"), &[&LARGE[..4], &["--prune", "dense"]].concat());
    let alone = server.answer("/rerank", &small());
    let first = server.begin_post("/rerank", &large(300));
    server.wait_for(QUEUE, 1.0);
    let good = small();
    let bad = json!({ "query": "w7", "texts": ["w9", "w11 w90", "w12", "w90"] });
    let clients: Vec<TcpStream> =
        (0..9).map(|client| server.begin_post("/rerank", if client % 3 == 1 { &bad } else { &good })).collect();
    for (client, stream) in clients.into_iter().enumerate() {
        let answer = http::receive(stream);
        if client % 3 == 1 {
            let expected = "Backend: passage 2: numbers under `dense` are not finite: the weights overflow";
            assert_eq!(error_of(&answer), (424, expected.to_owned()));
        } else {
            assert_eq!((answer.status, answer.json()), (200, alone.clone()));
        }
    }
    assert_eq!(http::receive(first).status, 200);
}

#[test]
fn a_signal_lets_it_finish() {
    for name in ["TERM", "INT"] {
        let server = Server::start(&scorer(&format!("serve_{name}")), &LARGE);
        let clients = [(); 2].map(|()| server.begin_post("/rerank", &large(600)));
        server.wait_for(QUEUE, 2.0);
        server.signal(name);
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", server.port)).is_ok() {
            assert!(start.elapsed() < PATIENCE, "it still accepts");
            sleep(Duration::from_millis(5));
        }
        for client in clients {
            let answer = http::receive(client);
            assert_eq!((answer.status, answer.json().as_array().map(Vec::len)), (200, Some(600)));
        }
        // On a busy machine one of them may be through when the signal comes.
        let (code, said) = server.end();
        let expected =
            ["1 request", "2 requests"].map(|left| format!("note: finishing {left}; a second signal ends at once\n"));
        assert!(code == 0 && expected.contains(&said), "{code}: {said}");
    }
    let server = Server::start(&scorer("serve_idle"), &[]);
    // A client that keeps its connection does not hold it.
    let mut idle = http::connect(server.port);
    idle.write_all(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n").expect("a request");
    idle.read_exact(&mut [0; 15]).expect("an answer");
    server.signal("TERM");
    assert_eq!(server.end(), (0, String::new()));
}

#[test]
fn an_end_is_not_waited_for_longer_than_asked() {
    let server = Server::start(&scorer("serve_drain"), &[&LARGE[..], &["--drain-seconds", "1"]].concat());
    let _client = server.begin_post("/rerank", &large(10_000));
    server.wait_for(QUEUE, 1.0);
    server.signal("TERM");
    let said = "note: finishing 1 request; a second signal ends at once\nerror: no answer to 1 request within 1 s (--drain-seconds)\n";
    assert_eq!(server.end(), (1, said.to_owned()));
    // A request whose body is not there yet is one, too.
    let server = Server::start(&scorer("serve_drain_body"), &["--drain-seconds", "1"]);
    let body = small().to_string();
    let whole = request("POST", "/rerank", "Content-Type: application/json\r\n", body.as_bytes());
    let mut client = http::connect(server.port);
    client.write_all(&whole[..whole.len() - 5]).expect("most of a request");
    server.wait_for("te_request_count{method=\"rerank\"}", 1.0);
    server.signal("TERM");
    assert_eq!(server.end(), (1, said.to_owned()));
    let server = Server::start(&scorer("serve_second"), &LARGE);
    let _client = server.begin_post("/rerank", &large(10_000));
    server.wait_for(QUEUE, 1.0);
    server.signal("INT");
    sleep(Duration::from_millis(300));
    server.signal("INT");
    assert_eq!(server.end().0, 130);
}
