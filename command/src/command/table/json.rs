//! JSON: one object per line, or an array of objects.

use std::collections::BTreeSet;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{Line, LineResult};

/// A file's objects.
pub struct Json {
    /// All keys, in alphabetical order.
    pub keys: Vec<String>,
    /// With their lines.
    pub objects: Vec<(Line, Map<String, Value>)>,
}

/// Where a number is NaN, as Python writes it, there is null.
pub fn read(text: &str) -> LineResult<Json> {
    parse(text).or_else(|error| {
        let json = sttabt::without_not_finite(text.as_bytes()).and_then(|json| String::from_utf8(json).ok());
        json.map_or(Err(error), |json| parse(&json))
    })
}

fn parse(text: &str) -> LineResult<Json> {
    let objects = if text.trim_start().starts_with('[') { array(text)? } else { lines(text)? };
    let keys: BTreeSet<&String> = objects.iter().flat_map(|(_, object)| object.keys()).collect();
    Ok(Json { keys: keys.into_iter().cloned().collect(), objects })
}

fn lines(text: &str) -> LineResult<Vec<(Line, Map<String, Value>)>> {
    let lines = text.lines().zip(1..).filter(|(line, _)| !line.trim().is_empty());
    lines.map(|(text, line)| Ok((line, object(text, line)?))).collect()
}

fn array(text: &str) -> LineResult<Vec<(Line, Map<String, Value>)>> {
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| broken(&error, 1))?;
    let (mut objects, mut at, mut line) = (Vec::new(), 0, 1);
    for item in items {
        let start = item.get().as_ptr() as usize - text.as_ptr() as usize;
        line += text[at..start].bytes().filter(|&byte| byte == b'\n').count() as Line;
        at = start;
        objects.push((line, object(item.get(), line)?));
    }
    Ok(objects)
}

fn object(text: &str, line: Line) -> LineResult<Map<String, Value>> {
    match serde_json::from_str(text) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(other) => Err((line, format!("{}, expected an object, one per line, or an array of them", kind(&other)))),
        Err(error) => Err(broken(&error, line)),
    }
}

/// The line of an error in a text that begins in line `first`.
fn broken(error: &serde_json::Error, first: Line) -> (Line, String) {
    let message = error.to_string();
    let what = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
    let line = first + (error.line() as Line).saturating_sub(1);
    // serde_json's words for one half of a character beyond 16 bits.
    let is_half = ["unexpected end of hex escape", "lone leading surrogate in hex escape"].contains(&what);
    let what = if is_half { "half of a character, such as \\ud83d without the other half" } else { what };
    (line, format!("no JSON ({what}, column {}); expected an object per line, or an array of them", error.column()))
}

/// What a value is, in words.
pub fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
