//! Text from outside: UTF-8, with or without a byte order mark.

use super::{Failure, Result};

/// How many bytes tell UTF-16 without a byte order mark.
const LOOK: usize = 512;

/// The text of a file or of standard input. The error says what it is instead, in which line, and what to do.
pub fn decode<'a>(source: &str, bytes: &'a [u8]) -> Result<&'a str> {
    let error = |what: String| Err(Failure::Error(what));
    if let Some(encoding) = wide_encoding(bytes) {
        return error(format!("{source}: {encoding}, expected UTF-8; convert it with `iconv -f {encoding} -t UTF-8`"));
    }
    if bytes.starts_with(b"version https://git-lfs.github.com/spec/") {
        let way_out = "run `git lfs pull` in its folder, or download it again";
        return error(format!("{source}: a git-lfs pointer, not the file itself: {way_out}"));
    }
    if let Some(what) = binary(bytes) {
        return error(format!("{source}: {what}, expected text in UTF-8"));
    }
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').unwrap_or(text)),
        Err(bad) => {
            let line = 1 + bytes[..bad.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
            error(format!(
                "{source}, line {line}: not UTF-8 (byte 0x{:02x}); if the file is Latin-1 or Windows-1252, convert it with \
                 `iconv -f WINDOWS-1252 -t UTF-8`",
                bytes[bad.valid_up_to()]
            ))
        }
    }
}

/// UTF-16 or UTF-32, told by the byte order mark, or by every other byte being zero.
fn wide_encoding(bytes: &[u8]) -> Option<&'static str> {
    match bytes {
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => return Some("UTF-32"),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return Some("UTF-16"),
        _ => {}
    }
    let start = &bytes[..bytes.len().min(LOOK)];
    let zeros = |first: usize| start.iter().skip(first).step_by(2).filter(|&&byte| byte == 0).count();
    // Most characters of most texts are below 256, or at least their spaces and line ends are.
    let many = start.len().div_ceil(8).max(2);
    match (zeros(0), zeros(1)) {
        (0, odd) if odd >= many => Some("UTF-16LE"),
        (even, 0) if even >= many => Some("UTF-16BE"),
        _ => None,
    }
}

/// Files that hold tables, and are no text.
fn binary(bytes: &[u8]) -> Option<&'static str> {
    const KINDS: [(&[u8], &str); 8] = [
        (b"PAR1", "a Parquet file"),
        (b"ARROW1", "an Arrow file"),
        (b"\x1f\x8b", "compressed by gzip"),
        (b"BZh", "compressed by bzip2"),
        (b"\xfd7zXZ", "compressed by xz"),
        (b"\x28\xb5\x2f\xfd", "compressed by zstd"),
        (b"\xd0\xcf\x11\xe0", "an old Excel workbook"),
        (b"PK\x03\x04", "a ZIP file or an Excel workbook"),
    ];
    KINDS.iter().find(|(magic, _)| bytes.starts_with(magic)).map(|(_, what)| *what)
}
