//! Labelled texts in files: tab-separated as in GLUE, CSV, and JSON by the line.

mod columns;
mod delimited;
mod json;
mod quotes;
mod rows;

use std::collections::BTreeSet;
use std::path::Path;

use sttabt::{Config, Task};

use super::args::ColumnArgs;
use super::labels::{Carrier, decide};
use super::model_dir::unreadable;
use super::text::decode;
use super::{Failure, Result, note};
use columns::{Columns, Header};
use rows::{Source, Written};

pub use columns::{Labels, Queries};

/// A line of a file, from 1.
pub type Line = u64;
/// An error has its line.
type LineResult<T> = std::result::Result<T, (Line, String)>;

/// SNLI and MNLI write one of these where the annotators did not agree.
const NO_CONSENSUS: [&str; 2] = ["-", "-1"];

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

/// An input, labelled unless `E` is an [`Option`].
#[derive(Debug, Clone, PartialEq)]
pub struct Row<E = Expected> {
    pub line: Line,
    pub text: String,
    pub text_pair: Option<String>,
    pub expected: E,
}

/// What is ranked.
#[derive(Debug, Clone, PartialEq)]
pub struct Passage {
    pub line: Line,
    /// Of a file that has queries.
    pub query: Option<String>,
    pub text: String,
}

/// What a file holds.
#[derive(Debug, PartialEq)]
pub struct Table<E = Expected> {
    pub rows: Vec<Row<E>>,
    /// What was left out or assumed.
    pub notes: Vec<String>,
}

/// Reads the rows that `args` ask for, and says on stderr what was left out or assumed; every error names the file and its line.
pub fn read(args: &ColumnArgs, path: &Path, config: &Config) -> Result<Vec<Row>> {
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    let table = parse(args, path, &bytes, config)?;
    table.notes.iter().for_each(|what| note(&format!("{}: {what}", path.display())));
    Ok(table.rows)
}

/// The same of a file's bytes. All rows are read, because all together say what the labels mean; `--limit` then takes the first.
pub fn parse(args: &ColumnArgs, path: &Path, bytes: &[u8], config: &Config) -> Result<Table> {
    let (mut written, _, mut notes) = written(args, path, bytes, Labels::Needed)?;
    let expected = expected(args, path, config, &mut written, &mut notes)?;
    Ok(Table { rows: rows(args, written, expected), notes })
}

/// The same of a file whose labels may be missing, or be none of the model's: then a note says so.
pub fn parse_texts(args: &ColumnArgs, path: &Path, bytes: &[u8], config: &Config) -> Result<Table<Option<Expected>>> {
    let (written, has_labels, mut notes) = written(args, path, bytes, Labels::IfThere)?;
    if has_labels {
        let (mut labelled, mut more) = (written.clone(), Vec::new());
        match expected(args, path, config, &mut labelled, &mut more) {
            Ok(expected) => {
                notes.extend(more);
                return Ok(Table { rows: rows(args, labelled, expected.into_iter().map(Some).collect()), notes });
            }
            Err(Failure::Usage(what) | Failure::Error(what)) => notes.push(left_aside(&what)),
            Err(failure) => return Err(failure),
        }
    }
    let none = vec![None; written.len()];
    Ok(Table { rows: rows(args, written, none), notes })
}

/// The passages of a file, whatever else it has; and what was left out or assumed.
pub fn passages(
    args: &ColumnArgs,
    queries: Queries<'_>,
    path: &Path,
    bytes: &[u8],
) -> Result<(Vec<Passage>, Vec<String>)> {
    let source = source(args, path, bytes)?;
    let header = Header { path, names: source.header(), is_numbered: source.is_numbered(), hint: source.hint() };
    let columns = columns::find_passage(args.text_column.as_deref(), queries, &header)?;
    let (rows, broken) = if args.skip_broken_rows {
        source.whole_rows(&columns)
    } else {
        (source.rows(&columns).map_err(|(line, what)| bad(path, line, &what))?, None)
    };
    let notes = source.note().into_iter().chain(broken).collect();
    let passages = rows.into_iter().map(|row| Passage { line: row.line, query: row.text_pair, text: row.text });
    Ok((passages.collect(), notes))
}

/// A file that is not empty.
fn source(args: &ColumnArgs, path: &Path, bytes: &[u8]) -> Result<Source> {
    let text = decode(&path.display().to_string(), bytes)?;
    if text.trim().is_empty() {
        return Err(Failure::Error(format!("{}: the file is empty", path.display())));
    }
    Source::read(path, text, args.no_header)
}

