//! Reading JSON objects whose errors name the file and the key.

use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::json;
use crate::error::{Error, Result};

/// The object that a JSON file holds.
pub fn json_object(file: &str, json: &[u8]) -> Result<Map<String, Value>> {
    let error = |reason: String| Error::File { file: file.to_owned(), reason };
    match json::parse(json).map_err(error)? {
        Value::Object(object) => Ok(object),
        _ => Err(error("expected a JSON object".to_owned())),
    }
}

/// Enough of a value to recognise it in a message.
pub fn shortened(value: &str) -> String {
    const MAX_CHARS: usize = 60;
    match value.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &value[..end]),
        None => value.to_owned(),
    }
}

/// A JSON object whose errors name the file and the key.
pub struct Fields<'a> {
    pub file: &'a str,
    pub path: &'a str,
    pub object: &'a Map<String, Value>,
}

impl Fields<'_> {
    pub fn error(&self, key: &str, found: impl ToString, expected: &str) -> Error {
        Error::Config {
            file: self.file.to_owned(),
            key: format!("{}{key}", self.path),
            found: shortened(&found.to_string()),
            expected: expected.to_owned(),
        }
    }

    pub fn size(&self, key: &str, range: RangeInclusive<usize>) -> Result<usize> {
        let expected = || format!("an integer from {} to {}", range.start(), range.end());
        let value = self.object.get(key).ok_or_else(|| self.error(key, "missing", &expected()))?;
        self.size_of(key, value, range)
    }

    pub fn size_of(&self, key: &str, value: &Value, range: RangeInclusive<usize>) -> Result<usize> {
        let expected = format!("an integer from {} to {}", range.start(), range.end());
        let size = value.as_u64().and_then(|size| usize::try_from(size).ok()).filter(|size| range.contains(size));
        size.ok_or_else(|| self.error(key, value, &expected))
    }

    pub fn size_or(&self, key: &str, default: usize, range: RangeInclusive<usize>) -> Result<usize> {
        match self.object.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => self.size_of(key, value, range),
        }
    }

    pub fn number(&self, key: &str, default: f64, range: RangeInclusive<f64>) -> Result<f64> {
        let Some(value) = self.object.get(key).filter(|value| !value.is_null()) else { return Ok(default) };
        let number = value.as_f64().filter(|number| range.contains(number));
        let expected = || format!("a number from {:e} to {:e}", range.start(), range.end());
        number.ok_or_else(|| self.error(key, value, &expected()))
    }

    pub fn text(&self, key: &str) -> Result<Option<&str>> {
        match self.object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.error(key, other, "a string")),
        }
    }

    pub fn flag(&self, key: &str) -> Result<Option<bool>> {
        match self.object.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.error(key, other, "true or false")),
        }
    }

    /// The key must have the one value that is computed here, or be absent.
    pub fn require_flag(&self, key: &str, computed: bool) -> Result<()> {
        match self.flag(key)? {
            Some(flag) if flag != computed => Err(self.error(key, flag, if computed { "true" } else { "false" })),
            _ => Ok(()),
        }
    }

    /// The key must have the one supported value, or be absent.
    pub fn require(&self, key: &str, what: &'static str, supported: &'static str) -> Result<()> {
        match self.text(key)? {
            Some(found) if found != supported => Err(Error::Unsupported { what, found: shortened(found), supported }),
            _ => Ok(()),
        }
    }
}
