//! Labelled data in GLUE's tab-separated files.

use std::path::Path;

use sttabt::{Config, Task};

use super::args::ColumnArgs;
use super::model_dir::unreadable;
use super::{Failure, Result};

/// GLUE's names for the first text, with the second text's, and for the label; the first that the header has wins.
const TEXTS: [(&str, Option<&str>); 6] = [
    ("sentence1", Some("sentence2")),
    ("question1", Some("question2")),
    ("premise", Some("hypothesis")),
    ("question", Some("sentence")),
    ("#1 String", Some("#2 String")),
    ("sentence", None),
];
const LABELS: [&str; 6] = ["label", "gold_label", "score", "Quality", "is_duplicate", "labels"];

/// What a row says the answer is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Expected {
    Label(usize),
    Value(f64),
}

impl Expected {
    pub fn label(self) -> Option<usize> {
        match self {
            Self::Label(label) => Some(label),
            Self::Value(_) => None,
        }
    }
}

/// A labelled input.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its line in the file, from 1.
    pub line: u64,
    pub text: String,
    pub text_pair: Option<String>,
    pub expected: Expected,
}

struct Columns {
    text: usize,
    pair: Option<usize>,
    label: usize,
}

/// Reads the rows that `args` ask for; every error names the file and its line.
pub fn read(args: &ColumnArgs, path: &Path, config: &Config) -> Result<Vec<Row>> {
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes);
    if bytes.trim_ascii().is_empty() {
        return Err(Failure::Error(format!("{}: the file is empty", path.display())));
    }
    if let Err(error) = std::str::from_utf8(bytes) {
        let line = 1 + bytes[..error.valid_up_to()].iter().filter(|&&byte| byte == b'\n').count() as u64;
        return Err(bad(path, line, "not UTF-8"));
    }
    // GLUE's files do not quote: a quotation mark is a character like any other.
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(b'\t')
        .quoting(false)
        .flexible(true)
        .has_headers(!args.no_header)
        .from_reader(bytes);
    let header: Vec<String> = if args.no_header {
        Vec::new()
    } else {
        let header = reader.headers().map_err(|error| bad(path, 1, &error.to_string()))?;
        header.iter().map(str::to_owned).collect()
    };
    let columns = columns(args, path, &header)?;
    let mut rows = Vec::new();
    for record in reader.records().take(args.limit.map_or(usize::MAX, |limit| limit as usize)) {
        let record =
            record.map_err(|error| bad(path, error.position().map_or(0, csv::Position::line), &error.to_string()))?;
        let line = record.position().map_or(0, |position| line_of(bytes, position));
        let field = |column: usize| {
            let missing = || bad(path, line, &format!("{} columns, expected a column {}", record.len(), column + 1));
            record.get(column).ok_or_else(missing)
        };
        if !header.is_empty() && record.len() != header.len() {
            let what = format!("{} columns, expected {} as in the header", record.len(), header.len());
            return Err(bad(path, line, &what));
        }
        let text = |column: usize| match field(column)?.trim() {
            "" => Err(bad(path, line, "the text is empty")),
            text => Ok(text.to_owned()),
        };
        rows.push(Row {
            line,
            text: text(columns.text)?,
            text_pair: columns.pair.map(text).transpose()?,
            expected: expected(field(columns.label)?.trim(), config).map_err(|what| bad(path, line, &what))?,
        });
    }
    if rows.is_empty() {
        return Err(Failure::Error(format!("{}: no rows", path.display())));
    }
    Ok(rows)
}

/// A record's line. The reader skips empty lines, but places the record that follows at the first of them.
fn line_of(bytes: &[u8], position: &csv::Position) -> u64 {
    let rest = bytes.get(position.byte() as usize..).unwrap_or_default();
    let skipped = rest.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).filter(|&&byte| byte == b'\n').count();
    position.line() + skipped as u64
}

/// An error of one line.
pub fn bad(path: &Path, line: u64, what: &str) -> Failure {
    Failure::Error(format!("{}, line {line}: {what}", path.display()))
}

fn columns(args: &ColumnArgs, path: &Path, header: &[String]) -> Result<Columns> {
    let path = path.display();
    let find = |name: &str| header.iter().position(|column| column.trim().eq_ignore_ascii_case(name));
    let named = |name: &String| -> Result<usize> {
        if let Some(column) = find(name) {
            return Ok(column);
        }
        match name.parse::<usize>() {
            Ok(number) if number > 0 && (header.is_empty() || number <= header.len()) => Ok(number - 1),
            _ => Err(Failure::Error(format!("{path}: no column `{name}`; {}", describe(header)))),
        }
    };
    let (text, pair) = match (&args.text_column, &args.pair_column) {
        (Some(text), pair) => (named(text)?, pair.as_ref().map(named).transpose()?),
        (None, Some(_)) => return Err(Failure::Usage("--pair-column needs --text-column".to_owned())),
        (None, None) => {
            let known = TEXTS.iter().find_map(|(text, pair)| match pair {
                Some(pair) => Some((find(text)?, Some(find(pair)?))),
                None => Some((find(text)?, None)),
            });
            if args.no_header {
                return Err(Failure::Usage("--no-header needs --text-column and --label-column".to_owned()));
            }
            let names = "`sentence`, or `sentence1` and `sentence2`, or name one with --text-column";
            known.ok_or_else(|| {
                Failure::Error(format!("{path}: no text column; expected {names}; {}", describe(header)))
            })?
        }
    };
    let label = match &args.label_column {
        Some(label) => named(label)?,
        None if args.no_header => {
            return Err(Failure::Usage("--no-header needs --label-column".to_owned()));
        }
        None => LABELS.iter().find_map(|label| find(label)).ok_or_else(|| {
            let names = "`label`, or name one with --label-column";
            Failure::Error(format!("{path}: no label column; expected {names}; {}", describe(header)))
        })?,
    };
    Ok(Columns { text, pair, label })
}

fn describe(header: &[String]) -> String {
    if header.is_empty() {
        "without a header, columns are given by number from 1".to_owned()
    } else {
        format!("the header has `{}`", header.join("`, `"))
    }
}

/// A label's index or name, or for a regression model a number.
fn expected(field: &str, config: &Config) -> std::result::Result<Expected, String> {
    let num_labels = config.labels.len();
    if config.task == Task::Regression {
        return match field.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Expected::Value(value)),
            _ => Err(format!("label `{field}`, expected a number")),
        };
    }
    let named = config.labels.iter().position(|label| label.eq_ignore_ascii_case(field));
    match (named, field.parse::<usize>()) {
        (Some(label), _) => Ok(Expected::Label(label)),
        (None, Ok(label)) if label < num_labels => Ok(Expected::Label(label)),
        _ => Err(format!("label `{field}`, expected 0 to {} or one of: {}", num_labels - 1, config.labels.join(", "))),
    }
}
