//! `sttabt eval`: what rules cost and what they lose, on labelled data.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sttabt::{Classification, Config, Engine, Error, Flops, Input, Outputs, Picture, Prune, Task};

use super::args::EvalArgs;
use super::metrics::{accuracy, f1, matthews, pearson, spearman};
use super::model_dir::{Kind, find, load};
use super::table::{Expected, Row, bad, read};
use super::visible;
use super::{Failure, Result, default_rule, images, open_engine, text_input, write_columns};

pub fn run(args: &EvalArgs) -> Result<()> {
    let kind = if args.images.is_some() { Kind::Images } else { Kind::Text };
    let folder = find(&args.model, kind)?;
    let model = load(&folder)?;
    let rules = match &args.prune {
        Some(list) => Prune::parse_list(list)?,
        None => vec![default_rule(&model)?],
    };
    check_task(model.config())?;
    let samples = Samples::read(args, model.config())?;
    let mut engine = open_engine(&model, &args.device)?;
    // Images are compared with the dense model's answers, asked for or not.
    let mut runs = rules.clone();
    if kind == Kind::Images && !rules.iter().any(Prune::is_dense) {
        runs.push(Prune::Dense);
    }
    let progress = progress_bar(samples.len() * runs.len());
    let mut measured = Vec::new();
    for prune in &runs {
        progress.set_message(prune.to_string());
        measured.push(measure(&mut engine, args, &samples, prune, &progress, |_| {})?);
    }
    progress.finish_and_clear();
    let dense = runs.iter().position(Prune::is_dense).map(|dense| &measured[dense]);
    let reports: Vec<Report> = rules
        .iter()
        .zip(&measured)
        .map(|(prune, run)| Report::new(prune, run, &samples, model.config(), dense))
        .collect();
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &Reports { results: &reports })?;
        writeln!(out)?;
    } else {
        let backend = engine.backend();
        let device = if backend.backend == "cpu" { String::new() } else { format!(" ({})", backend.adapter) };
        let source =
            args.images.iter().chain(&args.data).map(|path| visible(&path.display().to_string())).collect::<String>();
        writeln!(out, "{} samples of {source} on {}{device}\n", samples.len(), backend.backend)?;
        print(&mut out, &reports)?;
    }
    out.flush()?;
    Ok(())
}

/// An error for models that no metric is for.
pub fn check_task(config: &Config) -> Result<()> {
    let message = match config.task {
        Task::Embedding => "this model is an embedder: there are no labels to measure it by",
        Task::MultiLabel => {
            "this model gives any number of labels, and `eval` measures models that give one: `sttabt classify --json --file TEXTS` \
             gives `labels` and `probs` of each text, to be measured by a program of yours"
        }
        Task::Classification | Task::Regression => return Ok(()),
    };
    Err(Failure::Error(message.to_owned()))
}

/// A bar for so many inputs.
pub fn progress_bar(num_inputs: usize) -> ProgressBar {
    let progress = ProgressBar::new(num_inputs as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg:14} {wide_bar} {pos}/{len} {eta}") {
        progress.set_style(style);
    }
    progress
}

/// What is measured on.
pub enum Samples {
    Texts(Vec<Row>),
    /// Files with their labels.
    Images(Vec<(PathBuf, usize)>),
}

impl Samples {
    pub fn read(args: &EvalArgs, config: &Config) -> Result<Self> {
        match (&args.images, &args.data) {
            (Some(folder), _) => images::labelled(&args.columns, folder, config).map(Self::Images),
            (None, Some(path)) => read(&args.columns, path, config).map(Self::Texts),
            (None, None) => Err(Failure::Usage("nothing to measure on: give DATA or --images DIR".to_owned())),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Self::Texts(rows) => rows.len(),
            Self::Images(images) => images.len(),
        }
    }
}

/// One rule's run over all samples.
pub struct Run {
    predictions: Vec<Prediction>,
    retention: f64,
    flops: Flops,
    ms: f64,
}

struct Prediction {
    label: usize,
    value: f64,
    /// The labels of the five largest logits.
    top5: Vec<usize>,
}

impl Run {
    /// The label of each sample.
    pub fn labels(&self) -> Vec<usize> {
        self.predictions.iter().map(|prediction| prediction.label).collect()
    }

    /// What `eval` would show, by name.
    pub fn metrics(&self, samples: &Samples, config: &Config) -> BTreeMap<&'static str, f64> {
        match samples {
            Samples::Texts(rows) => text_metrics(self, rows, config),
            Samples::Images(images) => {
                let expected: Vec<usize> = images.iter().map(|(_, label)| *label).collect();
                image_metrics(self, &expected)
            }
        }
    }
}

