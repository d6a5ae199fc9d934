//! What `compress` and `distill` are asked for.

use clap::Args;

use super::Stages;
use crate::error::{Error, Result};
use crate::run_args::RunArgs;

/// Arguments of `compress`.
#[derive(Args, Clone)]
pub struct CompressArgs {
    /// Of every training
    #[command(flatten)]
    pub run: RunArgs,
    /// How much narrower ApproxNet is
    #[arg(long, default_value_t = REDUCTION, value_name = "N")]
    pub reduction: usize,
    /// The share of tokens that `concrete` keeps
    #[arg(long, default_value_t = KEEP, value_name = "SHARE")]
    pub keep: f64,
    /// The largest rate of selection and elastic training [default: 0.00002]
    #[arg(long, value_name = "RATE")]
    pub rate: Option<f64>,
    /// The largest rate of ApproxNet
    #[arg(long, default_value_t = APPROX_RATE, value_name = "RATE")]
    pub approx_rate: f64,
    /// The shares of the steps, or of the time, of distillation, selection and elastic training
    /// [default: 0.3,0.5,0.2; 0,0.7,0.3 where an ApproxNet is in the folder]
    #[arg(long, value_delimiter = ',', value_name = "SHARE,SHARE,SHARE")]
    pub shares: Option<Vec<f64>>,
    /// The mean shares of tokens that `topk` keeps with a ratio for each layer; 0 for none of these rules
    /// [default: --keep, five thirds and two thirds of it]
    #[arg(long, value_delimiter = ',', value_name = "SHARE,…")]
    pub retentions: Option<Vec<f64>>,
}

/// How much narrower ApproxNet is, where nobody says it.
pub const REDUCTION: usize = 4;
/// The share of tokens that `concrete` keeps, where nobody says it.
pub const KEEP: f64 = 0.3;
const RATE: f64 = 2e-5;
/// The largest rate of ApproxNet, where nobody says it.
pub const APPROX_RATE: f64 = 1e-3;

impl CompressArgs {
    /// With the defaults of the command line.
    pub fn new(run: RunArgs) -> Self {
        Self {
            run,
            reduction: REDUCTION,
            keep: KEEP,
            rate: None,
            approx_rate: APPROX_RATE,
            shares: None,
            retentions: None,
        }
    }

    /// Numbers that make no sense are refused. Without steps `compress` finds thresholds and ratios for a model as it is.
    pub(super) fn check(&self, stages: Stages) -> Result<()> {
        if stages == Stages::All && self.run.steps == Some(0) {
            RunArgs { steps: None, ..self.run.clone() }.check()?;
        } else {
            self.run.check()?;
        }
        let of_later_stages = [
            ("--rate", self.rate.is_some()),
            ("--shares", self.shares.is_some()),
            ("--retentions", self.retentions.is_some()),
        ];
        if let Some((option, _)) = of_later_stages.iter().find(|(_, is_given)| *is_given && stages == Stages::Distil) {
            return Err(Error::Usage(format!("{option} is for `compress`: `distill` has the first stage alone")));
        }
        if !(self.keep > 0.0 && self.keep <= 1.0) {
            return Err(Error::Usage(format!("--keep {}: expected more than 0 and at most 1", self.keep)));
        }
        if let Some(share) = self.retentions.iter().flatten().find(|share| !(0.0..1.0).contains(*share)) {
            return Err(Error::Usage(format!("--retentions {share}: expected less than 1, or 0 for none")));
        }
        self.shares.as_deref().map(given_shares).transpose().map(|_| ())
    }

    /// The largest rate of the stages after distillation.
    pub(super) fn rate(&self) -> f64 {
        self.rate.unwrap_or(RATE)
    }

    /// What the rules with a ratio for each layer are fitted to.
    pub(super) fn retentions(&self) -> Vec<f64> {
        let default = || [5.0 / 3.0, 1.0, 2.0 / 3.0].map(|factor| self.keep * factor).to_vec();
        let retentions = self.retentions.clone().unwrap_or_else(default);
        retentions.into_iter().filter(|share| *share > 0.0 && *share < 1.0).collect()
    }
}

/// What `--shares` says, so that they add up to 1.
pub(super) fn given_shares(shares: &[f64]) -> Result<[f64; 3]> {
    let total: f64 = shares.iter().sum();
    let is_right = shares.iter().all(|&share| share >= 0.0) && total.is_finite() && total > 0.0;
    match <[f64; 3]>::try_from(shares) {
        Ok(shares) if is_right => Ok(shares.map(|share| share / total)),
        _ => Err(Error::Usage(format!(
            "--shares {}: expected three numbers from 0 on that are not all 0",
            shares.iter().map(f64::to_string).collect::<Vec<_>>().join(",")
        ))),
    }
}
