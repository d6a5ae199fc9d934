//! `sttabt demo`: what its server gives, and what it keeps to itself.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use crate::command::http::{self, Answer, PATIENCE};
use crate::command::*;

/// A running server; it ends with this.
struct Demo {
    child: Child,
    /// Kept open: a server whose reader is gone ends.
    _stdout: BufReader<ChildStdout>,
    port: u16,
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Demo {
    /// Waits for the printed URL.
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a process");
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout"));
        stdout.read_line(&mut line).expect("a line");
        let port = line.trim_end().rsplit_once(" is at http://127.0.0.1:").and_then(|(_, port)| port.strip_suffix('/'));
        let port = port.and_then(|port| port.parse().ok());
        let Some(port) = port else {
            let output = child.wait_with_output().expect("output");
            panic!("no URL in `{line}`: {}", String::from_utf8_lossy(&output.stderr));
        };
        Self { child, _stdout: stdout, port }
    }

    fn connect(&self) -> TcpStream {
        http::connect(self.port)
    }

    /// `target` goes out as it is: no client tidies it up.
    fn ask(&self, method: &str, target: &str) -> Answer {
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
    }

    /// With one more line of the head, or several.
    fn ask_with(&self, method: &str, target: &str, line: &str) -> Answer {
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\n{line}\r\n\r\n").as_bytes())
    }

    fn send(&self, request: &[u8]) -> Answer {
        http::send(self.port, request)
    }
}

/// A folder with a page in `dist` and a secret beside it.
fn page(name: &str) -> PathBuf {
    let folder = scratch(name);
    fs::create_dir_all(folder.join("dist/models/tiny")).expect("folders");
    file(&folder, "dist/index.html", "<!doctype html>the page");
    file(&folder, "secret.txt", "a secret");
    folder
}

fn demo(args: &[&str]) -> Command {
    sttabt([&["demo", "--no-open", "--port", "0"], args].concat())
}

fn serve(folder: &Path) -> Demo {
    Demo::start(demo(&["--dir", &path(&folder.join("dist"))]))
}

/// The bytes of a file, one after another, so that none can be missed.
fn bytes(count: usize) -> Vec<u8> {
    (0..count).map(|index| (index % 251) as u8).collect()
}

