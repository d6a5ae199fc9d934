//! `sttabt demo`: serves the built page on this machine, and opens a browser.

use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::thread;

use tiny_http::{Header, Method, Request, Response, Server};

use super::args::DemoArgs;
use super::draw::visible;
use super::model_dir::{nearest, unreadable};
use super::{Failure, Result, note};

/// What `npm run build` in demo/ leaves.
const PAGE: &str = "demo/dist";
const START: &str = "index.html";
/// A browser asks for several files at once, and a slow one must not hold the others up.
const NUM_THREADS: usize = 8;

/// Serves until the process ends.
pub fn run(args: &DemoArgs) -> Result<()> {
    let folder = page(args.dir.as_deref())?;
    // Links are followed as far as they stay in the page's folder, whose own name may hold some.
    let root = folder.canonicalize().map_err(|error| unreadable(&folder, &error))?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, args.port)).map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => Failure::Error(format!("port {} is in use; give another with --port", args.port)),
        _ => Failure::Error(format!("cannot listen on port {}: {error}", args.port)),
    })?;
    let failed = |error: &dyn std::fmt::Display| Failure::Error(format!("cannot serve the page: {error}"));
    let port = listener.local_addr().map_err(|error| failed(&error))?.port();
    let server = Arc::new(Server::from_listener(listener, None).map_err(|error| failed(&error))?);
    let url = format!("http://{}:{port}/", Ipv4Addr::LOCALHOST);
    let mut out = io::stdout().lock();
    writeln!(out, "{} is at {url}\nCtrl-C ends it", visible(&folder.display().to_string()))?;
    out.flush()?;
    if !args.no_open {
        let url = url.clone();
        thread::spawn(move || open(&url));
    }
    let (ends, end) = mpsc::channel();
    for _ in 0..NUM_THREADS {
        let (server, folder, ends) = (Arc::clone(&server), root.clone(), ends.clone());
        // Nobody listens to the second that ends.
        thread::spawn(move || ends.send(serve(&server, &folder)).ok());
    }
    drop(ends);
    end.recv().map_or(Ok(()), |error| Err(failed(&error)))
}

/// The folder of the built page: `--dir`, else `demo/dist` where the default models are looked for.
fn page(named: Option<&Path>) -> Result<PathBuf> {
    let looked_at = match named {
        Some(folder) if folder.join(START).is_file() => return Ok(folder.to_owned()),
        Some(folder) => vec![folder.to_owned()],
        None => match nearest(PAGE, |folder| folder.join(START).is_file()) {
            Ok(folder) => return Ok(folder),
            Err(looked_at) => looked_at,
        },
    };
    let places: Vec<String> = looked_at.iter().map(|path| format!("  {}", path.join(START).display())).collect();
    Err(Failure::Error(format!(
        "the page is not built, there is no\n{}\nBuild it in a clone of the repository, with Node.js 20 or later:\n  \
         (cd web && npm ci && npm run build)\n  (cd demo && npm ci && npm run build)",
        places.join("\n")
    )))
}

/// Answers requests one by one; returns when the server can take no more.
fn serve(server: &Server, folder: &Path) -> io::Error {
    loop {
        match server.recv() {
            // A browser that went away needs no answer.
            Ok(request) => drop(answer(request, folder)),
            Err(error) => return error,
        }
    }
}

fn answer(request: Request, folder: &Path) -> io::Result<()> {
    if !matches!(request.method(), Method::Get | Method::Head) {
        let response = with_headers(Response::from_string("only GET and HEAD are answered\n"), TEXT);
        return request.respond(response.with_status_code(405).with_header(header("Allow", "GET, HEAD")));
    }
    match file(folder, request.url()) {
        Some((path, file)) => {
            // In chunks it would have no Content-Length.
            let response = Response::from_file(file).with_chunked_threshold(usize::MAX);
            request.respond(with_headers(response, media_type(&path)))
        }
        None => {
            let text = format!("there is no {}\n", visible(request.url()));
            request.respond(with_headers(Response::from_string(text), TEXT).with_status_code(404))
        }
    }
}

/// The file that a URL names, opened, if it lies in the folder.
fn file(folder: &Path, url: &str) -> Option<(PathBuf, File)> {
    let path = url.split(['?', '#']).next()?.strip_prefix('/')?;
    let mut named = folder.to_owned();
    match path {
        "" => named.push(START),
        path => {
            for part in path.split('/') {
                let part = decoded(part)?;
                // One plain name: no `..`, no root or drive, no separator that the decoding brought in.
                let mut components = Path::new(&part).components();
                let (Some(Component::Normal(name)), None) = (components.next(), components.next()) else { return None };
                if name != part.as_str() {
                    return None;
                }
                named.push(name);
            }
        }
    }
    let path = named.canonicalize().ok()?;
    if !path.starts_with(folder) || !path.is_file() {
        return None;
    }
    let file = File::open(&path).ok()?;
    Some((path, file))
}

/// A URL's `%20` and the like as the bytes they stand for.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

const TEXT: &str = "text/plain; charset=utf-8";

fn media_type(path: &Path) -> &'static str {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    match ending.as_str() {
        "html" => "text/html; charset=utf-8",
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "txt" | "md" => TEXT,
        "json" | "map" => "application/json",
        // Otherwise a browser does not compile it while it loads.
        "wasm" => "application/wasm",
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "svg" => "image/svg+xml",
        "ico" => "image/x-icon",
        _ => "application/octet-stream",
    }
}

/// A rebuilt page shows at once, and no type is guessed.
fn with_headers<R: io::Read>(response: Response<R>, media_type: &str) -> Response<R> {
    response
        .with_header(header("Content-Type", media_type))
        .with_header(header("Cache-Control", "no-cache"))
        .with_header(header("X-Content-Type-Options", "nosniff"))
}

fn header(name: &str, value: &str) -> Header {
    Header::from_bytes(name, value).expect("names and values are ours, and ASCII")
}

/// Asks the desktop for a browser; the URL is on the screen if there is none.
fn open(url: &str) {
    let (program, arguments) = match std::env::consts::OS {
        "macos" => ("open", vec![url]),
        "windows" => ("cmd", vec!["/c", "start", "", url]),
        _ => ("xdg-open", vec![url]),
    };
    let mut command = Command::new(program);
    let status = command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !status.is_ok_and(|status| status.success()) {
        note(&format!("no browser opened; the page is at {url}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_decoded() {
        let rows = [
            ("plain.js", Some("plain.js")),
            ("a%20b%C3%A4%2f", Some("a bä/")),
            ("%", None),
            ("%4", None),
            ("%zz", None),
            ("%+1", None),
            ("%ff", None),
            ("%252e", Some("%2e")),
        ];
        for (text, expected) in rows {
            assert_eq!(decoded(text).as_deref(), expected, "{text}");
        }
    }
}
