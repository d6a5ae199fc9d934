//! `sttabt rank`: passages in the order of their scores, with the words that survived to the last layer.

use std::io::Write;
use std::ops::ControlFlow;
use std::time::Instant;

use indicatif::ProgressBar;
use serde::Serialize;
use sttabt::{BackendInfo, Engine, Error, Flops, Prune, RankOptions, RankProgress, RankedPassage, Ranking};

use super::args::RankArgs;
use super::model_dir::{Kind, find, load};
use super::rank_passages::{self, Asked, Found};
use super::{Failure, Result, default_rule, draw, eval, open_engine, table, visible};

pub fn run(args: &RankArgs) -> Result<()> {
    let all = rank_passages::read(args)?;
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
    let progress = eval::progress_bar(0);
    let mut rankings = Vec::new();
    for asked in &all {
        rankings.push(ranking(&mut engine, args, asked, &options, &progress)?);
    }
    progress.finish_and_clear();
    let mut out = anstream::stdout().lock();
    for (asked, (ranking, ms)) in all.iter().zip(&rankings) {
        let place = |result: &RankedPassage| place(args, &asked.passages[result.index]);
        if args.json {
            let results = ranking.results.iter().map(|result| {
                let (file, line) = place(result);
                ReportResult { file, line, text: &asked.passages[result.index].text, result }
            });
            let report = Report {
                model: folder.display().to_string(),
                backend: engine.backend(),
                query: &asked.query,
                prune: &ranking.prune,
                label: ranking.label.as_deref(),
                results: results.collect(),
                num_passages: ranking.num_passages,
                num_pairs: ranking.num_pairs,
                retention: ranking.retention,
                flops: ranking.flops,
                ms: *ms,
            };
            serde_json::to_writer(&mut out, &report)?;
            writeln!(out)?;
        } else {
            if args.query.is_none() {
                writeln!(out, "query: {}\n", visible(&asked.query))?;
            }
            print(&mut out, &engine, ranking, *ms, place)?;
            if all.len() > 1 {
                writeln!(out)?;
            }
        }
    }
    out.flush()?;
    Ok(())
}

/// The file and the line of a passage.
fn place(args: &RankArgs, found: &Found) -> (String, table::Line) {
    (rank_passages::name(&args.files[found.file]), found.line)
}

/// The ranking of one query, and its milliseconds. Errors name the file and the line.
fn ranking(
    engine: &mut Engine,
    args: &RankArgs,
    asked: &Asked,
    options: &RankOptions,
    progress: &ProgressBar,
) -> Result<(Ranking, f64)> {
    let texts: Vec<&str> = asked.passages.iter().map(|found| found.text.as_str()).collect();
    let start = Instant::now();
    let ranking = rank(engine, &asked.query, &texts, options, progress).map_err(|error| match error {
        Error::Passage { index, reason } => {
            let (file, line) = place(args, &asked.passages[index]);
            Failure::Error(format!("{file}, line {line}: {reason}"))
        }
        // The query of the first of its rows.
        error @ Error::Query { .. } if args.query.is_none() => {
            let (file, line) = place(args, &asked.passages[0]);
            Failure::Error(format!("{file}, line {line}: {error}"))
        }
        error => label_failure(error),
    })?;
    Ok((ranking, start.elapsed().as_secs_f64() * 1e3))
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

fn print(
    out: &mut impl Write,
    engine: &Engine,
    ranking: &Ranking,
    ms: f64,
    place: impl Fn(&RankedPassage) -> (String, table::Line),
) -> Result<()> {
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
        draw::title(out, &format!("{rank}. {score}"), &format!("{}, line {line}{window}{cut}", visible(&file)))?;
        draw::passage(out, result, &model.pieces(&result.tokens), num_layers, width)?;
        writeln!(out)?;
    }
    draw::cost(out, ranking.retention, ranking.flops)?;
    if ranking.results.iter().any(|result| result.truncated) {
        writeln!(out, "cut: longer than what the model reads beside the query; --windows reads all of it")?;
    }
    let backend = engine.backend();
    let device = if backend.backend == "cpu" { String::new() } else { format!(" ({})", backend.adapter) };
    let Ranking { prune, num_passages, num_pairs, .. } = ranking;
    let plural = if *num_passages == 1 { "" } else { "s" };
    let pairs = if num_pairs == num_passages { String::new() } else { format!(", {num_pairs} pairs computed") };
    writeln!(out, "{prune} on {}{device}: {ms:.1} ms for {num_passages} passage{plural}{pairs}", backend.backend)?;
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