#[test]
fn files_come_whole_and_with_their_types() {
    let folder = page("demo-files");
    let rows = [
        ("/assets.js", "assets.js", "text/javascript; charset=utf-8", 10),
        ("/a.mjs", "a.mjs", "text/javascript; charset=utf-8", 0),
        ("/style.css?v=1#top", "style.css", "text/css; charset=utf-8", 99),
        ("/core_bg.wasm", "core_bg.wasm", "application/wasm", 100_003),
        ("/models/tiny/manifest.json", "models/tiny/manifest.json", "application/json", 5),
        ("/models/tiny/model.safetensors", "models/tiny/model.safetensors", "application/octet-stream", 3_000_017),
        ("/models/tiny/LICENSE", "models/tiny/LICENSE", "application/octet-stream", 7),
        ("/cat.PNG", "cat.PNG", "image/png", 8),
        ("/cat.jpg", "cat.jpg", "image/jpeg", 8),
        ("/cat.webp", "cat.webp", "image/webp", 8),
        ("/cat.svg", "cat.svg", "image/svg+xml", 8),
        ("/two%20words%2Etxt", "two words.txt", "text/plain; charset=utf-8", 8),
        ("/caf%C3%A9..txt", "café..txt", "text/plain; charset=utf-8", 8),
    ];
    let demo = serve(&folder);
    // Files that come after the start are served as well.
    for (target, name, media_type, size) in rows {
        file(&folder.join("dist"), name, bytes(size));
        for method in ["GET", "HEAD"] {
            let answer = demo.ask(method, target);
            let what = format!("{method} {target}: {}", answer.headers);
            assert_eq!(answer.status, 200, "{what}");
            assert_eq!(answer.header("Content-Type"), Some(media_type), "{what}");
            assert_eq!(answer.header("Content-Length"), Some(size.to_string().as_str()), "{what}");
            assert_eq!(answer.header("Cache-Control"), Some("no-cache"), "{what}");
            assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"), "{what}");
            assert!(answer.body == if method == "GET" { bytes(size) } else { Vec::new() }, "{what}");
        }
    }
    for target in ["/", "/index.html", "/?rule=topk"] {
        let answer = demo.ask("GET", target);
        assert_eq!((answer.status, answer.header("Content-Type")), (200, Some("text/html; charset=utf-8")), "{target}");
        assert_eq!(answer.body, b"<!doctype html>the page", "{target}");
    }
    let answer = demo.ask("POST", "/");
    assert_eq!((answer.status, answer.header("Allow")), (405, Some("GET, HEAD")), "{}", answer.headers);
    let missing = demo.ask("HEAD", "/missing");
    assert_eq!((missing.status, missing.body), (404, Vec::new()), "{}", missing.headers);
    // A head of many pieces, as with the cookies of other servers; an HTTP/1.0 client; something else altogether.
    let cookies = format!("GET / HTTP/1.1\r\nHost: localhost\r\nCookie: {}\r\n\r\n", "a=b; ".repeat(10_000));
    assert_eq!(demo.send(cookies.as_bytes()).status, 200);
    assert_eq!(demo.send(b"GET / HTTP/1.0\r\n\r\n").status, 200);
    for nonsense in [&b"nonsense\r\n\r\n"[..], b"\x16\x03\x01\x02\0\x01\0", &[b'A'; 300 << 10]] {
        assert_eq!(demo.send(nonsense).status, 400);
    }
    // A body that no socket buffers whole is never looked at, and the answer arrives all the same.
    let post =
        [&b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 33554432\r\n\r\n"[..], &bytes(32 << 20)].concat();
    assert_eq!(demo.send(&post).status, 405);
}

#[test]
fn a_browser_that_takes_gzip_gets_the_compressed_twin() {
    let folder = page("demo-gzip");
    let dist = folder.join("dist");
    fs::create_dir(dist.join("assets")).expect("a folder");
    for (name, text) in
        [("core.wasm", "whole"), ("core.wasm.gz", "twin"), ("stale.js.gz", "of old"), ("alone.js", "whole")]
    {
        file(&dist, name, text);
    }
    file(&dist, "stale.js", "changed since");
    let old = fs::File::options().write(true).open(dist.join("stale.js.gz")).expect("a file");
    old.set_modified(SystemTime::UNIX_EPOCH).expect("a time");
    let demo = serve(&folder);
    let rows = [
        ("/core.wasm", "gzip, deflate, br, zstd", Some("gzip"), "twin"),
        ("/core.wasm", "br;q=1.0, GZIP;q=0.5", Some("gzip"), "twin"),
        ("/core.wasm", "br, gzip;q=0", None, "whole"),
        ("/core.wasm", "identity", None, "whole"),
        ("/core.wasm", "xgzip", None, "whole"),
        ("/stale.js", "gzip", None, "changed since"),
        ("/alone.js", "gzip", None, "whole"),
    ];
    for (target, accepted, encoding, body) in rows {
        for method in ["GET", "HEAD"] {
            let answer = demo.ask_with(method, target, &format!("accept-encoding: {accepted}"));
            let what = format!("{method} {target}, {accepted}: {}", answer.headers);
            assert_eq!((answer.status, answer.header("Content-Encoding")), (200, encoding), "{what}");
            assert_eq!(answer.header("Content-Length"), Some(body.len().to_string().as_str()), "{what}");
            assert_eq!(answer.header("Vary"), Some("Accept-Encoding"), "{what}");
            assert_eq!(answer.body, if method == "GET" { body.as_bytes() } else { b"" }, "{what}");
        }
    }
    let answer = demo.ask_with("GET", "/core.wasm", "Accept-Encoding: gzip");
    assert_eq!(answer.header("Content-Type"), Some("application/wasm"), "the type is the file's own");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(folder.join("secret.txt"), dist.join("alone.js.gz")).expect("a link");
        let answer = demo.ask_with("GET", "/alone.js", "Accept-Encoding: gzip");
        assert_eq!(answer.body, b"whole", "a twin that lies outside");
    }
}

