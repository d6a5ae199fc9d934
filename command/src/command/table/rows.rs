//! The rows of a file of any kind, with the label as it is written.

use std::path::Path;

use serde_json::{Map, Value};

use super::super::{Failure, Result};
use super::columns::Columns;
use super::delimited::{COMMA, Delimited, SEMICOLONS, TAB};
use super::json::{Json, kind};
use super::{Line, LineResult, delimited, json};

/// A row before its label is understood.
#[derive(Clone)]
pub struct Written {
    pub line: Line,
    pub text: String,
    pub text_pair: Option<String>,
    /// Empty where the file has no labels.
    pub label: String,
}

/// A file by its ending.
pub enum Source {
    Delimited(Delimited, u8),
    Json(Json),
}

impl Source {
    pub fn read(path: &Path, text: &str, no_header: bool) -> Result<Self> {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
        let source = match ending.as_str() {
            "jsonl" | "ndjson" | "json" => {
                if no_header {
                    return Err(Failure::Usage(
                        "--no-header is for tab-separated files and CSV; JSON has none".to_owned(),
                    ));
                }
                json::read(text).map(Self::Json)
            }
            "csv" => delimited::read(text, COMMA, !no_header).map(|read| Self::Delimited(read, COMMA)),
            _ => delimited::read(text, TAB, !no_header).map(|read| Self::Delimited(read, TAB)),
        };
        source.map_err(|(line, what)| super::bad(path, line, &what))
    }

    /// Empty where the file has none.
    pub fn header(&self) -> &[String] {
        match self {
            Self::Delimited(read, _) => &read.header,
            Self::Json(read) => &read.keys,
        }
    }

    /// Whether columns can be given by number.
    pub fn is_numbered(&self) -> bool {
        matches!(self, Self::Delimited(..))
    }

    /// What was assumed.
    pub fn note(&self) -> Option<String> {
        match self {
            Self::Delimited(read, _) => read.note.clone(),
            Self::Json(_) => None,
        }
    }

    /// What is likely wrong with a header.
    pub fn hint(&self) -> Option<&'static str> {
        if self.header().first().is_some_and(|first| first.starts_with("sep=")) {
            return Some("delete the first line, which is for Excel alone");
        }
        let [only] = self.header() else { return None };
        match self {
            Self::Delimited(_, TAB) if only.starts_with(['{', '[']) => Some("a file of JSON objects ends in .jsonl"),
            Self::Delimited(_, COMMA) if only.contains(';') => Some(SEMICOLONS),
            Self::Delimited(_, TAB) if only.contains([',', ';']) => {
                Some("columns are separated by tabs; a file with commas ends in .csv")
            }
            Self::Delimited(_, COMMA) if only.contains('\t') => {
                Some("columns of a .csv are separated by commas; a file with tabs ends in .tsv")
            }
            _ => None,
        }
    }

    /// All rows, or the first error.
    pub fn rows(&self, columns: &Columns) -> LineResult<Vec<Written>> {
        self.each_row(columns).collect()
    }

    /// The rows without those that have an error, and what is said of these.
    pub fn whole_rows(&self, columns: &Columns) -> (Vec<Written>, Option<String>) {
        let (mut whole, mut broken) = (Vec::new(), Vec::new());
        for row in self.each_row(columns) {
            match row {
                Ok(row) => whole.push(row),
                Err(what) => broken.push(what),
            }
        }
        let note = broken.first().map(|(line, what)| {
            let rows = if broken.len() == 1 { "broken row is" } else { "broken rows are" };
            format!("{} {rows} left out (line {line}: {what})", broken.len())
        });
        (whole, note)
    }

    fn each_row<'a>(&'a self, columns: &'a Columns) -> Box<dyn Iterator<Item = LineResult<Written>> + 'a> {
        match self {
            Self::Delimited(read, _) => {
                let num_columns = read.header.len();
                let row = move |(line, record): &(Line, _)| delimited_row(*line, record, num_columns, columns);
                Box::new(read.records.iter().map(row))
            }
            Self::Json(read) => {
                let keys = &read.keys;
                Box::new(read.objects.iter().map(move |(line, object)| json_row(*line, object, keys, columns)))
            }
        }
    }
}

fn delimited_row(line: Line, record: &csv::StringRecord, num_columns: usize, columns: &Columns) -> LineResult<Written> {
    if num_columns > 0 && record.len() != num_columns {
        return Err((line, format!("{} columns, expected {num_columns} as in the header", record.len())));
    }
    let field = |column: usize| {
        let missing = || (line, format!("{} columns, expected a column {}", record.len(), column + 1));
        record.get(column).ok_or_else(missing)
    };
    Ok(Written {
        line,
        text: filled(line, field(columns.text)?)?,
        text_pair: columns.pair.map(|pair| filled(line, field(pair)?)).transpose()?,
        label: columns.label.map(|label| Ok(field(label)?.trim().to_owned())).transpose()?.unwrap_or_default(),
    })
}

/// A text as it is: to some tokenizers the spaces around it are tokens.
fn filled(line: Line, text: &str) -> LineResult<String> {
    if text.trim().is_empty() { Err((line, "the text is empty".to_owned())) } else { Ok(text.to_owned()) }
}

fn json_row(line: Line, object: &Map<String, Value>, keys: &[String], columns: &Columns) -> LineResult<Written> {
    let value = |column: usize| {
        let key = &keys[column];
        object.get(key).map(|value| (key, value)).ok_or_else(|| (line, format!("no `{key}`")))
    };
    let text = |column: usize| match value(column)? {
        (_, Value::String(text)) => filled(line, text),
        (key, other) => Err((line, format!("`{key}` is {}, expected a string", kind(other)))),
    };
    let label = |column: usize| match value(column)? {
        (_, Value::String(label)) => Ok(label.trim().to_owned()),
        (_, label @ (Value::Number(_) | Value::Bool(_))) => Ok(label.to_string()),
        (key, other) => Err((line, format!("`{key}` is {}, expected one label", kind(other)))),
    };
    Ok(Written {
        line,
        text: text(columns.text)?,
        text_pair: columns.pair.map(text).transpose()?,
        label: columns.label.map(label).transpose()?.unwrap_or_default(),
    })
}
