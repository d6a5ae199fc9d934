//! Files with a delimiter: `.csv` by RFC 4180, and tab-separated ones as GLUE or pandas writes them.

use csv::{Position, ReaderBuilder, StringRecord};

use super::quotes::{Stray, scan};
use super::{Line, LineResult};

/// The separators of the two kinds of files.
pub const TAB: u8 = b'\t';
pub const COMMA: u8 = b',';

/// Said of a file that Excel writes where the comma is the decimal sign.
pub const SEMICOLONS: &str =
    "columns of a .csv are separated by commas, not by semicolons: save it with commas, or as tab-separated .tsv";

/// A file's fields.
pub struct Delimited {
    /// Empty where the file has none.
    pub header: Vec<String>,
    /// With their lines.
    pub records: Vec<(Line, StringRecord)>,
    /// What was assumed.
    pub note: Option<String>,
}

pub fn read(text: &str, delimiter: u8, has_header: bool) -> LineResult<Delimited> {
    let scanned = scan(text, delimiter, has_header, delimiter == COMMA);
    let quoting = match (&scanned, delimiter) {
        (Ok(_), COMMA) => true,
        (Err(stray), COMMA) => {
            let has_semicolons =
                text.lines().next().is_some_and(|header| header.contains(';') && !header.contains(','));
            let expected = if has_semicolons { SEMICOLONS } else { "expected quoting as in RFC 4180" };
            let what = format!("a quotation mark {}; {expected}", stray.what);
            return Err((stray.line, what));
        }
        (Ok(quotes), _) => quotes.are_of_fields(text, delimiter),
        (Err(_), _) => false,
    };
    let mut reader = ReaderBuilder::new()
        .delimiter(delimiter)
        .quoting(quoting)
        .flexible(true)
        .has_headers(false)
        .from_reader(text.as_bytes());
    let mut header = Vec::new();
    let mut records = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| (error.position().map_or(1, Position::line), error.to_string()))?;
        // A line of blanks is none; the reader skips only the empty ones.
        if record.len() == 1 && record.iter().all(|field| field.trim().is_empty()) {
            continue;
        }
        if has_header && header.is_empty() {
            header = record.iter().map(str::to_owned).collect();
        } else {
            records.push((record.position().map_or(0, |position| line_of(text, position)), record));
        }
    }
    // A spreadsheet may end in rows without anything.
    while records.last().is_some_and(|(_, record)| record.iter().all(|field| field.trim().is_empty())) {
        records.pop();
    }
    let note = match (&scanned, delimiter) {
        (Ok(quotes), TAB) if quoting => Some(format!(
            "quoted fields ({} of them, the first in line {}): the quotation marks around them are not text",
            quotes.num_quoted, quotes.first_line
        )),
        (scanned, TAB) => quotations(&records, scanned.as_ref().err())?,
        _ => None,
    };
    Ok(Delimited { header, records, note })
}

/// What is said of fields that begin and end with a quotation mark in a file that does not quote.
fn quotations(records: &[(Line, StringRecord)], stray: Option<&Stray>) -> LineResult<Option<String>> {
    let fields = records.iter().flat_map(|(line, record)| record.iter().map(move |field| (*line, field.trim())));
    let is_wrapped = |field: &str| field.len() > 1 && field.starts_with('"') && field.ends_with('"');
    let (mut num_wrapped, mut first_line) = (0, None);
    for (line, field) in fields {
        if is_wrapped(field) {
            num_wrapped += 1;
            first_line = first_line.or(Some(line));
            // R's default, which other readers take for the end of the field.
            if field[1..field.len() - 1].contains("\\\"") {
                let what = "a quotation mark in a quoted field is written `\\\"`; expected it doubled, as in RFC 4180";
                return Err((line, what.to_owned()));
            }
        }
    }
    Ok(first_line.map(|line| {
        let why = match stray {
            Some(stray) => format!("other quotation marks quote nothing (line {})", stray.line),
            None => "nothing shows that this file quotes; in a .csv they would be quoted".to_owned(),
        };
        let fields = if num_wrapped == 1 { "field begins and ends" } else { "fields begin and end" };
        format!("{num_wrapped} {fields} with a quotation mark (line {line}), which is text: {why}")
    }))
}

/// A record's line. The reader skips empty lines, but places the record that follows at the first of them.
fn line_of(text: &str, position: &Position) -> Line {
    let rest = text.as_bytes().get(position.byte() as usize..).unwrap_or_default();
    let skipped = rest.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).filter(|&&byte| byte == b'\n').count();
    position.line() + skipped as u64
}
