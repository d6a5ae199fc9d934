//! `sttabt eval --rank`: what rules cost and what they lose, on judged rankings.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Instant;

use indicatif::ProgressBar;
use serde::Serialize;
use sttabt::{Engine, Error, Flops, Prune, RankOptions, Ranking};

use super::args::EvalArgs;
use super::eval::progress_bar;
use super::model_dir::{Kind, find, load};
use super::rank::{label_failure, rank};
use super::rank_data::{RankQuery, RankSet, read};
use super::rank_metrics::metrics;
use super::table::bad;
use super::{Failure, Result, default_rule, note, open_engine, visible, write_columns};

/// Means over queries, by name.
type Metrics = BTreeMap<&'static str, f64>;

pub fn run(args: &EvalArgs) -> Result<()> {
    let Some(folder) = &args.rank else {
        return Err(Failure::Usage("nothing to rank: give --rank DIR".to_owned()));
    };
    let sets = read(folder, args.columns.limit)?;
    sets.iter().for_each(note_queries);
    let model_folder = find(&args.model, Kind::Rank)?;
    let model = load(&model_folder)?;
    let rules = match &args.prune {
        Some(list) => Prune::parse_list(list)?,
        None => vec![default_rule(&model)?],
    };
    let mut engine = open_engine(&model, &args.device)?;
    let num_passages: usize = sets.iter().map(RankSet::num_passages).sum();
    let progress = progress_bar(num_passages * rules.len());
    let mut reports = Vec::new();
    for set in &sets {
        for prune in &rules {
            progress.set_message(prune.to_string());
            reports.push(measure(&mut engine, args, set, prune, &progress)?);
        }
    }
    progress.finish_and_clear();
    let sets: Vec<SetReport<'_>> = sets.iter().map(|set| SetReport::new(set, args)).collect();
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &Reports { sets: &sets, results: &reports })?;
        writeln!(out)?;
    } else {
        let backend = engine.backend();
        let device = if backend.backend == "cpu" { String::new() } else { format!(" ({})", backend.adapter) };
        let source = visible(&folder.display().to_string());
        for set in &sets {
            let SetReport { set: name, queries, passages, .. } = set;
            let name = visible(name);
            let on = backend.backend;
            writeln!(out, "{name} of {source} on {on}{device}: {queries} queries, {passages} passages\n")?;
            print(&mut out, set, reports.iter().filter(|report| report.set == set.set))?;
        }
        writeln!(
            out,
            "GFLOPs and ms per query, ApproxNet included; retention is the mean over all pairs. MRR and recall take grades from {} for relevant.",
            args.relevant()
        )?;
    }
    out.flush()?;
    Ok(())
}

impl EvalArgs {
    /// The least grade of a relevant passage.
    fn relevant(&self) -> i64 {
        i64::from(self.relevant.unwrap_or(1))
    }
}

impl RankSet {
    fn num_passages(&self) -> usize {
        self.queries.iter().map(|query| query.passages.len()).sum()
    }
}

/// Says which queries cannot be measured.
fn note_queries(set: &RankSet) {
    for (names, why) in [(&set.unjudged, "without judgements"), (&set.without_candidates, "without candidates")] {
        if !names.is_empty() {
            let plural = if names.len() == 1 { "query" } else { "queries" };
            let file = set.queries_file.display();
            note(&format!("{file}: {} {plural} {why} left out: {}", names.len(), names.join(", ")));
        }
    }
}

/// Ranks all queries of a set; the clock runs while the engine does.
fn measure<'s>(
    engine: &mut Engine,
    args: &EvalArgs,
    set: &'s RankSet,
    prune: &Prune,
    progress: &ProgressBar,
) -> Result<Report<'s>> {
    let options =
        RankOptions { top_n: None, prune: Some(prune.clone()), windows: args.windows, label: args.label.clone() };
    let (mut of_queries, mut ms, mut num_pairs) = (Vec::new(), 0.0, 0);
    let (mut flops, mut retention) = (Flops::default(), 0.0);
    for query in &set.queries {
        let texts: Vec<&str> = query.passages.iter().map(|passage| passage.text.as_str()).collect();
        let before = progress.position();
        let start = Instant::now();
        let outcome = rank(engine, &query.text, &texts, &options, progress);
        ms += start.elapsed().as_secs_f64() * 1e3;
        progress.set_position(before + texts.len() as u64);
        let ranking = outcome.map_err(|error| failure(error, set, query))?;
        of_queries.push(metrics(&names(query, &ranking), &query.judgements, args.relevant()));
        num_pairs += ranking.num_pairs;
        retention += ranking.retention * ranking.num_pairs as f64;
        flops += ranking.flops;
    }
    let num_queries = set.queries.len();
    let per_query = |flops: u64| flops as f64 / 1e9 / num_queries as f64;
    Ok(Report {
        set: &set.name,
        prune: prune.to_string(),
        metrics: mean(&of_queries),
        retention: retention / num_pairs as f64,
        gflops: per_query(flops.total()),
        gflops_dense: per_query(flops.dense),
        ms: ms / num_queries as f64,
        queries: num_queries,
        pairs: num_pairs,
    })
}

