//! `sttabt-bench run`: rules against each other, round by round, so that a machine that grows slower does so for all of them.

use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use sttabt::{Classification, Engine, Flops, Prune};

use super::args::RunArgs;
use super::environment::{Device, Environment};
use super::inputs::{Batch, Inputs, run_model};
use super::plot;
use super::report::{BatchFlops, OfDense, Report, RuleRun, print, write_json};
use super::stages::StageTimes;
use super::stop::{EXIT_CODE, Stop};
use super::times::{Times, median};
use crate::command::model_dir::{Kind, find, load};
use crate::command::{BackendArg, ColumnArgs, DeviceArgs, Failure, Result, open_engine, visible};

/// Time for the rounds of a setting, and their number, when none is given.
const SETTING_MS: f64 = 10_000.0;
const MIN_ROUNDS: usize = 5;
const MAX_ROUNDS: usize = 100;
/// Calls of every rule before the rounds: the first ones allocate and compile.
const WARM_UPS: usize = 2;
/// Calls of every rule after the rounds, to see where the time goes.
const STAGE_ROUNDS: usize = 5;

/// What is the same for all settings.
struct Bench<'a> {
    args: &'a RunArgs,
    model: String,
    rules: Vec<Prune>,
    stop: Stop,
    progress: ProgressBar,
}

/// What one rule has shown in the rounds so far.
#[derive(Default)]
struct Seen {
    all_ms: Vec<f64>,
    flops: Flops,
    rows: usize,
    tokens: usize,
    retention: f64,
    inputs: usize,
    labelled: usize,
    right: usize,
    stages: StageTimes,
}

pub fn run(args: &RunArgs) -> Result<()> {
    if args.data.is_none() && args.images.is_none() && describes_data(&args.columns) {
        return Err(Failure::Usage(
            "--limit, --labels and the columns are of --data or --images, and neither is given".to_owned(),
        ));
    }
    let kind = if args.images.is_some() { Kind::Images } else { Kind::Text };
    let folder = find(&args.model, kind)?;
    let model = load(&folder)?;
    let rules = rules(args, model.has_approx_net())?;
    let stop = Stop::listen()?;
    let mut engines = Vec::new();
    for &backend in &args.backend {
        // The adapter is for those of the list that take one.
        let is_other_cpu = backend == BackendArg::Cpu && args.backend.iter().any(|&other| other != BackendArg::Cpu);
        let device = DeviceArgs { backend, adapter: args.adapter.clone().filter(|_| !is_other_cpu) };
        engines.push(open_engine(&model, &device)?);
    }
    let Some(first) = engines.first_mut() else { return Err(Failure::Usage("--backend: none is given".to_owned())) };
    let all_inputs = Inputs::read(args, first)?;
    let environment = Environment::new(engines.iter_mut().map(Device::of).collect());
    let mut report = Report { environment, runs: Vec::new(), interrupted: false };
    let write = |report: &Report| args.json.as_ref().map_or(Ok(()), |path| write_json(path, report));
    // Now, so that what cannot be written is known before the work.
    write(&report)?;
    args.plot.as_deref().map_or(Ok(()), plot::create)?;
    let num_settings = engines.len() * all_inputs.len() * args.batch.len();
    let progress = ProgressBar::new(PROGRESS * num_settings as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {percent} % {eta}") {
        progress.set_style(style);
    }
    let bench = Bench { args, model: name(&folder), rules, stop, progress };
    let mut setting = 0;
    for engine in &mut engines {
        let adapter = engine.backend().adapter.clone();
        for inputs in &all_inputs {
            for &batch in &args.batch {
                bench.progress.set_position(PROGRESS * setting);
                setting += 1;
                let runs = bench.setting(engine, inputs, batch as usize)?;
                report.interrupted = bench.stop.is_wanted();
                report.runs.extend(runs.iter().cloned());
                write(&report)?;
                bench.progress.suspend(|| print(&mut io::stdout().lock(), &adapter, &runs))?;
                if report.interrupted {
                    bench.progress.finish_and_clear();
                    std::process::exit(EXIT_CODE);
                }
            }
        }
    }
    bench.progress.finish_and_clear();
    if let Some(folder) = &args.plot {
        let names = plot::write(folder, &report.runs)?;
        writeln!(io::stdout(), "in {}: {}", visible(&folder.display().to_string()), names.join(", "))?;
    }
    Ok(())
}

/// Whether anything is said of a data set.
fn describes_data(columns: &ColumnArgs) -> bool {
    let names = [&columns.text_column, &columns.pair_column, &columns.label_column];
    let has_flag = columns.no_header || columns.skip_broken_rows;
    columns.limit.is_some() || has_flag || columns.labels.is_some() || names.iter().any(|name| name.is_some())
}

/// A model is called by its folder, wherever that is.
fn name(folder: &Path) -> String {
    let whole = folder.canonicalize();
    let last = whole.as_deref().unwrap_or(folder).file_name();
    visible(&last.unwrap_or(folder.as_os_str()).to_string_lossy())
}

/// Steps of the progress bar for one setting.
const PROGRESS: u64 = 1000;