/// The rows as they are written, whether they have labels, and what was assumed.
fn written(args: &ColumnArgs, path: &Path, bytes: &[u8], labels: Labels) -> Result<(Vec<Written>, bool, Vec<String>)> {
    let source = source(args, path, bytes)?;
    let header = Header { path, names: source.header(), is_numbered: source.is_numbered(), hint: source.hint() };
    let (columns, assumed) = columns::find(args, &header, labels)?;
    let mut notes: Vec<String> = source.note().into_iter().chain(assumed).collect();
    let mut columns = columns;
    let mut broken = None;
    let mut written = if args.skip_broken_rows {
        let (mut whole, mut left_out) = source.whole_rows(&columns);
        let without = Columns { label: None, ..columns };
        // Where labels are optional, one that cannot be read breaks no row.
        let (more, others) = source.whole_rows(&without);
        if labels == Labels::IfThere && more.len() > whole.len() {
            notes.extend(left_out.map(|left_out| left_aside(&left_out)));
            (columns, whole, left_out) = (without, more, others);
        }
        broken = left_out;
        Ok(whole)
    } else {
        source.rows(&columns)
    };
    // A label that is none of one label: a list of several, or nothing.
    if let (Err((line, what)), Some(_), Labels::IfThere) = (&written, columns.label, labels) {
        let without = Columns { label: None, ..columns };
        if let Ok(rows) = source.rows(&without) {
            notes.push(left_aside(&format!("line {line}: {what}")));
            (columns, written) = (without, Ok(rows));
        }
    }
    let written = written.map_err(|(line, what)| bad(path, line, &what))?;
    if written.is_empty() {
        let why = broken.map(|broken| format!(": {broken}")).unwrap_or_default();
        return Err(Failure::Error(format!("{}: no rows{why}", path.display())));
    }
    notes.extend(broken);
    Ok((written, columns.label.is_some(), notes))
}

fn left_aside(why: &str) -> String {
    format!("the labels are left aside: {why}")
}

/// What the labels mean to a model; rows without one are dropped.
fn expected(
    args: &ColumnArgs,
    path: &Path,
    config: &Config,
    written: &mut Vec<Written>,
    notes: &mut Vec<String>,
) -> Result<Vec<Expected>> {
    match config.task {
        Task::Regression => {
            if args.labels.is_some() {
                let message = "--labels is for models with several labels, and this one gives a number";
                return Err(Failure::Usage(message.to_owned()));
            }
            written.iter().map(|row| number(row, path)).collect()
        }
        Task::MultiLabel | Task::Embedding => {
            let message = "labels are measured against models that give one label or a number, and this is none";
            Err(Failure::Error(message.to_owned()))
        }
        Task::Classification => {
            notes.extend(leave_out_unlabelled(written, path, &config.labels)?);
            let labels: Vec<&str> = written.iter().map(|row| row.label.as_str()).collect();
            let place = |at: usize| format!("{}, line {}", path.display(), written[at].line);
            let decided = decide(Carrier::Rows, &labels, place, &config.labels, args.labels).map_err(Failure::Error)?;
            notes.extend(decided.note);
            Ok(decided.labels.into_iter().map(Expected::Label).collect())
        }
    }
}

fn rows<E>(args: &ColumnArgs, written: Vec<Written>, expected: Vec<E>) -> Vec<Row<E>> {
    let rows = written.into_iter().zip(expected).map(|(row, expected)| {
        let Written { line, text, text_pair, .. } = row;
        Row { line, text, text_pair, expected }
    });
    rows.take(args.limit.map_or(usize::MAX, |limit| limit as usize)).collect()
}

/// Drops the rows on whose label the annotators did not agree, and says how many.
fn leave_out_unlabelled(rows: &mut Vec<Written>, path: &Path, names: &[String]) -> Result<Option<String>> {
    if names.iter().any(|name| NO_CONSENSUS.contains(&name.trim())) {
        return Ok(None);
    }
    let is_labelled = |row: &Written| !NO_CONSENSUS.contains(&&*row.label);
    let Some(unlabelled) = rows.iter().find(|row| !is_labelled(row)) else { return Ok(None) };
    let (first, label) = (unlabelled.line, unlabelled.label.clone());
    let num_rows = rows.len();
    let has_minus = rows.iter().any(|row| row.label == "-1");
    rows.retain(is_labelled);
    if rows.is_empty() {
        return Err(bad(path, first, &format!("no row has a label: they are all `{label}`")));
    }
    // With -1 they would be exactly the model's labels: -1, 0 and 1 of three, or -1 and 1 of two.
    let numbers: Option<BTreeSet<usize>> = rows.iter().map(|row| row.label.parse().ok()).collect();
    let is_one_short = |numbers: &BTreeSet<usize>| {
        let is_series = numbers.len() + 1 == names.len() && numbers.iter().eq(&(0..numbers.len()).collect::<Vec<_>>());
        is_series || (numbers.len() == 1 && numbers.contains(&1))
    };
    if let Some(numbers) = numbers.filter(|numbers| has_minus && is_one_short(numbers)) {
        let others: Vec<String> = numbers.iter().take(3).map(|number| format!("`{number}`")).collect();
        let message = format!(
            "the labels are `-1`, {}{}, and -1 marks rows without a label here: write numbers from 0 to {}, or names, and leave out rows \
             without a label",
            others.join(", "),
            if numbers.len() > 3 { ", …" } else { "" },
            names.len().saturating_sub(1)
        );
        return Err(bad(path, first, &message));
    }
    let left_out = num_rows - rows.len();
    let what = if left_out == 1 { "row is" } else { "rows are" };
    Ok(Some(format!(
        "{left_out} {what} left out, whose label is `{label}` (line {first}): the annotators did not agree"
    )))
}

fn number(row: &Written, path: &Path) -> Result<Expected> {
    match row.label.parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(Expected::Value(value)),
        _ => Err(bad(path, row.line, &format!("label `{}`, expected a number", row.label))),
    }
}

/// An error of one line.
pub fn bad(path: &Path, line: Line, what: &str) -> Failure {
    Failure::Error(format!("{}, line {line}: {what}", path.display()))
}
