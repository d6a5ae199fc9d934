//! `sttabt rank`: passages in the order of their scores, with the words that survived to the last layer.

use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use indicatif::ProgressBar;
use serde::Serialize;
use sttabt::{BackendInfo, Engine, Error, Flops, Prune, RankOptions, RankProgress, RankedPassage, Ranking};

use super::args::RankArgs;
use super::model_dir::{Kind, find, load, unreadable};
use super::{ColumnArgs, Failure, Result, default_rule, draw, eval, note, open_engine, table, text, visible};

/// What tables end in; in other files a passage is a line.
const TABLES: [&str; 5] = ["tsv", "csv", "jsonl", "ndjson", "json"];

/// A passage, and where it stands.
struct Found {
    /// Its place in the arguments.
    file: usize,
    line: table::Line,
    text: String,
}

pub fn run(args: &RankArgs) -> Result<()> {
    let found = passages(args)?;
    let folder = find(&args.model, Kind::Rank)?;
    let model = load(&folder)?;
    let prune = args.prune.clone().map_or_else(|| default_rule(&model), Ok)?;
    let options = RankOptions {
        top_n: args.top.map(|top| top as usize),
        prune: Some(prune),
        windows: args.windows,
        label: args.label.clone(),
    };
    let mut engine = open_engine(&model, &args.device)?;
    let texts: Vec<&str> = found.iter().map(|found| found.text.as_str()).collect();
    let progress = eval::progress_bar(0);
    let start = Instant::now();
    let outcome = rank(&mut engine, &args.query, &texts, &options, &progress);
    let ms = start.elapsed().as_secs_f64() * 1e3;
    progress.finish_and_clear();
    let place = |found: &Found| (name(&args.files[found.file]), found.line);
    let ranking = outcome.map_err(|error| match error {
        Error::Passage { index, reason } => {
            let (file, line) = place(&found[index]);
            Failure::Error(format!("{file}, line {line}: {reason}"))
        }
        error => label_failure(error),
    })?;
    if args.json {
        let results = ranking.results.iter().map(|result| {
            let (file, line) = place(&found[result.index]);
            ReportResult { file, line, text: &found[result.index].text, result }
        });
        let report = Report {
            model: folder.display().to_string(),
            backend: engine.backend(),
            query: &args.query,
            prune: &ranking.prune,
            label: ranking.label.as_deref(),
            results: results.collect(),
            num_passages: ranking.num_passages,
            num_pairs: ranking.num_pairs,
            retention: ranking.retention,
            flops: ranking.flops,
            ms,
        };
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &report)?;
        writeln!(out)?;
        out.flush()?;
    } else {
        print(&engine, &ranking, ms, |result| place(&found[result.index]))?;
    }
    Ok(())
}

/// One call, which moves a bar of pairs.
pub fn rank(
    engine: &mut Engine,
    query: &str,
    passages: &[&str],
    options: &RankOptions,
    progress: &ProgressBar,
) -> sttabt::Result<Ranking> {
    let (before, mut length) = (progress.position(), progress.length().unwrap_or_default());
    let on_progress = |RankProgress { num_done, num_pairs }: RankProgress| {
        // Where all pairs of a run are not known before, the bar grows with those of each call.
        if num_done == 0 && before == length {
            length += num_pairs as u64;
            progress.set_length(length);
        }
        progress.set_position(before + num_done as u64);
        ControlFlow::Continue(())
    };
    pollster::block_on(engine.rank(query, passages, options, on_progress))
}

/// A failure that names the arguments of the command.
pub fn label_failure(error: Error) -> Failure {
    match error {
        Error::Label { reason } => Failure::Error(reason.replace("`label` chooses", "`--label` chooses")),
        error => error.into(),
    }
}

