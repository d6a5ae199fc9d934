//! `sttabt eval`: what rules cost and what they lose, on labelled data.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sttabt::{Engine, Error, Flops, Input, Outputs, Prune, Task};

use super::args::EvalArgs;
use super::metrics::{accuracy, f1, matthews, pearson, spearman};
use super::model_dir::{find, load};
use super::table::{Expected, Row, bad, read};
use super::{Result, open_engine};

pub fn run(args: &EvalArgs) -> Result<()> {
    let folder = find(&args.model)?;
    let model = load(&folder)?;
    let rules = match &args.prune {
        Some(list) => Prune::parse_list(list)?,
        None => vec![model.default_prune()],
    };
    let rows = read(args, model.config())?;
    let mut engine = open_engine(&model, &args.device)?;
    let progress = ProgressBar::new((rows.len() * rules.len()) as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg:14} {wide_bar} {pos}/{len} {eta}") {
        progress.set_style(style);
    }
    let mut measured = Vec::new();
    for prune in &rules {
        progress.set_message(prune.to_string());
        measured.push(measure(&mut engine, args, &rows, prune, &progress)?);
    }
    progress.finish_and_clear();
    let dense = rules.iter().position(|rule| *rule == Prune::Dense);
    let reports: Vec<Report> = rules
        .iter()
        .zip(&measured)
        .map(|(prune, run)| Report::new(prune, run, &rows, model.config().task, dense.map(|dense| &measured[dense])))
        .collect();
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &Reports { results: &reports })?;
        writeln!(out)?;
    } else {
        let backend = engine.backend();
        let device = if backend.backend == "cpu" { String::new() } else { format!(" ({})", backend.adapter) };
        writeln!(out, "{} samples of {} on {}{device}\n", rows.len(), args.data.display(), backend.backend)?;
        print(&mut out, &reports)?;
    }
    out.flush()?;
    Ok(())
}

/// One rule's run over all rows.
struct Run {
    predictions: Vec<Prediction>,
    retention: f64,
    flops: Flops,
    ms: f64,
}

#[derive(Clone, Copy)]
struct Prediction {
    label: usize,
    value: f64,
}

/// Classifies all rows, a batch at a time; the clock runs while the engine does.
fn measure(engine: &mut Engine, args: &EvalArgs, rows: &[Row], prune: &Prune, progress: &ProgressBar) -> Result<Run> {
    let path = args.data.as_path();
    let mut run = Run { predictions: Vec::new(), retention: 0.0, flops: Flops::default(), ms: 0.0 };
    for rows in rows.chunks(args.batch as usize) {
        let inputs: Vec<Input<'_>> = rows
            .iter()
            .map(|row| match &row.text_pair {
                Some(pair) => Input::Pair(&row.text, pair),
                None => Input::Text(&row.text),
            })
            .collect();
        let start = Instant::now();
        let results = pollster::block_on(engine.classify(&inputs, prune, &Outputs::default()));
        // The engine counts the inputs of a batch; the reader knows the lines of a file.
        let results = results.map_err(|error| match error {
            Error::Input { index, reason } => bad(path, rows[index].line, &reason),
            other => other.into(),
        })?;
        run.ms += start.elapsed().as_secs_f64() * 1e3;
        for result in results {
            run.predictions.push(Prediction { label: result.label_index, value: f64::from(result.logits[0]) });
            run.retention += result.retention;
            run.flops += result.flops;
        }
        progress.inc(rows.len() as u64);
    }
    run.retention /= rows.len() as f64;
    Ok(run)
}

#[derive(Serialize)]
struct Reports<'a> {
    results: &'a [Report],
}

#[derive(Serialize)]
struct Report {
    prune: String,
    metrics: BTreeMap<&'static str, f64>,
    /// Share of answers equal to the dense run's, when there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    agreement: Option<f64>,
    retention: f64,
    /// Per sample, as `ms`.
    gflops: f64,
    gflops_dense: f64,
    ms: f64,
    samples: usize,
}

impl Report {
    fn new(prune: &Prune, run: &Run, rows: &[Row], task: Task, dense: Option<&Run>) -> Self {
        let labels = |run: &Run| run.predictions.iter().map(|prediction| prediction.label).collect::<Vec<_>>();
        let per_sample = |flops: u64| flops as f64 / 1e9 / rows.len() as f64;
        let agreement =
            dense.filter(|_| task == Task::Classification).map(|dense| accuracy(&labels(run), &labels(dense)));
        Self {
            prune: prune.to_string(),
            metrics: metrics(run, rows, task),
            agreement,
            retention: run.retention,
            gflops: per_sample(run.flops.total()),
            gflops_dense: per_sample(run.flops.dense),
            ms: run.ms / rows.len() as f64,
            samples: rows.len(),
        }
    }
}

/// Accuracy, for two labels F1 and Matthews too; for regression Pearson and Spearman.
fn metrics(run: &Run, rows: &[Row], task: Task) -> BTreeMap<&'static str, f64> {
    let values: Vec<f64> = run.predictions.iter().map(|prediction| prediction.value).collect();
    let predicted: Vec<usize> = run.predictions.iter().map(|prediction| prediction.label).collect();
    let (mut labels, mut numbers) = (Vec::new(), Vec::new());
    for row in rows {
        match row.expected {
            Expected::Label(label) => labels.push(label),
            Expected::Value(value) => numbers.push(value),
        }
    }
    match task {
        Task::Regression => {
            BTreeMap::from([("pearson", pearson(&values, &numbers)), ("spearman", spearman(&values, &numbers))])
        }
        Task::Classification => {
            let mut metrics = BTreeMap::from([("accuracy", accuracy(&predicted, &labels))]);
            if predicted.iter().chain(&labels).all(|&label| label < 2) {
                metrics.insert("f1", f1(&predicted, &labels));
                metrics.insert("matthews", matthews(&predicted, &labels));
            }
            metrics
        }
    }
}

fn print(out: &mut impl Write, reports: &[Report]) -> Result<()> {
    let mut lines: Vec<Vec<String>> = vec![Vec::new()];
    let Some(first) = reports.first() else { return Ok(()) };
    lines[0].push("rule".to_owned());
    lines[0].extend(first.metrics.keys().map(|name| (*name).to_owned()));
    if first.agreement.is_some() {
        lines[0].push("= dense".to_owned());
    }
    lines[0].extend(["retention", "GFLOPs", "of dense", "ms"].map(str::to_owned));
    for report in reports {
        let mut line = vec![report.prune.clone()];
        line.extend(report.metrics.values().map(|value| format!("{:.2}", 100.0 * value)));
        line.extend(report.agreement.map(|agreement| format!("{:.2}", 100.0 * agreement)));
        line.push(format!("{:.3}", report.retention));
        line.push(format!("{:.3}", report.gflops));
        line.push(format!("{:.1} %", 100.0 * report.gflops / report.gflops_dense));
        line.push(format!("{:.2}", report.ms));
        lines.push(line);
    }
    let width = |column: usize| lines.iter().map(|line| line[column].len()).max().unwrap_or(0);
    for line in &lines {
        for (column, cell) in line.iter().enumerate() {
            match column {
                0 => write!(out, "{cell:<width$}", width = width(0))?,
                _ => write!(out, "  {cell:>width$}", width = width(column))?,
            }
        }
        writeln!(out)?;
    }
    writeln!(out, "\nMetrics in per cent; GFLOPs and ms per sample, ApproxNet included.")?;
    Ok(())
}