#[test]
fn what_a_browser_has_is_not_sent_again() {
    let folder = page("demo-tags");
    let dist = folder.join("dist");
    fs::create_dir(dist.join("assets")).expect("a folder");
    for name in ["assets/index-B61Ap6AA.js", "assets/index-B61Ap6AA.js.gz", "assets/plain.js", "sw.js"] {
        file(&dist, name, name);
    }
    let demo = serve(&folder);
    let forever = "public, max-age=31536000, immutable";
    let rows = [
        ("/assets/index-B61Ap6AA.js", forever),
        ("/assets/plain.js", "no-cache"),
        ("/sw.js", "no-cache"),
        ("/", "no-cache"),
    ];
    for (target, caching) in rows {
        let first = demo.ask("GET", target);
        let tag = first.header("ETag").expect("a tag").to_owned();
        assert_eq!(first.header("Cache-Control"), Some(caching), "{}", first.headers);
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".to_owned()] {
            for method in ["GET", "HEAD"] {
                let again = demo.ask_with(method, target, &format!("If-None-Match: {known}"));
                let what = format!("{method} {target}, {known}: {}", again.headers);
                assert_eq!((again.status, again.body.len()), (304, 0), "{what}");
                assert_eq!(
                    (again.header("ETag"), again.header("Cache-Control")),
                    (Some(tag.as_str()), Some(caching)),
                    "{what}"
                );
                assert_eq!(again.header("Content-Length"), None, "{what}");
            }
        }
        let other = demo.ask_with("GET", target, "If-None-Match: \"other\"");
        assert_eq!((other.status, other.body), (200, first.body), "{}", other.headers);
    }
    // Compressed and whole are two things, and so is a file of the same length that was written later.
    let target = "/assets/index-B61Ap6AA.js";
    let whole = demo.ask("GET", target).header("ETag").expect("a tag").to_owned();
    let twin = demo.ask_with("GET", target, &format!("If-None-Match: {whole}\r\nAccept-Encoding: gzip"));
    assert_eq!((twin.status, twin.header("Content-Encoding")), (200, Some("gzip")), "{}", twin.headers);
    let tag = demo.ask("GET", "/sw.js").header("ETag").expect("a tag").to_owned();
    file(&dist, "sw.js", "SW.JS");
    let changed = fs::File::options().write(true).open(dist.join("sw.js")).expect("a file");
    changed.set_modified(SystemTime::now() + Duration::from_secs(1)).expect("a time");
    let rebuilt = demo.ask_with("GET", "/sw.js", &format!("If-None-Match: {tag}"));
    assert_eq!((rebuilt.status, rebuilt.body.as_slice()), (200, &b"SW.JS"[..]), "{}", rebuilt.headers);
}

