//! What `glue` is asked.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::tasks::GlueTask;
use crate::compress::{APPROX_RATE, DEFAULT_STEPS, REDUCTION};
use crate::error::{Error, Result};
use crate::finish::RATIOS;
use crate::run_args::{BATCH, CHECKPOINT_EVERY};
use crate::supervised::{CONCRETE_RATE, RATE};

/// Arguments of `glue`.
#[derive(Args, Clone)]
pub struct GlueArgs {
    /// The folder of a model that reads texts, whatever its head is
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// The folder with GLUE's: CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE, WNLI
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// The folder to write: a folder for each task, glue.json, GLUE.md, and a picture for each task
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Which tasks [default: all that are in --data]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "TASK,TASK…")]
    pub tasks: Vec<GlueTask>,
    /// Which curves
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "RULE,RULE…",
        default_value = "topk,concrete,ltp,forward,oracle"
    )]
    pub rules: Vec<Curve>,
    /// Of topk, oracle and forward
    #[arg(long, value_delimiter = ',', value_name = "RATIO,RATIO…", default_values_t = RATIOS)]
    pub ratios: Vec<f64>,
    /// Of concrete: a training for each
    #[arg(long, value_delimiter = ',', value_name = "SHARE,SHARE…", default_value = "0.1,0.2,0.3,0.5")]
    pub target_ratios: Vec<f64>,
    /// Of ltp: a training for each
    #[arg(long, value_delimiter = ',', value_name = "FACTOR,FACTOR…", default_value = "0.01,0.1,1")]
    pub lambdas: Vec<f64>,
    /// How often each training with labels sees the training file
    #[arg(long, default_value_t = 3.0, value_name = "N", conflicts_with = "steps")]
    pub epochs: f64,
    /// Steps of each training with labels, instead of epochs
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// Steps of ApproxNet, of the selection and of the elastic training together
    #[arg(long, default_value_t = DEFAULT_STEPS, value_name = "N")]
    pub compress_steps: usize,
    /// Samples of a batch
    #[arg(long, default_value_t = BATCH, value_name = "N")]
    pub batch: usize,
    /// The largest rate of the fine-tuning
    #[arg(long, default_value_t = RATE, value_name = "RATE")]
    pub rate: f64,
    /// The largest rate of concrete; thresholds learn ten times as fast
    #[arg(long, default_value_t = CONCRETE_RATE, value_name = "RATE")]
    pub concrete_rate: f64,
    /// The largest rate of ltp; thresholds learn ten times as fast
    #[arg(long, default_value_t = RATE, value_name = "RATE")]
    pub ltp_rate: f64,
    /// The largest rate of ApproxNet
    #[arg(long, default_value_t = APPROX_RATE, value_name = "RATE")]
    pub approx_rate: f64,
    /// How much narrower ApproxNet is
    #[arg(long, default_value_t = REDUCTION, value_name = "N")]
    pub reduction: usize,
    /// Take the first N rows of each file only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// The paper's results, to stand beside: paper_results.json
    #[arg(long, value_name = "FILE")]
    pub paper: Option<PathBuf>,
    /// Of all random numbers
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// Go on where it was stopped; more tasks, rules, ratios and factors may be asked for then
    #[arg(long)]
    pub resume: bool,
    /// Write weights as f32 instead of f16
    #[arg(long)]
    pub f32: bool,
    /// Seconds between checkpoints
    #[arg(long, default_value_t = CHECKPOINT_EVERY, value_name = "SECONDS")]
    pub checkpoint_every: f64,
}

/// A curve of the figure, as `--rules` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Curve {
    /// Top-k back-tracking: before and after the label-free training
    Topk,
    /// Concrete masking, trained with labels
    Concrete,
    /// Learned Token Pruning
    Ltp,
    /// The most attended tokens of each layer
    Forward,
    /// Top-k back-tracking with the model's own attention
    Oracle,
}

impl Curve {
    /// The rule.
    pub fn name(self) -> &'static str {
        match self {
            Self::Topk => "topk",
            Self::Concrete => "concrete",
            Self::Ltp => "ltp",
            Self::Forward => "forward",
            Self::Oracle => "oracle",
        }
    }
}

impl GlueArgs {
    /// Numbers that make no sense are refused.
    pub fn check(&self) -> Result<()> {
        type IsGood = fn(f64) -> bool;
        let lists: [(&str, &[f64], IsGood, &str); 3] = [
            ("--ratios", &self.ratios, |ratio| ratio > 0.0 && ratio <= 1.0, "more than 0 and at most 1"),
            ("--target-ratios", &self.target_ratios, |share| share > 0.0 && share < 1.0, "more than 0 and less than 1"),
            ("--lambdas", &self.lambdas, |factor| factor >= 0.0 && factor.is_finite(), "a number of at least 0"),
        ];
        for (name, values, is_good, expected) in lists {
            if let Some(found) = values.iter().find(|value| !is_good(**value)) {
                return Err(Error::Usage(format!("{name} {found}: expected {expected}")));
            }
            let twice = values.iter().enumerate().find(|(at, value)| values[..*at].contains(value));
            if let Some((_, value)) = twice {
                return Err(Error::Usage(format!("{name} {value}: given twice, expected once")));
            }
        }
        if self.steps == Some(0)
            || self.compress_steps < 2
            || self.batch == 0
            || !(self.epochs > 0.0 && self.epochs.is_finite())
        {
            let reason = "--epochs, --steps and --batch: expected more than 0, and --compress-steps at least 2";
            return Err(Error::Usage(reason.to_owned()));
        }
        Ok(())
    }

    /// Whether a curve is asked for.
    pub fn has(&self, curve: Curve) -> bool {
        self.rules.contains(&curve)
    }

    /// What must be the same for a run to go on.
    pub fn settings(&self) -> Value {
        let length = self.steps.map_or_else(|| json!({"epochs": self.epochs}), |steps| json!({"steps": steps}));
        json!({
            "model": self.model.display().to_string(), "data": self.data.display().to_string(), "length": length, "compress_steps": self.compress_steps,
            "batch": self.batch, "rate": self.rate, "concrete_rate": self.concrete_rate, "ltp_rate": self.ltp_rate,
            "approx_rate": self.approx_rate, "reduction": self.reduction, "limit": self.limit, "seed": self.seed,
            "f32": self.f32,
        })
    }
}
