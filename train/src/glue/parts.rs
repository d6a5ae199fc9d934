//! The parts of a task: which trainings there are, where each begins, and what is measured of its model.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use sttabt::Prune;

use super::args::{Curve, GlueArgs};
use crate::compress::{self, CompressArgs, KEEP, SHARES, Stages};
use crate::data::DataArgs;
use crate::error::{Error, Result};
use crate::files::read_json;
use crate::run_args::RunArgs;
use crate::supervised::{self, ConcreteArgs, FinetuneArgs, LtpArgs, Supervised};

/// The folder with a fresh head, where the first training begins.
pub const START: &str = "start";
/// What a training leaves at its end.
pub const REPORT: &str = "report.json";

/// A training.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Part {
    /// Dense, with labels.
    Finetuned,
    /// ApproxNet learns the fine-tuned model's attention; that model stays as it is.
    Distilled,
    /// The selection and the elastic training, without labels.
    Compressed,
    /// The paper's masks with this target, with labels.
    Concrete(f64),
    /// Learned thresholds with this factor, with labels.
    Ltp(f64),
}

/// What is measured of a part's model.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// The rule.
    pub prune: Prune,
    /// Its ratio, or what its thresholds were trained with.
    pub argument: Option<f64>,
}

/// The parts that the curves need, each after the one where it begins.
pub fn parts(args: &GlueArgs) -> Vec<Part> {
    let (concrete, ltp) = (args.has(Curve::Concrete), args.has(Curve::Ltp));
    let mut parts = vec![Part::Finetuned];
    if args.has(Curve::Topk) || concrete {
        parts.push(Part::Distilled);
    }
    if args.has(Curve::Topk) {
        parts.push(Part::Compressed);
    }
    if concrete {
        parts.extend(args.target_ratios.iter().map(|&target| Part::Concrete(target)));
    }
    if ltp {
        parts.extend(args.lambdas.iter().map(|&lambda| Part::Ltp(lambda)));
    }
    parts
}

impl Part {
    /// Its folder in the task's.
    pub fn folder(self) -> String {
        match self {
            Self::Finetuned => "finetuned".to_owned(),
            Self::Distilled => "distilled".to_owned(),
            Self::Compressed => "compressed".to_owned(),
            Self::Concrete(target) => format!("concrete-{target}"),
            Self::Ltp(lambda) => format!("ltp-{lambda}"),
        }
    }

    /// The folder where it begins.
    fn source(self) -> String {
        match self {
            Self::Finetuned => START.to_owned(),
            Self::Distilled | Self::Ltp(_) => Self::Finetuned.folder(),
            Self::Compressed | Self::Concrete(_) => Self::Distilled.folder(),
        }
    }

    /// What is measured: `oracle` and `forward` need no ApproxNet, so that they are those of the fine-tuned model.
    pub fn measured(self, args: &GlueArgs) -> Vec<Measured> {
        let plain = |prune: Prune, argument: Option<f64>| Measured { prune, argument };
        let at_ratios = |curve: Curve, of: fn(sttabt::Ratios) -> Prune| -> Vec<Measured> {
            let rule = |&ratio: &f64| sttabt::Ratios::uniform(ratio).map(|ratios| plain(of(ratios), Some(ratio)));
            if args.has(curve) { args.ratios.iter().filter_map(rule).collect() } else { Vec::new() }
        };
        let dense = || vec![plain(Prune::Dense, None)];
        match self {
            Self::Finetuned => {
                [dense(), at_ratios(Curve::Oracle, Prune::Oracle), at_ratios(Curve::Forward, Prune::Forward)].concat()
            }
            Self::Distilled => at_ratios(Curve::Topk, Prune::TopK),
            Self::Compressed => {
                let concrete = args.has(Curve::Concrete).then(|| plain(Prune::Concrete, Some(KEEP)));
                [dense(), at_ratios(Curve::Topk, Prune::TopK), concrete.into_iter().collect()].concat()
            }
            Self::Concrete(target) => vec![plain(Prune::Concrete, Some(target))],
            Self::Ltp(lambda) => vec![plain(Prune::Ltp(None), Some(lambda))],
        }
    }

