//! Judged rankings in a folder: `NAME.queries.tsv`, `NAME.candidates.tsv` and `NAME.qrels.tsv`.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::model_dir::unreadable;
use super::rank_metrics::Judgements;
use super::table::{Line, bad};
use super::{Failure, Result, text};

/// What the names of a set's files end in.
const QUERIES: &str = ".queries.tsv";
const CANDIDATES: &str = ".candidates.tsv";
const QRELS: &str = ".qrels.tsv";

/// A set of queries with their candidates.
#[derive(Debug)]
pub struct RankSet {
    pub name: String,
    /// The files, for messages.
    pub queries_file: PathBuf,
    pub candidates_file: PathBuf,
    /// Those that can be measured, in the order of their file.
    pub queries: Vec<RankQuery>,
    /// The names of queries that nobody judged.
    pub unjudged: Vec<String>,
    /// The names of queries without candidates.
    pub without_candidates: Vec<String>,
}

/// A query, and what is to be ranked for it.
#[derive(Debug)]
pub struct RankQuery {
    pub line: Line,
    pub text: String,
    /// In the order that was given.
    pub passages: Vec<RankCandidate>,
    pub judgements: Judgements,
}

/// A passage by its name.
#[derive(Debug)]
pub struct RankCandidate {
    pub line: Line,
    pub name: String,
    pub text: String,
}

/// All sets of a folder, in the order of their names. `limit` takes the first queries of each.
pub fn read(folder: &Path, limit: Option<u32>) -> Result<Vec<RankSet>> {
    let entries = std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| unreadable(folder, &error))?.file_name();
        let name = entry.to_str().and_then(|name| name.strip_suffix(QUERIES)).map(str::to_owned);
        names.extend(name.filter(|name| !name.is_empty()));
    }
    names.sort_unstable();
    if names.is_empty() {
        let what = format!("no set to rank, expected NAME{QUERIES}, NAME{CANDIDATES} and NAME{QRELS}");
        return Err(Failure::Error(format!("{}: {what}", folder.display())));
    }
    names.into_iter().map(|name| set(folder, name, limit)).collect()
}

fn set(folder: &Path, name: String, limit: Option<u32>) -> Result<RankSet> {
    let [queries, candidates, qrels] = [QUERIES, CANDIDATES, QRELS].map(|end| folder.join(format!("{name}{end}")));
    for path in [&candidates, &qrels] {
        if !path.exists() {
            let what = format!("missing beside {name}{QUERIES}, expected {name}{CANDIDATES} and {name}{QRELS}");
            return Err(Failure::Error(format!("{}: {what}", path.display())));
        }
    }
    let mut all = read_queries(&queries)?;
    let places: HashMap<String, usize> =
        all.iter().enumerate().map(|(place, (name, _))| (name.clone(), place)).collect();
    read_candidates(&candidates, &queries, &places, &mut all)?;
    read_judgements(&qrels, &places, &mut all)?;
    let (mut whole, mut unjudged, mut without_candidates) = (Vec::new(), Vec::new(), Vec::new());
    for (name, query) in all {
        match (query.passages.is_empty(), query.judgements.is_empty()) {
            (true, _) => without_candidates.push(name),
            (_, true) => unjudged.push(name),
            _ => whole.push(query),
        }
    }
    if whole.is_empty() {
        let what = "no query has both candidates and judgements";
        return Err(Failure::Error(format!("{}: {what}", queries.display())));
    }
    whole.truncate(limit.map_or(usize::MAX, |limit| limit as usize));
    let (queries_file, candidates_file) = (queries, candidates);
    Ok(RankSet { name, queries_file, candidates_file, queries: whole, unjudged, without_candidates })
}

type Named = Vec<(String, RankQuery)>;

fn read_queries(path: &Path) -> Result<Named> {
    let mut known = HashMap::new();
    let mut queries = Vec::new();
    each_row(path, ["qid", "query"], |line, [name, text]| {
        if let Some(first) = known.insert(name.to_owned(), line) {
            return Err(format!("query `{name}` is there twice, first in line {first}"));
        }
        let (passages, judgements) = (Vec::new(), BTreeMap::new());
        queries.push((name.to_owned(), RankQuery { line, text: text.to_owned(), passages, judgements }));
        Ok(())
    })?;
    Ok(queries)
}

