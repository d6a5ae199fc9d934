//! A file server for a browser on the same machine: GET and HEAD, one request a connection, one thread each, so that connections that
//! a browser opens in advance hold nobody up. What the page's build has compressed is sent so, and what a browser has is not sent again.

use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use super::visible;

/// What stands for the folder.
pub const START: &str = "index.html";
/// Cookies of other servers on this machine come along: they do not know ports.
const MAX_HEAD_BYTES: usize = 256 << 10;
const MAX_HEADERS: usize = 256;
/// How long a connection may stay without a request, or without taking more of its answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Of the names that Vite gives.
const NUM_HASH_CHARS: usize = 8;
/// A rebuilt page shows at once: the browser keeps a file, and asks each time whether it is still the same.
const ASK: &str = "Cache-Control: no-cache\r\n";
/// Other bytes would have another name.
const FOREVER: &str = "Cache-Control: public, max-age=31536000, immutable\r\n";

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
        Some(request) => match (request.method.as_str(), file(folder, &request.target)) {
            ("GET" | "HEAD", Some((path, file))) => send(&mut stream, &request, folder, &path, file)?,
            ("GET" | "HEAD", None) => {
                let text = format!("there is no {}\n", visible(&request.target));
                message(&mut stream, request.method == "GET", "404 Not Found", "", &text)?;
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

/// Sends a file, or its compressed twin; or only says that the browser has it.
fn send(stream: &mut TcpStream, request: &Request, folder: &Path, path: &Path, file: File) -> io::Result<()> {
    let metadata = file.metadata()?;
    let twin = if request.takes_gzip { gzip_twin(folder, path, &metadata) } else { None };
    let is_gzip = twin.is_some();
    let (file, metadata) = twin.unwrap_or((file, metadata));
    let tag = entity_tag(&metadata, is_gzip);
    let encoding = if is_gzip { "Content-Encoding: gzip\r\n" } else { "" };
    let caching = if is_hashed(folder, path) { FOREVER } else { ASK };
    let more = format!("{caching}ETag: {tag}\r\nVary: Accept-Encoding\r\n{encoding}");
    if request.known_tags.iter().any(|known| *known == tag || known == "*") {
        return head(stream, "304 Not Modified", &more, media_type(path), None);
    }
    let num_bytes = metadata.len();
    head(stream, "200 OK", &more, media_type(path), Some(num_bytes))?;
    if request.method == "GET" {
        io::copy(&mut file.take(num_bytes), stream)?;
    }
    Ok(())
}

/// The file beside it that the page's build compressed, unless the file has changed since.
fn gzip_twin(folder: &Path, path: &Path, metadata: &Metadata) -> Option<(File, Metadata)> {
    let mut name = path.as_os_str().to_owned();
    name.push(".gz");
    let twin = Path::new(&name).canonicalize().ok()?;
    if !twin.starts_with(folder) || !twin.is_file() {
        return None;
    }
    let file = File::open(&twin).ok()?;
    let found = file.metadata().ok()?;
    (found.modified().ok()? >= metadata.modified().ok()?).then_some((file, found))
}

/// Another one whenever the bytes that are sent may be others.
fn entity_tag(metadata: &Metadata, is_gzip: bool) -> String {
    let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    let encoding = if is_gzip { "-gzip" } else { "" };
    format!("\"{:x}-{:x}{encoding}\"", metadata.len(), modified.as_nanos())
}

/// Whether a file has a hash of its bytes in its name, as what Vite makes has: `assets/index-B61Ap6AA.js`.
fn is_hashed(folder: &Path, path: &Path) -> bool {
    let Ok(name) = path.strip_prefix(folder.join("assets")) else { return false };
    let stem = name.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    let hash = stem.len().checked_sub(NUM_HASH_CHARS + 1).and_then(|start| stem.get(start..)).unwrap_or_default();
    let is_char = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    // A word is no hash: `photo-portrait.jpg`.
    let is_no_word = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
    hash.strip_prefix('-').is_some_and(|hash| hash.bytes().all(is_char) && hash.bytes().any(is_no_word))
}

/// What counts of a request.
struct Request {
    method: String,
    target: String,
    takes_gzip: bool,
    /// The entity tags of what the browser has.
    known_tags: Vec<String>,
}

/// None of something else than HTTP.
fn request(stream: &mut TcpStream) -> io::Result<Option<Request>> {
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
                let takes_gzip = items(request.headers, "accept-encoding").iter().any(|item| is_gzip(item));
                let known_tags = items(request.headers, "if-none-match")
                    .iter()
                    .map(|tag| tag.strip_prefix("W/").unwrap_or(tag).to_owned())
                    .collect();
                return Ok(request.method.zip(request.path).map(|(method, target)| Request {
                    method: method.to_owned(),
                    target: target.to_owned(),
                    takes_gzip,
                    known_tags,
                }));
            }
            Err(_) => break,
        }
    }
    Ok(None)
}

/// The items of a header that is a list.
fn items(headers: &[httparse::Header<'_>], name: &str) -> Vec<String> {
    headers
        .iter()
        .filter(|header| header.name.eq_ignore_ascii_case(name))
        .filter_map(|header| str::from_utf8(header.value).ok())
        .flat_map(|value| value.split(','))
        .map(|item| item.trim().to_owned())
        .collect()
}

/// Whether an item of Accept-Encoding takes gzip: `gzip` or `gzip;q=0.8`, not `gzip;q=0`.
fn is_gzip(item: &str) -> bool {
    let mut parts = item.split(';').map(str::trim);
    let is_named = parts.next().is_some_and(|coding| coding.eq_ignore_ascii_case("gzip"));
    let weight = parts.find_map(|part| part.strip_prefix("q=").or(part.strip_prefix("Q=")));
    is_named && weight.is_none_or(|weight| weight.parse::<f32>().is_ok_and(|weight| weight > 0.0))
}

/// `more`: further header lines. No type is guessed.
fn head(stream: &mut TcpStream, status: &str, more: &str, media_type: &str, num_bytes: Option<u64>) -> io::Result<()> {
    let length = num_bytes.map(|num_bytes| format!("Content-Length: {num_bytes}\r\n")).unwrap_or_default();
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\n{length}X-Content-Type-Options: nosniff\r\n{more}Connection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes())
}

fn message(stream: &mut TcpStream, has_body: bool, status: &str, more: &str, text: &str) -> io::Result<()> {
    head(stream, status, &format!("{ASK}{more}"), TEXT, Some(text.len() as u64))?;
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

    #[test]
    fn hashes_are_known_by_their_place_and_form() {
        let rows = [
            ("assets/index-B61Ap6AA.js", true),
            ("assets/sttabt_web_bg-DLxl_S-J.wasm", true),
            ("assets/index.js", false),
            ("assets/index-B61Ap6A.js", false),
            ("assets/indexB61Ap6AA.js", false),
            ("assets/a-B61Ap6A\u{e4}.js", false),
            ("assets/", false),
            ("index-B61Ap6AA.js", false),
            ("models/assets/index-B61Ap6AA.js", false),
            ("assets/photo-portrait.jpg", false),
        ];
        for (name, expected) in rows {
            assert_eq!(is_hashed(Path::new("/page"), &Path::new("/page").join(name)), expected, "{name}");
        }
    }
}