impl Prediction {
    fn new(result: &Classification) -> Self {
        let mut labels: Vec<usize> = (0..result.logits.len()).collect();
        labels.sort_by(|&a, &b| result.logits[b].total_cmp(&result.logits[a]));
        labels.truncate(5);
        Self { label: result.label_index.unwrap_or_default(), value: f64::from(result.logits[0]), top5: labels }
    }
}

/// Classifies all samples, a batch at a time, and shows each result; the clock runs while the engine does.
pub fn measure(
    engine: &mut Engine,
    args: &EvalArgs,
    samples: &Samples,
    prune: &Prune,
    progress: &ProgressBar,
    mut show: impl FnMut(&Classification),
) -> Result<Run> {
    let batch = args.batch as usize;
    let mut run = Run { predictions: Vec::new(), retention: 0.0, flops: Flops::default(), ms: 0.0 };
    let mut classify = |inputs: &[Input<'_>]| -> sttabt::Result<()> {
        let start = Instant::now();
        let results = pollster::block_on(engine.classify(inputs, prune, &Outputs::default()))?;
        run.ms += start.elapsed().as_secs_f64() * 1e3;
        for result in &results {
            run.predictions.push(Prediction::new(result));
            run.retention += result.retention;
            run.flops += result.flops;
            show(result);
        }
        progress.inc(inputs.len() as u64);
        Ok(())
    };
    match samples {
        Samples::Texts(rows) => {
            for rows in rows.chunks(batch) {
                let inputs: Vec<Input<'_>> =
                    rows.iter().map(|row| text_input(&row.text, row.text_pair.as_deref())).collect();
                // The engine counts the inputs of a batch; the reader knows the lines of a file.
                classify(&inputs).map_err(|error| match (error, &args.data) {
                    (Error::Input { index, reason }, Some(path)) => bad(path, rows[index].line, &reason),
                    (error, _) => error.into(),
                })?;
            }
        }
        Samples::Images(files) => {
            for files in files.chunks(batch) {
                let pictures: Vec<Picture> =
                    files.iter().map(|(file, _)| images::picture(file)).collect::<Result<_>>()?;
                let inputs: Vec<Input<'_>> = pictures.iter().map(Input::Image).collect();
                classify(&inputs).map_err(|error| super::name_file(error, |index| &files[index].0))?;
            }
        }
    }
    run.retention /= samples.len() as f64;
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
    fn new(prune: &Prune, run: &Run, samples: &Samples, config: &Config, dense: Option<&Run>) -> Self {
        let per_sample = |flops: u64| flops as f64 / 1e9 / samples.len() as f64;
        let dense = dense.filter(|_| config.task == Task::Classification);
        let mut agreement = dense.map(|dense| accuracy(&run.labels(), &dense.labels()));
        let mut metrics = run.metrics(samples, config);
        if let Samples::Images(_) = samples {
            metrics.extend(agreement.take().map(|agreement| ("agreement", agreement)));
        }
        Self {
            prune: prune.to_string(),
            metrics,
            agreement,
            retention: run.retention,
            gflops: per_sample(run.flops.total()),
            gflops_dense: per_sample(run.flops.dense),
            ms: run.ms / samples.len() as f64,
            samples: samples.len(),
        }
    }
}

/// Shares of images whose label is the first answer, and among the first five.
fn image_metrics(run: &Run, expected: &[usize]) -> BTreeMap<&'static str, f64> {
    let in_top5 = run.predictions.iter().zip(expected).filter(|(prediction, label)| prediction.top5.contains(label));
    let top5 = in_top5.count() as f64 / expected.len().max(1) as f64;
    BTreeMap::from([("top1", accuracy(&run.labels(), expected)), ("top5", top5)])
}

/// Accuracy, for two labels F1 and Matthews too; for regression Pearson and Spearman.
fn text_metrics(run: &Run, rows: &[Row], config: &Config) -> BTreeMap<&'static str, f64> {
    match config.task {
        Task::Regression => {
            let values: Vec<f64> = run.predictions.iter().map(|prediction| prediction.value).collect();
            let numbers: Vec<f64> = rows
                .iter()
                .filter_map(|row| match row.expected {
                    Expected::Value(value) => Some(value),
                    Expected::Label(_) => None,
                })
                .collect();
            BTreeMap::from([("pearson", pearson(&values, &numbers)), ("spearman", spearman(&values, &numbers))])
        }
        Task::Classification | Task::MultiLabel | Task::Embedding => {
            let predicted = run.labels();
            let expected: Vec<usize> = rows.iter().filter_map(|row| row.expected.label()).collect();
            let mut metrics = BTreeMap::from([("accuracy", accuracy(&predicted, &expected))]);
            if config.labels.len() == 2 {
                metrics.insert("f1", f1(&predicted, &expected));
                metrics.insert("matthews", matthews(&predicted, &expected));
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
    write_columns(out, &lines)?;
    writeln!(out, "\nMetrics in per cent; GFLOPs and ms per sample, ApproxNet included.")?;
    Ok(())
}