#[test]
fn nothing_outside_the_page_is_served() {
    let folder = page("demo-outside");
    let absolute = path(&folder.join("secret.txt"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        symlink(folder.join("secret.txt"), folder.join("dist/link.txt")).expect("a link");
        symlink(&folder, folder.join("dist/linked")).expect("a link");
        symlink("index.html", folder.join("dist/inside.html")).expect("a link");
    }
    fs::create_dir(folder.join("dist-other")).expect("a folder whose name begins with the page's");
    file(&folder, "dist-other/secret.txt", "a secret");
    let demo = serve(&folder);
    let targets = [
        "/../secret.txt",
        "/./index.html",
        "/models/../index.html",
        "/models/../../secret.txt",
        "/%2e%2e/secret.txt",
        "/%2E%2E%2Fsecret.txt",
        "/models/..%2f..%2fsecret.txt",
        "/..%5csecret.txt",
        "/..\\secret.txt",
        "/../dist-other/secret.txt",
        &absolute,
        &format!("/{absolute}"),
        &format!("/{}", absolute.replace('/', "%2f")),
        "/%252e%252e/secret.txt",
        "/link.txt",
        "/linked/secret.txt",
        "/linked/dist/../secret.txt",
        "/secret.txt",
        "/index.html/",
        "/index.html%2f",
        "/models//tiny",
        "/index.html%00",
        "/index.html%",
        "/%ff",
        "/models",
        "/models/",
        "//",
        "index.html",
        "*",
        "http://127.0.0.1/index.html",
    ];
    for target in targets {
        let answer = demo.ask("GET", target);
        let body = String::from_utf8(answer.body).expect("text");
        assert_eq!((answer.status, body), (404, format!("there is no {target}\n")), "{}", answer.headers);
    }
    #[cfg(unix)]
    for target in ["/inside.html", "/linked/dist/index.html"] {
        assert_eq!(demo.ask("GET", target).body, b"<!doctype html>the page", "a link that stays inside: {target}");
    }
}

/// A tab that stops reading, and connections that a browser opens in advance, hold nobody up.
#[test]
fn idle_clients_hold_nobody_up() {
    let folder = page("demo-idle");
    file(&folder, "dist/large.bin", bytes(32 << 20));
    let demo = serve(&folder);
    let clients: Vec<TcpStream> = (0..12).map(|_| demo.connect()).collect();
    for mut client in clients.iter().take(6) {
        write!(client, "GET /large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
    }
    let start = Instant::now();
    assert_eq!(demo.ask("GET", "/").status, 200);
    assert!(start.elapsed() < PATIENCE);
}

#[test]
fn the_page_is_found_above_the_working_directory() {
    let folder = scratch("demo-above");
    fs::create_dir_all(folder.join("demo/dist")).expect("folders");
    fs::create_dir_all(folder.join("a/b")).expect("folders");
    file(&folder, "demo/dist/index.html", "found");
    let mut command = demo(&[]);
    command.current_dir(folder.join("a/b"));
    assert_eq!(Demo::start(command).ask("GET", "/").body, b"found");
}

#[test]
fn without_a_page_it_tells_how_to_build_one() {
    let folder = scratch("demo-nothing");
    let ended = run(demo(&["--dir", &path(&folder)]));
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""));
    let expected = format!(
        "error: the page is not built, there is no\n  {}\nBuild it in a clone of the repository, with Node.js 20.19 or later:\n  \
         (cd web && npm ci && npm run build)\n  (cd demo && npm ci && npm run build)\n",
        folder.join("index.html").display()
    );
    assert_eq!(ended.stderr, expected);
}

#[test]
fn a_port_in_use_is_named() {
    let folder = page("demo-port");
    let taken = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let ended = run(sttabt(["demo", "--no-open", "--port", &port, "--dir", &path(&folder.join("dist"))]));
    assert_eq!(ended.failure(), format!("1 error: port {port} is in use; give another with --port"));
}

/// `xdg-open` stands for the desktop's browser.
#[cfg(target_os = "linux")]
#[test]
fn a_browser_is_opened() {
    use std::os::unix::fs::PermissionsExt;
    let folder = page("demo-open");
    let program = folder.join("xdg-open");
    let dist = path(&folder.join("dist"));
    for (code, said) in [(0, ""), (3, "note: no browser opened; the page is at ")] {
        fs::write(&program, format!("#!/bin/sh\necho \"$@\" > {}/opened\nexit {code}\n", folder.display()))
            .expect("a file");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("permissions");
        let mut command = sttabt(["demo", "--port", "0", "--dir", &dist]);
        command.env("PATH", &folder);
        let mut demo = Demo::start(command);
        let url = format!("http://127.0.0.1:{}/\n", demo.port);
        let start = Instant::now();
        let opened = folder.join("opened");
        while !fs::read_to_string(&opened).is_ok_and(|found| found == url) && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(fs::read_to_string(&opened).expect("opened"), url);
        if !said.is_empty() {
            let mut line = String::new();
            BufReader::new(demo.child.stderr.take().expect("stderr")).read_line(&mut line).expect("a line");
            assert_eq!(line, format!("{said}{url}"));
        }
    }
}
