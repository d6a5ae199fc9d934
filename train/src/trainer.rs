//! The loop: batches, steps, the log, validation, checkpoints, and where a run that was stopped goes on.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use burn::tensor::{Tensor, TensorData};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::checkpoint::{Checkpoints, Progress};
use crate::data::batches;
use crate::error::{Error, Result};
use crate::loss::Loss;
use crate::optimizer::{AdamW, GradientValues, Group};
use crate::parameters::{Leaves, Parameters};
use crate::random::Random;
use crate::recipe::Recipe;
use crate::run_args::RunArgs;

/// What one stage of a run learns.
pub struct Stage<'a> {
    /// For the log.
    pub name: &'static str,
    /// Rates and decay.
    pub recipe: Recipe,
    /// Which parameters learn.
    pub trained: Vec<usize>,
    /// Samples to learn from.
    pub samples: &'a [usize],
    /// Number of tokens of each sample of the data.
    pub lengths: &'a [usize],
    /// Samples of a batch.
    pub batch_size: usize,
}

/// What happens to a batch and at a validation.
pub trait Learns {
    /// The loss of these samples, and numbers for the log.
    fn loss(
        &mut self,
        parameters: &Parameters,
        leaves: &Leaves,
        samples: &[usize],
        random: &mut Random,
    ) -> Result<(Loss, serde_json::Value)>;

    /// The smaller the better.
    fn validate(&mut self, parameters: &Parameters) -> Result<f64>;
}

/// A run.
pub struct Trainer {
    /// All values.
    pub parameters: Parameters,
    /// How far it is.
    pub progress: Progress,
    seed: u64,
    checkpoints: Checkpoints,
    log: File,
    log_path: PathBuf,
    is_resumed: bool,
    checkpoint_every: Duration,
    is_quiet: bool,
}

/// How long a step takes. Nothing is learned.
pub fn step_seconds(
    stage: &Stage<'_>,
    learner: &mut dyn Learns,
    parameters: &mut Parameters,
    seed: u64,
) -> Result<f64> {
    for (id, parameter) in parameters.list.iter_mut().enumerate() {
        parameter.is_trained = stage.trained.contains(&id);
    }
    let batches = batches(stage.samples, stage.lengths, stage.batch_size, seed, 0);
    let mut times = Vec::new();
    for (step, samples) in batches.iter().cycle().take(NUM_TIMED).enumerate() {
        let start = Instant::now();
        let leaves = parameters.leaves();
        let (loss, _) = learner.loss(parameters, &leaves, samples, &mut Random::of(seed, step as u64))?;
        let gradients = leaves.gradients(loss.total.backward());
        drop((leaves, loss));
        GradientValues::read(parameters, gradients)?.norm()?;
        times.push(start.elapsed().as_secs_f64());
    }
    // The first one warms up.
    Ok(times.iter().skip(1).sum::<f64>() / (NUM_TIMED - 1) as f64 * OPTIMIZER)
}

/// Steps that are timed: some are dense and some are not.
const NUM_TIMED: usize = 13;
/// What the optimiser and validations add.
const OPTIMIZER: f64 = 1.12;
/// Validations of a stage.
const NUM_VALIDATIONS: usize = 6;
/// Share of the steps in which the rate rises.
const WARM_UP: f64 = 0.06;

