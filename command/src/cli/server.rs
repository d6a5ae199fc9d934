//! A file server for a browser on the same machine: GET and HEAD, one request a connection, one thread each, so that connections that
//! a browser opens in advance hold nobody up.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::visible;

/// What stands for the folder.
pub const START: &str = "index.html";
/// Cookies of other servers on this machine come along: they do not know ports.
const MAX_HEAD_BYTES: usize = 256 << 10;
const MAX_HEADERS: usize = 256;
/// How long a connection may stay without a request, or without taking more of its answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Serves the files of a folder, given by its canonical path.
pub fn serve(listener: &TcpListener, folder: &Arc<Path>) -> ! {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                let folder = Arc::clone(folder);
                // Without a thread the connection closes; a browser that went away needs no answer.
                drop(thread::Builder::new().spawn(move || answer(stream, &folder)));
            }
            // Too many open files, for one: that passes.
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn answer(mut stream: TcpStream, folder: &Path) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    match request(&mut stream)? {
        None => message(&mut stream, true, "400 Bad Request", "", "this is no HTTP request\n")?,
        Some((method, target)) => match (method.as_str(), file(folder, &target)) {
            ("GET" | "HEAD", Some((path, file))) => {
                let num_bytes = file.metadata()?.len();
                head(&mut stream, "200 OK", "", media_type(&path), num_bytes)?;
                if method == "GET" {
                    io::copy(&mut file.take(num_bytes), &mut stream)?;
                }
            }
            ("GET" | "HEAD", None) => {
                let text = format!("there is no {}\n", visible(&target));
                message(&mut stream, method == "GET", "404 Not Found", "", &text)?;
            }
            _ => {
                let text = "only GET and HEAD are answered\n";
                message(&mut stream, true, "405 Method Not Allowed", "Allow: GET, HEAD\r\n", text)?;
            }
        },
    }
    // Closing on unread bytes, as of a POST, would take back what is under way.
    stream.shutdown(Shutdown::Write)?;
    io::copy(&mut stream, &mut io::sink())?;
    Ok(())
}

/// Method and target; none of something else than HTTP.
fn request(stream: &mut TcpStream) -> io::Result<Option<(String, String)>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    while bytes.len() < MAX_HEAD_BYTES {
        let count = stream.read(&mut piece)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&piece[..count]);
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&bytes) {
            Ok(httparse::Status::Partial) => {}
            Ok(httparse::Status::Complete(_)) => {
                return Ok(request.method.zip(request.path).map(|(method, path)| (method.to_owned(), path.to_owned())));
            }
            Err(_) => break,
        }
    }
    Ok(None)
}

/// `more`: further header lines. A rebuilt page shows at once, and no type is guessed.
fn head(stream: &mut TcpStream, status: &str, more: &str, media_type: &str, num_bytes: u64) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {num_bytes}\r\nCache-Control: no-cache\r\n\
         X-Content-Type-Options: nosniff\r\n{more}Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())
}

fn message(stream: &mut TcpStream, has_body: bool, status: &str, more: &str, text: &str) -> io::Result<()> {
    head(stream, status, more, TEXT, text.len() as u64)?;
    if has_body { stream.write_all(text.as_bytes()) } else { Ok(()) }
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

/// Of messages.
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