/// Dense comes first: it is what the others are compared with.
fn rules(args: &RunArgs, has_approx_net: bool) -> Result<Vec<Prune>> {
    let mut rules = vec![Prune::Dense];
    let asked = match &args.prune {
        Some(list) => Prune::parse_list(list)?,
        None if has_approx_net => Prune::parse_list("topk:0.5,topk:0.3")?,
        None => Vec::new(),
    };
    for rule in asked {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    Ok(rules)
}

impl Bench<'_> {
    /// All rules on one backend, kind of input and batch size. After Ctrl-C, what the rounds until then have shown.
    fn setting(&self, engine: &mut Engine, inputs: &Inputs, size: usize) -> Result<Vec<RuleRun>> {
        let mut batch = inputs.batch(0, size)?;
        let mut round_ms = 0.0;
        for rule in &self.rules {
            for _ in 0..WARM_UPS {
                if self.stop.is_wanted() {
                    return Ok(Vec::new());
                }
                self.progress.set_message(format!("{rule}, warming up"));
                let ms = classify(engine, &batch, rule)?.1;
                round_ms += ms / WARM_UPS as f64;
            }
        }
        let of_time = ((SETTING_MS / round_ms) as usize).clamp(MIN_ROUNDS, MAX_ROUNDS);
        let asked = self.args.rounds.map(|rounds| rounds as usize);
        let num_rounds = inputs.num_rounds(size).or(asked).unwrap_or(of_time);
        let mut seen: Vec<Seen> = self.rules.iter().map(|_| Seen::default()).collect();
        let first_step = self.progress.position();
        'rounds: for round in 0..num_rounds {
            if inputs.num_rounds(size).is_some() {
                batch = inputs.batch(round, size)?;
            }
            self.progress.set_position(first_step + PROGRESS * round as u64 / num_rounds as u64);
            self.progress.set_message(format!("{}, batch {size}, round {} of {num_rounds}", self.model, round + 1));
            let mut results = Vec::new();
            for place in 0..self.rules.len() {
                // Each rule takes its turn in being first.
                let rule = (place + round) % self.rules.len();
                if self.stop.is_wanted() {
                    break 'rounds;
                }
                results.push((rule, classify(engine, &batch, &self.rules[rule])?));
            }
            // A round counts when all rules have had it.
            for (rule, (results, ms)) in results {
                seen[rule].add(&results, ms, &batch.labels);
            }
        }
        for round in 0..num_rounds.min(STAGE_ROUNDS) {
            if inputs.num_rounds(size).is_some() {
                batch = inputs.batch(round, size)?;
            }
            self.progress.set_message("stages");
            for (rule, seen) in self.rules.iter().zip(&mut seen) {
                if !self.stop.is_wanted() {
                    seen.stages.add(engine, &batch, rule)?;
                }
            }
        }
        let backend = engine.backend().backend;
        let dense = seen[0].all_ms.clone();
        Ok(self
            .rules
            .iter()
            .zip(&seen)
            .filter_map(|(rule, seen)| self.rule_run(backend, rule, size, seen, &dense))
            .collect())
    }

    /// `None` before the first round.
    fn rule_run(
        &self,
        backend: &'static str,
        rule: &Prune,
        size: usize,
        seen: &Seen,
        dense: &[f64],
    ) -> Option<RuleRun> {
        let ms = Times::of(&seen.all_ms)?;
        let rounds = seen.all_ms.len();
        let flops = BatchFlops::new(seen.flops, rounds);
        let shares: Vec<f64> = seen.all_ms.iter().zip(dense).map(|(ms, dense)| ms / dense).collect();
        let total_ms: f64 = seen.all_ms.iter().sum();
        Some(RuleRun {
            model: self.model.clone(),
            backend,
            prune: rule.to_string(),
            batch: size,
            tokens: (seen.tokens as f64 / seen.inputs as f64).round() as usize,
            rounds,
            ms,
            stages_ms: seen.stages.stages(),
            rows: seen.rows as f64 / rounds as f64,
            flops,
            retention: seen.retention / seen.inputs as f64,
            // Over a data set no single batch stands for all; their times and FLOPs add up.
            gflops_per_s: if self.args.data.is_some() || self.args.images.is_some() {
                flops.total * rounds as f64 / total_ms / 1e6
            } else {
                flops.total / ms.median / 1e6
            },
            of_dense: OfDense { time: median(&shares)?, flops: flops.total / flops.dense },
            accuracy: (seen.labelled > 0).then(|| seen.right as f64 / seen.labelled as f64),
        })
    }
}

impl Seen {
    fn add(&mut self, results: &[Classification], ms: f64, labels: &[Option<usize>]) {
        self.all_ms.push(ms);
        for result in results {
            self.flops += result.flops;
            self.retention += result.retention;
            self.rows += result.kept.iter().rev().skip(1).map(Vec::len).sum::<usize>();
            self.tokens += result.num_tokens;
            self.inputs += 1;
        }
        for (result, label) in results.iter().zip(labels) {
            self.labelled += usize::from(label.is_some());
            self.right += usize::from(label.is_some() && *label == result.label_index);
        }
    }
}

/// Results and milliseconds of one call.
pub fn classify(engine: &mut Engine, batch: &Batch, rule: &Prune) -> Result<(Vec<Classification>, f64)> {
    let inputs = batch.inputs();
    let start = Instant::now();
    let results = pollster::block_on(run_model(engine, &inputs, rule));
    let ms = start.elapsed().as_secs_f64() * 1e3;
    Ok((results.map_err(|error| batch.name(error))?, ms))
}