    /// The rules of the training's own report. The compressed model's is that of `compress`, whose table chooses the default rule.
    fn report(self) -> Option<&'static str> {
        match self {
            Self::Finetuned | Self::Distilled => Some("dense"),
            Self::Compressed => None,
            Self::Concrete(_) => Some("concrete"),
            Self::Ltp(_) => Some("ltp"),
        }
    }

    fn num_steps(self, args: &GlueArgs, num_samples: usize) -> usize {
        let num_distil = (args.compress_steps as f64 * SHARES[0]).ceil() as usize;
        match self {
            Self::Distilled => num_distil,
            Self::Compressed => args.compress_steps - num_distil,
            _ => args.steps.unwrap_or_else(|| (args.epochs * num_samples as f64 / args.batch as f64).ceil() as usize),
        }
    }
}

/// A task's trainings: their folder, and what they learn from.
pub struct Trainings<'a> {
    /// Of the command.
    pub args: &'a GlueArgs,
    /// The task's.
    pub folder: PathBuf,
    /// The training file, and how it is read.
    pub data: DataArgs,
    /// Its samples.
    pub num_samples: usize,
}

impl Trainings<'_> {
    /// A part's folder.
    pub fn folder_of(&self, part: Part) -> PathBuf {
        self.folder.join(part.folder())
    }

    /// The folders of these parts, and of others that an earlier run left.
    pub fn folders(&self, parts: &[Part]) -> Result<Vec<PathBuf>> {
        let mut folders: Vec<PathBuf> = parts.iter().map(|&part| self.folder_of(part)).collect();
        let Ok(entries) = std::fs::read_dir(&self.folder) else { return Ok(folders) };
        let entries = entries.collect::<std::io::Result<Vec<_>>>().map_err(Error::file("read", &self.folder))?;
        let mut others: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
        others.retain(|path| path.is_dir() && !folders.contains(path));
        others.sort();
        folders.extend(others);
        Ok(folders)
    }

    /// Trains a part, or goes on with it where it was stopped.
    pub fn run(&self, part: Part, device: &Device, print: &mut dyn FnMut(&str)) -> Result<()> {
        let args = self.args;
        let run = RunArgs {
            steps: Some(part.num_steps(args, self.num_samples).max(1)),
            report: part.report().map(str::to_owned),
            batch: args.batch,
            seed: args.seed,
            // A part that was not begun begins.
            resume: true,
            f32: args.f32,
            checkpoint_every: args.checkpoint_every,
            ..RunArgs::new(self.folder.join(part.source()), self.data.clone(), self.folder_of(part))
        };
        let compress = |run: RunArgs| CompressArgs {
            reduction: args.reduction,
            approx_rate: args.approx_rate,
            ..CompressArgs::new(run)
        };
        let supervised = match part {
            Part::Distilled => return compress::run(&compress(run), Stages::Distil, device, print),
            Part::Compressed => return compress::run(&compress(run), Stages::All, device, print),
            Part::Finetuned => Supervised::Finetune(FinetuneArgs { run, rate: args.rate }),
            Part::Concrete(target_ratio) => {
                let rate = args.concrete_rate;
                Supervised::Concrete(ConcreteArgs { rate, target_ratio, ..ConcreteArgs::new(run) })
            }
            Part::Ltp(lambda) => Supervised::Ltp(LtpArgs { rate: args.ltp_rate, lambda, ..LtpArgs::new(run) }),
        };
        supervised::run(&supervised, device, print)
    }
}

/// Whether a training has come to its end: one that Ctrl-C ended leaves a report, and a checkpoint.
pub fn is_finished(folder: &Path) -> bool {
    folder.join(REPORT).exists() && !RunArgs::checkpoints_of(folder).exist()
}

/// Steps of a finished training.
pub fn num_steps(folder: &Path) -> Result<usize> {
    let report = read_json(&folder.join(REPORT))?;
    let stages = report["stages"].as_array().map(Vec::as_slice).unwrap_or_default();
    Ok(stages.iter().filter_map(|stage| stage[1].as_u64()).sum::<u64>() as usize)
}