/// The names of a query's passages in the order of their scores.
fn names<'q>(query: &'q RankQuery, ranking: &Ranking) -> Vec<&'q str> {
    ranking.results.iter().map(|result| query.passages[result.index].name.as_str()).collect()
}

/// An error of the engine, with the place in the files that it is about.
fn failure(error: Error, set: &RankSet, query: &RankQuery) -> Failure {
    match error {
        Error::Passage { index, reason } => bad(&set.candidates_file, query.passages[index].line, &reason),
        error @ Error::Query { .. } => bad(&set.queries_file, query.line, &error.to_string()),
        error => label_failure(error),
    }
}

fn mean(of_queries: &[Metrics]) -> Metrics {
    let mut sums = Metrics::new();
    for (&name, value) in of_queries.iter().flatten() {
        *sums.entry(name).or_default() += value;
    }
    sums.values_mut().for_each(|sum| *sum /= of_queries.len() as f64);
    sums
}

#[derive(Serialize)]
struct Reports<'a> {
    sets: &'a [SetReport<'a>],
    results: &'a [Report<'a>],
}

#[derive(Serialize)]
struct SetReport<'a> {
    set: &'a str,
    queries: usize,
    passages: usize,
    /// What the order has that was given.
    input_order: Metrics,
    unjudged: &'a [String],
    without_candidates: &'a [String],
}

impl<'a> SetReport<'a> {
    fn new(set: &'a RankSet, args: &EvalArgs) -> Self {
        let given = set.queries.iter().map(|query| {
            let order: Vec<&str> = query.passages.iter().map(|passage| passage.name.as_str()).collect();
            metrics(&order, &query.judgements, args.relevant())
        });
        Self {
            set: &set.name,
            queries: set.queries.len(),
            passages: set.num_passages(),
            input_order: mean(&given.collect::<Vec<_>>()),
            unjudged: &set.unjudged,
            without_candidates: &set.without_candidates,
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    set: &'a str,
    prune: String,
    metrics: Metrics,
    retention: f64,
    /// Per query, as `ms`.
    gflops: f64,
    gflops_dense: f64,
    ms: f64,
    queries: usize,
    pairs: usize,
}

/// The columns of metrics, from the one that counts most.
const NAMES: [&str; 4] = ["ndcg@10", "mrr@10", "recall@10", "recall@100"];

fn print<'r>(out: &mut impl Write, set: &SetReport<'_>, reports: impl Iterator<Item = &'r Report<'r>>) -> Result<()> {
    let metrics =
        |metrics: &Metrics| NAMES.map(|name| format!("{:.4}", metrics.get(name).copied().unwrap_or_default()));
    let costs = ["retention", "GFLOPs", "of dense", "ms"];
    let line = |rule: &str, metrics: [String; 4], costs: [String; 4]| -> Vec<String> {
        std::iter::once(rule.to_owned()).chain(metrics).chain(costs).collect()
    };
    let mut lines = vec![
        line("rule", NAMES.map(str::to_owned), costs.map(str::to_owned)),
        line("input order", metrics(&set.input_order), costs.map(|_| "-".to_owned())),
    ];
    lines.extend(reports.map(|report| {
        let costs = [
            format!("{:.3}", report.retention),
            format!("{:.1}", report.gflops),
            format!("{:.1} %", 100.0 * report.gflops / report.gflops_dense),
            format!("{:.0}", report.ms),
        ];
        line(&report.prune, metrics(&report.metrics), costs)
    }));
    write_columns(out, &lines)?;
    writeln!(out)?;
    Ok(())
}
