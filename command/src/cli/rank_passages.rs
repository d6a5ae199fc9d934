//! The passages that `sttabt rank` puts in order, by their queries.

use std::io::{self, Read};
use std::path::Path;

use super::args::RankArgs;
use super::model_dir::unreadable;
use super::table::{Line, Passage, Queries, passages};
use super::{ColumnArgs, Failure, Result, note, text};

/// What tables end in; in other files a passage is a line.
const TABLES: [&str; 5] = ["tsv", "csv", "jsonl", "ndjson", "json"];

/// A query, and what is to be ranked for it.
pub struct Asked {
    pub query: String,
    /// In the order of the arguments.
    pub passages: Vec<Found>,
}

/// A passage, and where it stands.
pub struct Found {
    /// Its place in the arguments.
    pub file: usize,
    pub line: Line,
    pub text: String,
}

/// The one query with all passages, or those of the tables, in the order in which they come first.
pub fn read(args: &RankArgs) -> Result<Vec<Asked>> {
    if args.files.iter().filter(|file| file.as_os_str() == "-").count() > 1 {
        return Err(Failure::Usage("`-` reads standard input, which can be read only once".to_owned()));
    }
    let mut places = std::collections::HashMap::new();
    let mut all: Vec<Asked> = Vec::new();
    for (file, path) in args.files.iter().enumerate() {
        let found = in_file(args, path)?;
        if found.is_empty() {
            return Err(Failure::Error(format!("{}: no passages, expected one at least", name(path))));
        }
        for Passage { line, query, text } in found {
            let query = query.or_else(|| args.query.clone()).unwrap_or_default();
            let place = *places.entry(query.clone()).or_insert_with(|| {
                all.push(Asked { query, passages: Vec::new() });
                all.len() - 1
            });
            all[place].passages.push(Found { file, line, text });
        }
    }
    Ok(all)
}

fn in_file(args: &RankArgs, path: &Path) -> Result<Vec<Passage>> {
    let columns = ColumnArgs {
        text_column: args.text_column.clone(),
        no_header: args.no_header,
        skip_broken_rows: args.skip_broken_rows,
        ..ColumnArgs::default()
    };
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
    let is_table = TABLES.contains(&ending.as_str());
    if args.query.is_none() && !is_table {
        let expected = "expected --query, or a table (.tsv, .csv, .jsonl) with a column `query`";
        return Err(Failure::Usage(format!("{} has no queries: {expected}", name(path))));
    }
    if path.as_os_str() == "-" {
        let mut bytes = Vec::new();
        io::stdin().read_to_end(&mut bytes).map_err(|error| unreadable(Path::new("standard input"), &error))?;
        return lines(&name(path), &bytes);
    }
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    if !is_table {
        return lines(&name(path), &bytes);
    }
    let queries = match args.query {
        Some(_) => Queries::Apart,
        None => Queries::Column(args.query_column.as_deref()),
    };
    let (found, notes) = passages(&columns, queries, path, &bytes)?;
    notes.iter().for_each(|what| note(&format!("{}: {what}", path.display())));
    Ok(found)
}

/// One passage per line. An empty line is an empty passage, but blank lines at the end are none.
fn lines(source: &str, bytes: &[u8]) -> Result<Vec<Passage>> {
    let text = text::decode(source, bytes)?;
    let num_lines = text.trim_end().lines().count();
    let lines = (1..).zip(text.lines().take(num_lines));
    Ok(lines.map(|(line, text)| Passage { line, query: None, text: text.to_owned() }).collect())
}

/// A file as messages call it.
pub fn name(path: &Path) -> String {
    if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() }
}
