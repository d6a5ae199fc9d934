//! JSON as Python's programs write it: with NaN and Infinity, which JSON has not.

use serde_json::Value;

/// How [`parse`] reads it.
pub const INFINITY: &str = "Infinity";

/// What a file holds. NaN and Infinity are texts: where a number is needed, that is an error which names the key. The error is the reason.
pub fn parse(json: &[u8]) -> Result<Value, String> {
    let quoted = || with_not_finite(json, |name| format!("\"{name}\""));
    let parsed = serde_json::from_slice(json).or_else(|error| match quoted() {
        // Its error is the one that is left, in the same line.
        Some(json) => serde_json::from_slice(&json).map_err(|error| without_column(&error)),
        None => Err(error.to_string()),
    });
    parsed.map_err(|error| match json {
        [0xef, 0xbb, 0xbf, ..] => "it begins with a byte order mark: save it as UTF-8 without one".to_owned(),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => "it is UTF-16: save it as UTF-8".to_owned(),
        _ => format!("not JSON: {error}"),
    })
}

fn without_column(error: &serde_json::Error) -> String {
    let error = error.to_string();
    error.rsplit_once(" column ").map_or(error.as_str(), |(start, _)| start).to_owned()
}

/// The same JSON with null instead of NaN, Infinity and numbers beyond all others. `None` if it has none of them.
///
/// pandas means by them that something is missing.
///
/// ```
/// let json = sttabt::without_not_finite(br#"{"text": "NaN", "label": NaN}"#);
/// assert_eq!(json.as_deref(), Some(br#"{"text": "NaN", "label": null}"#.as_slice()));
/// assert_eq!(sttabt::without_not_finite(b"[1, 2]"), None);
/// ```
pub fn without_not_finite(json: &[u8]) -> Option<Vec<u8>> {
    with_not_finite(json, |_| "null".to_owned())
}

fn with_not_finite(json: &[u8], written: impl Fn(&str) -> String) -> Option<Vec<u8>> {
    let (mut changed, mut rest, mut is_changed) = (Vec::with_capacity(json.len()), json, false);
    while let Some(&first) = rest.first() {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.');
        let length = match first {
            b'"' => text_length(rest),
            byte if is_word(&byte) => rest.iter().take_while(|byte| is_word(byte)).count(),
            _ => 1,
        };
        let (token, after) = rest.split_at(length);
        match not_finite(token) {
            Some(name) => {
                is_changed = true;
                changed.extend_from_slice(written(name).as_bytes());
            }
            None => changed.extend_from_slice(token),
        }
        rest = after;
    }
    is_changed.then_some(changed)
}

/// The bytes of a text with its quotes.
fn text_length(json: &[u8]) -> usize {
    let mut is_escaped = true;
    let end = json.iter().position(|&byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    end.map_or(json.len(), |end| end + 1)
}

/// What Python calls a number that is none, or too large for one.
fn not_finite(token: &[u8]) -> Option<&'static str> {
    match token {
        b"NaN" => Some("NaN"),
        b"Infinity" => Some(INFINITY),
        b"-Infinity" => Some("-Infinity"),
        [b'0'..=b'9' | b'-', ..] if token.iter().any(u8::is_ascii_digit) => {
            let number: f64 = std::str::from_utf8(token).ok()?.parse().ok()?;
            number.is_infinite().then_some(if number > 0.0 { INFINITY } else { "-Infinity" })
        }
        _ => None,
    }
}