/// The passages of all files, in the order of the arguments.
fn passages(args: &RankArgs) -> Result<Vec<Found>> {
    if args.files.iter().filter(|file| file.as_os_str() == "-").count() > 1 {
        return Err(Failure::Usage("`-` reads standard input, which can be read only once".to_owned()));
    }
    let columns = ColumnArgs {
        text_column: args.text_column.clone(),
        no_header: args.no_header,
        skip_broken_rows: args.skip_broken_rows,
        ..ColumnArgs::default()
    };
    let mut all = Vec::new();
    for (file, path) in args.files.iter().enumerate() {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
        let found = if path.as_os_str() == "-" {
            let mut bytes = Vec::new();
            io::stdin().read_to_end(&mut bytes).map_err(|error| unreadable(Path::new("standard input"), &error))?;
            lines(&name(path), &bytes)?
        } else {
            let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
            if TABLES.contains(&ending.as_str()) {
                let (texts, notes) = table::texts(&columns, path, &bytes)?;
                notes.iter().for_each(|what| note(&format!("{}: {what}", path.display())));
                texts
            } else {
                lines(&name(path), &bytes)?
            }
        };
        if found.is_empty() {
            return Err(Failure::Error(format!("{}: no passages, expected one at least", name(path))));
        }
        all.extend(found.into_iter().map(|(line, text)| Found { file, line, text }));
    }
    Ok(all)
}

/// One passage per line. An empty line is an empty passage, but blank lines at the end are none.
fn lines(source: &str, bytes: &[u8]) -> Result<table::Texts> {
    let text = text::decode(source, bytes)?;
    let num_lines = text.trim_end().lines().count();
    Ok((1..).zip(text.lines().take(num_lines).map(str::to_owned)).collect())
}

fn name(path: &Path) -> String {
    if path.as_os_str() == "-" { "standard input".to_owned() } else { path.display().to_string() }
}

fn print(
    engine: &Engine,
    ranking: &Ranking,
    ms: f64,
    place: impl Fn(&RankedPassage) -> (String, table::Line),
) -> Result<()> {
    let mut out = anstream::stdout().lock();
    let width = terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0));
    let (model, num_layers) = (engine.model(), engine.model().config().num_hidden_layers);
    for (rank, result) in (1..).zip(&ranking.results) {
        let (file, line) = place(result);
        let score = match &ranking.label {
            Some(label) => format!("{} {:.1} %", visible(label), 100.0 * result.score),
            None => format!("{:.3}", result.score),
        };
        let window = result.window.filter(|window| window.num_windows > 1);
        let window =
            window.map_or(String::new(), |window| format!(", window {} of {}", window.index + 1, window.num_windows));
        let cut = if result.truncated { ", cut" } else { "" };
        draw::title(&mut out, &format!("{rank}. {score}"), &format!("{}, line {line}{window}{cut}", visible(&file)))?;
        draw::passage(&mut out, result, &model.pieces(&result.tokens), num_layers, width)?;
        writeln!(out)?;
    }
    draw::cost(&mut out, ranking.retention, ranking.flops)?;
    if ranking.results.iter().any(|result| result.truncated) {
        writeln!(out, "cut: longer than what the model reads beside the query; --windows reads all of it")?;
    }
    let backend = engine.backend();
    let device = if backend.backend == "cpu" { String::new() } else { format!(" ({})", backend.adapter) };
    let Ranking { prune, num_passages, num_pairs, .. } = ranking;
    let plural = if *num_passages == 1 { "" } else { "s" };
    let pairs = if num_pairs == num_passages { String::new() } else { format!(", {num_pairs} pairs computed") };
    writeln!(out, "{prune} on {}{device}: {ms:.1} ms for {num_passages} passage{plural}{pairs}", backend.backend)?;
    out.flush()?;
    Ok(())
}

#[derive(Serialize)]
struct Report<'a> {
    model: String,
    #[serde(flatten)]
    backend: &'a BackendInfo,
    query: &'a str,
    prune: &'a Prune,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<&'a str>,
    results: Vec<ReportResult<'a>>,
    num_passages: usize,
    num_pairs: usize,
    retention: f64,
    flops: Flops,
    ms: f64,
}

#[derive(Serialize)]
struct ReportResult<'a> {
    file: String,
    line: table::Line,
    text: &'a str,
    #[serde(flatten)]
    result: &'a RankedPassage,
}
