//! What people find in place of a file after a download that went wrong.

use std::ops::RangeInclusive;

use super::fields::shortened;

/// What these bytes are, and the way out, if they are no file of a model: nothing, a git-lfs pointer, a web page, or a server's excuse.
pub fn what_it_is(bytes: &[u8]) -> Option<String> {
    let start = bytes.get(..64).unwrap_or(bytes);
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start().to_ascii_lowercase();
    if bytes.is_empty() {
        Some("an empty file: download it again".to_owned())
    } else if text.starts_with(b"version https://git-lfs.github.com/spec/") {
        Some(
            "a git-lfs pointer, not the file itself: run `git lfs pull` in its folder, or download it again".to_owned(),
        )
    } else if [&b"<!doctype html"[..], b"<html"].iter().any(|page| text.starts_with(page)) {
        Some("a web page, not the file itself: download it again".to_owned())
    } else {
        None
    }
}

/// The same for bytes that should be weights, which are never text.
pub fn not_weights(bytes: &[u8]) -> Option<String> {
    /// What a server says. Fewer bytes are what is left of a file.
    const NUM_BYTES: RangeInclusive<usize> = 8..=4096;
    let text = || {
        let text = std::str::from_utf8(NUM_BYTES.contains(&bytes.len()).then_some(bytes)?).ok()?.trim();
        let is_text = text.chars().all(|char| !char.is_control() || "\t\r\n".contains(char));
        is_text.then(|| format!("the text `{}`, not weights: download it again", shortened(text)))
    };
    what_it_is(bytes).or_else(text)
}
