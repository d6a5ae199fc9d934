//! The points of the curves, measured with the engine on the development files, and kept beside the model that they are of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sttabt::{Engine, Model, ModelFiles};

use super::parts::{Measured, Part, num_steps};
use super::tasks::{GlueTask, TaskFiles};
use crate::checkpoint::write_whole;
use crate::data::{Data, Sample};
use crate::error::{Error, Result};
use crate::files::read;
use crate::loss::Label;
use crate::measure::{answers, engine};

/// One rule on one model.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// As `--tasks` names it.
    pub task: String,
    /// The part's folder.
    pub model: String,
    /// The rule's name.
    pub rule: String,
    /// Its ratio; of `concrete` and `ltp` what the thresholds were trained with.
    pub argument: Option<f64>,
    /// Which metric the curve shows.
    pub metric: String,
    /// That metric.
    pub value: f64,
    /// All of the task's; MNLI's of the other development file end in `_mismatched`.
    pub metrics: BTreeMap<String, f64>,
    /// Mean over samples and l = 0 … L of |K_l| / T.
    pub retention: f64,
    /// Of a sample, ApproxNet included.
    pub gflops: f64,
    /// In units of a dense pass.
    pub flops_share: f64,
    /// Of a sample, on this machine.
    pub ms: f64,
    /// How many there were.
    pub samples: usize,
    /// Of the training.
    pub seed: u64,
    /// Of the training that made the model from the one before.
    pub steps: usize,
}

/// Inputs with what should be answered.
pub struct Dev {
    samples: Vec<Sample>,
    labels: Vec<Label>,
    /// Of its metrics.
    suffix: &'static str,
}

impl Dev {
    /// Reads a task's development files.
    pub fn read_all(files: &TaskFiles, config: &sttabt::Config, notes: &mut Vec<String>) -> Result<Vec<Self>> {
        let one = |(path, suffix): (&PathBuf, &'static str)| {
            let data = Data::labelled(&files.data, path, config)?;
            notes.extend(data.notes.into_iter().map(|note| format!("{}: {note}", path.display())));
            Ok(Self { samples: data.samples, labels: data.labels.unwrap_or_default(), suffix })
        };
        files.dev.iter().zip(["", "_mismatched"]).map(one).collect()
    }

    /// How many samples there are.
    pub fn num_samples(&self) -> usize {
        self.samples.len()
    }
}

/// A file of points.
struct Kept(PathBuf);

impl Kept {
    fn of(folder: &Path) -> Self {
        Self(folder.join("points.json"))
    }

    fn read(&self) -> Result<Vec<Point>> {
        if !self.0.exists() {
            return Ok(Vec::new());
        }
        let wrong = |error: serde_json::Error| {
            let reason = format!("{error}; expected the points of a run: delete it, and they are measured again");
            Error::content(&self.0, reason)
        };
        serde_json::from_slice(&read(&self.0)?).map_err(wrong)
    }

    fn write(&self, points: &[Point]) -> Result<()> {
        let json = serde_json::to_string_pretty(points).map_err(|error| Error::content(&self.0, error.to_string()))?;
        write_whole(&self.0, format!("{json}\n").as_bytes())
    }
}

/// Measures what a part's model is asked for and has not been measured yet. Ctrl-C ends it between two rules.
pub fn measure(
    folder: &Path,
    part: Part,
    (task, wanted): (GlueTask, &[Measured]),
    dev: &[Dev],
    seed: u64,
    print: &mut dyn FnMut(&str),
) -> Result<Vec<Point>> {
    let kept = Kept::of(folder);
    let (mut known, mut found) = (kept.read()?, Vec::new());
    let mut device: Option<Engine> = None;
    for measured in wanted {
        let rule = measured.prune.rule().name;
        let is_it = |point: &&Point| point.rule == rule && point.argument == measured.argument;
        if let Some(point) = known.iter().find(is_it) {
            found.push(point.clone());
            continue;
        }
        if crate::stop::is_stopped() {
            break;
        }
        if device.is_none() {
            device = Some(engine(&Model::from_bytes(ModelFiles::from_dir(folder)?)?)?);
        }
        let Some(device) = &mut device else { continue };
        let mut point = Point {
            task: task.facts().name.to_owned(),
            model: part.folder(),
            rule: rule.to_owned(),
            argument: measured.argument,
            seed,
            steps: num_steps(folder)?,
            ..Point::default()
        };
        dev.iter().try_for_each(|dev| point.add(device, measured, task, dev))?;
        print(&format!(
            "{} {}: {} {:.4} at retention {:.3}\n",
            point.task, point.model, measured.prune, point.value, point.retention
        ));
        known.push(point.clone());
        kept.write(&known)?;
        found.push(point);
    }
    Ok(found)
}

/// What was measured of the model in a folder.
pub fn known_in(folder: &Path) -> Result<Vec<Point>> {
    Kept::of(folder).read()
}

impl Point {
    /// Whether it is of the same rule on the same model.
    pub fn is_of(&self, other: &Self) -> bool {
        (&self.model, &self.rule, self.argument) == (&other.model, &other.rule, other.argument)
    }

    /// Measures on one development file; the first is the curve's.
    fn add(&mut self, device: &mut Engine, measured: &Measured, task: GlueTask, dev: &Dev) -> Result<()> {
        let samples: Vec<&Sample> = dev.samples.iter().collect();
        let answers = answers(device, &samples, &measured.prune)?;
        let is_first = self.metrics.is_empty();
        for metric in task.facts().metrics {
            let value = metric.of(&answers.outputs, &dev.labels);
            self.metrics.insert(format!("{}{}", metric.name(), dev.suffix), value);
            if is_first && self.metric.is_empty() {
                (self.metric, self.value) = (metric.name().to_owned(), value);
            }
        }
        if is_first {
            self.retention = answers.retention();
            self.gflops = answers.gflops();
            self.flops_share = answers.flops_share();
            self.ms = answers.ms();
            self.samples = dev.num_samples();
        }
        Ok(())
    }
}