impl Trainer {
    /// Begins a run, or goes on where its checkpoint is.
    pub fn new(parameters: Parameters, progress: Progress, run: &RunArgs) -> Result<Self> {
        let (seed, checkpoints, log_path) = (run.seed, run.checkpoints(), run.out.join("train.jsonl"));
        let checkpoint_every = run.checkpoint_every();
        let is_resumed = checkpoints.exist();
        let progress = match is_resumed {
            true => {
                let found = checkpoints.progress()?;
                if found.settings != progress.settings {
                    let (out, settings) = (run.out.display(), found.settings);
                    return Err(Error::Usage(format!("--resume: the run in {out} was begun with {settings}")));
                }
                found
            }
            false => progress,
        };
        let open = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&log_path);
        let mut log = open.map_err(Error::file("write", &log_path))?;
        // What was logged after the checkpoint happens again.
        log.set_len(progress.log_bytes).map_err(Error::file("write", &log_path))?;
        log.seek(SeekFrom::End(0)).map_err(Error::file("write", &log_path))?;
        let is_quiet = std::env::var_os("STTABT_TRAIN_QUIET").is_some();
        Ok(Self { parameters, progress, seed, checkpoints, log, log_path, is_resumed, checkpoint_every, is_quiet })
    }

    /// Whether the run was asked to end.
    pub fn is_stopped(&self) -> bool {
        crate::stop::is_stopped()
    }

    /// Writes a line of the log.
    pub fn log(&mut self, line: &serde_json::Value) -> Result<()> {
        let line = format!("{line}\n");
        self.log.write_all(line.as_bytes()).map_err(Error::file("write", &self.log_path))?;
        self.progress.log_bytes += line.len() as u64;
        Ok(())
    }

    fn rate(recipe: &Recipe, step: usize, num_steps: usize) -> f64 {
        let warm_up = ((num_steps as f64 * WARM_UP).ceil() as usize).max(1);
        let rising = (step + 1) as f64 / warm_up as f64;
        let falling = (num_steps - step) as f64 / (num_steps - warm_up.min(num_steps - 1)).max(1) as f64;
        recipe.rate * rising.min(falling).min(1.0)
    }

    /// Runs a stage, or what is left of it; the parameters have the best values then.
    pub fn stage(&mut self, at: usize, stage: &Stage<'_>, learner: &mut dyn Learns) -> Result<()> {
        // After a Ctrl-C in an earlier stage its checkpoint must stay as it is.
        if self.progress.stage > at || (self.progress.stage < at && self.is_stopped()) {
            return Ok(());
        }
        for (id, parameter) in self.parameters.list.iter_mut().enumerate() {
            parameter.is_trained = stage.trained.contains(&id);
        }
        let num_steps = self.progress.plan[at];
        let mut optimizer = AdamW::new(stage.recipe.groups(&self.parameters), stage.recipe.clip);
        let mut best: Vec<Option<TensorData>> = Vec::new();
        if self.is_resumed {
            (self.progress, best) = self.checkpoints.read(&mut self.parameters, &mut optimizer)?;
            self.is_resumed = false;
        }
        let bar = self.bar(stage.name, num_steps);
        let epoch_steps = batches(stage.samples, stage.lengths, stage.batch_size, self.seed, 0).len().max(1);
        let mut epoch = (u64::MAX, Vec::new());
        let mut last_checkpoint = Instant::now();
        while self.progress.step < num_steps && !self.is_stopped() {
            let step = self.progress.step;
            let start = Instant::now();
            let this_epoch = (at * 1_000_000 + step / epoch_steps) as u64;
            if epoch.0 != this_epoch {
                epoch = (this_epoch, batches(stage.samples, stage.lengths, stage.batch_size, self.seed, this_epoch));
            }
            let samples = &epoch.1[step % epoch_steps];
            let mut random = Random::of(self.seed, (at as u64 + 16) << 40 | step as u64);
            let leaves = self.parameters.leaves();
            let found = learner.loss(&self.parameters, &leaves, samples, &mut random);
            let (loss, mut line) = found.map_err(|error| match error {
                Error::NoNumber(part) => Error::NotFinite { step, part, value: f64::NAN, way_out: self.way_out() },
                other => other,
            })?;
            let numbers = loss.numbers(step, &self.way_out())?;
            let gradients = leaves.gradients(loss.total.backward());
            drop((leaves, loss));
            let gradients = GradientValues::read(&self.parameters, gradients)?;
            let missing = gradients.missing(&self.parameters);
            if !missing.is_empty() {
                let found = missing.into_iter().map(str::to_owned).collect();
                return Err(Error::Gradients { found, expected: "a gradient of each" });
            }
            let rate = Self::rate(&stage.recipe, step, num_steps);
            let norm = gradients.norm()?;
            if !norm.is_finite() {
                return Err(Error::NotFinite {
                    step,
                    part: "norm of the gradient",
                    value: norm,
                    way_out: self.way_out(),
                });
            }
            optimizer.step(&mut self.parameters, &gradients, rate)?;
            self.progress.step += 1;
            self.progress.optimizer_steps = optimizer.num_steps;
            line["stage"] = stage.name.into();
            line["step"] = step.into();
            line["loss"] = numbers.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
            line["norm"] = norm.into();
            line["rate"] = rate.into();
            line["ms"] = ((start.elapsed().as_secs_f64() * 1e4).round() / 10.0).into();
            self.log(&line)?;
            bar.set_message(format!("loss {:.4}  rate {rate:.1e}", numbers[0].1));
            bar.set_position(step as u64 + 1);
            let every = num_steps.div_ceil(NUM_VALIDATIONS).max(1);
            if self.progress.step.is_multiple_of(every) || self.progress.step == num_steps {
                self.validate(stage, learner, &mut best)?;
            }
            if last_checkpoint.elapsed() >= self.checkpoint_every {
                self.checkpoints.write(&self.progress, &self.parameters, &optimizer, &best)?;
                last_checkpoint = Instant::now();
            }
        }
        bar.finish_and_clear();
        if self.is_stopped() && self.progress.step < num_steps {
            self.checkpoints.write(&self.progress, &self.parameters, &optimizer, &best)?;
            // Behind the checkpoint: a run that goes on compares the states that it would have without a stop.
            self.validate(stage, learner, &mut best)?;
        }
        for (parameter, best) in self.parameters.list.iter_mut().zip(best) {
            if let Some(best) = best {
                let place = &self.parameters.place;
                parameter.value = Tensor::from_data(best, (&place.device, place.dtype));
            }
        }
        if self.is_stopped() && self.progress.step < num_steps {
            return Ok(());
        }
        self.progress.stage = at + 1;
        (self.progress.step, self.progress.optimizer_steps, self.progress.best) = (0, 0, None);
        let fresh = AdamW::new(stage.recipe.groups(&self.parameters), None);
        self.checkpoints.write(&self.progress, &self.parameters, &fresh, &[])
    }

    /// After the last stage: a run that was killed behind it has its values in the checkpoint.
    pub fn finish(&mut self) -> Result<()> {
        if self.is_resumed {
            let groups = vec![Group { rate_factor: 0.0, decay: 0.0 }; self.parameters.list.len()];
            (self.progress, _) = self.checkpoints.read(&mut self.parameters, &mut AdamW::new(groups, None))?;
            self.is_resumed = false;
        }
        Ok(())
    }

    fn validate(
        &mut self,
        stage: &Stage<'_>,
        learner: &mut dyn Learns,
        best: &mut Vec<Option<TensorData>>,
    ) -> Result<()> {
        let found = learner.validate(&self.parameters)?;
        self.log(&json!({"stage": stage.name, "step": self.progress.step, "validation": found}))?;
        if self.progress.best.is_none_or(|best| found < best) {
            self.progress.best = Some(found);
            let value = |parameter: &crate::parameters::Parameter| {
                let data = parameter.is_trained.then(|| parameter.value.try_to_data()).transpose();
                data.map_err(|error| Error::Device(error.to_string()))
            };
            *best = self.parameters.list.iter().map(value).collect::<Result<_>>()?;
        }
        Ok(())
    }

    fn way_out(&self) -> String {
        let kept = match self.checkpoints.exist() {
            true => format!("the last good checkpoint is in {}", self.checkpoints.folder().display()),
            false => "there is no checkpoint yet".to_owned(),
        };
        format!("{kept}; try a smaller --rate or --approx-rate")
    }

    fn bar(&self, name: &'static str, num_steps: usize) -> ProgressBar {
        if self.is_quiet {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new(num_steps as u64);
        if let Ok(style) = ProgressStyle::with_template("{prefix:8} {wide_bar} {pos}/{len}  {msg}  {eta} left") {
            bar.set_style(style);
        }
        bar.set_prefix(name);
        bar
    }
}