fn read_candidates(path: &Path, queries: &Path, places: &HashMap<String, usize>, all: &mut Named) -> Result<()> {
    let mut known: HashMap<(usize, String), Line> = HashMap::new();
    // Each query's, with their ranks.
    let mut candidates: Vec<BTreeMap<u64, RankCandidate>> = all.iter().map(|_| BTreeMap::new()).collect();
    each_row(path, ["qid", "pid", "rank", "passage"], |line, [query, name, rank, passage]| {
        let place = *places.get(query).ok_or_else(|| format!("query `{query}` is not in {}", queries.display()))?;
        if let Some(first) = known.insert((place, name.to_owned()), line) {
            return Err(format!("passage `{name}` of query `{query}` is there twice, first in line {first}"));
        }
        let rank = rank.parse().map_err(|_| format!("`rank` is `{rank}`, expected a whole number"))?;
        let candidate = RankCandidate { line, name: name.to_owned(), text: passage.to_owned() };
        match candidates[place].insert(rank, candidate) {
            None => Ok(()),
            Some(other) => Err(format!("rank {rank} of query `{query}` is there twice, first in line {}", other.line)),
        }
    })?;
    for ((_, query), candidates) in all.iter_mut().zip(candidates) {
        query.passages = candidates.into_values().collect();
    }
    Ok(())
}

/// Those of other queries are left aside: a file of judgements may be for more.
fn read_judgements(path: &Path, places: &HashMap<String, usize>, all: &mut Named) -> Result<()> {
    each_row(path, ["qid", "pid", "grade"], |_, [query, name, grade]| {
        let grade = grade.parse::<i64>().map_err(|_| format!("`grade` is `{grade}`, expected a whole number"))?;
        let Some((_, query_of)) = places.get(query).map(|&place| &mut all[place]) else { return Ok(()) };
        match query_of.judgements.insert(name.to_owned(), grade) {
            None => Ok(()),
            Some(_) => Err(format!("passage `{name}` of query `{query}` is judged twice, expected one grade")),
        }
    })
}

/// Calls `take` with the columns of these names of each row. Quotation marks are characters.
fn each_row<const N: usize>(
    path: &Path,
    names: [&str; N],
    mut take: impl FnMut(Line, [&str; N]) -> std::result::Result<(), String>,
) -> Result<()> {
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    let text = text::decode(&path.display().to_string(), &bytes)?;
    let mut lines = (1..).zip(text.lines());
    let header = lines.next().map_or("", |(_, header)| header);
    let columns: Vec<&str> = header.split('\t').map(str::trim).collect();
    let mut places = [0; N];
    for (place, name) in places.iter_mut().zip(names) {
        let missing = || {
            let expected = names.map(|name| format!("`{name}`")).join(", ");
            bad(path, 1, &format!("no column `{name}`, expected a header with {expected}, separated by tabs"))
        };
        *place = columns.iter().position(|column| *column == name).ok_or_else(missing)?;
    }
    for (line, row) in lines.filter(|(_, row)| !row.trim().is_empty()) {
        let fields: Vec<&str> = row.split('\t').collect();
        if fields.len() != columns.len() {
            let what = format!("{} columns, expected {} as in the header", fields.len(), columns.len());
            return Err(bad(path, line, &what));
        }
        let mut values = [""; N];
        for ((value, place), name) in values.iter_mut().zip(places).zip(names) {
            // A passage is as it is, and may be empty.
            *value = if name == "passage" { fields[place] } else { fields[place].trim() };
            if value.is_empty() && name != "passage" {
                return Err(bad(path, line, &format!("`{name}` is empty")));
            }
        }
        take(line, values).map_err(|what| bad(path, line, &what))?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "rank_data_tests.rs"]
mod tests;
