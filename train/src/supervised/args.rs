//! What the trainings with labels are asked, and what follows from it.

use clap::{Args, Subcommand};
use serde_json::json;
use sttabt_command::command::table::Labels;

use crate::concrete::Settings;
use crate::error::{Error, Result};
use crate::recipe::Recipe;
use crate::run_args::RunArgs;

/// Which training.
#[derive(Subcommand)]
pub enum Supervised {
    /// Fine-tune a model with labels, dense
    Finetune(FinetuneArgs),
    /// Train soft masks and a threshold for each layer, the paper's concrete masking
    Concrete(ConcreteArgs),
    /// Train the thresholds of Learned Token Pruning, soft then hard: the baseline
    Ltp(LtpArgs),
}

/// Arguments of `ltp`.
#[derive(Args)]
pub struct LtpArgs {
    /// Of every training
    #[command(flatten)]
    pub run: RunArgs,
    /// The largest rate
    #[arg(long, default_value_t = RATE, value_name = "RATE")]
    pub rate: f64,
    /// Of the tokens that stay: the larger, the fewer
    #[arg(long, default_value_t = LAMBDA, value_name = "FACTOR")]
    pub lambda: f64,
    /// How sharply the soft stage separates tokens
    #[arg(long, default_value_t = TEMPERATURE, value_name = "NUMBER")]
    pub temperature: f64,
}

/// Arguments of `finetune`.
#[derive(Args)]
pub struct FinetuneArgs {
    /// Of every training
    #[command(flatten)]
    pub run: RunArgs,
    /// The largest rate
    #[arg(long, default_value_t = RATE, value_name = "RATE")]
    pub rate: f64,
}

/// Arguments of `concrete`.
#[derive(Args)]
pub struct ConcreteArgs {
    /// Of every training
    #[command(flatten)]
    pub run: RunArgs,
    /// The largest rate; thresholds learn ten times as fast
    #[arg(long, default_value_t = CONCRETE_RATE, value_name = "RATE")]
    pub rate: f64,
    /// sigmoid(p_logit) at the start, which the mean retention is held near
    #[arg(long, default_value_t = TARGET_RATIO, value_name = "SHARE")]
    pub target_ratio: f64,
    /// Of the mean retention's squared distance from it [default: 0.001 for texts, 100 for pictures]
    #[arg(long, value_name = "FACTOR")]
    pub lambda_mask: Option<f64>,
    /// Of the thresholds' squared distances from their start
    #[arg(long, default_value_t = LAMBDA_P, value_name = "FACTOR")]
    pub lambda_p: f64,
}

/// The largest rate of `finetune` and `ltp`, where nobody says it.
pub const RATE: f64 = 2e-5;
/// The largest rate of `concrete`, where nobody says it.
pub const CONCRETE_RATE: f64 = 1e-5;
const TARGET_RATIO: f64 = 0.3;
const LAMBDA_P: f64 = 1e-3;
const LAMBDA: f64 = 0.1;
const TEMPERATURE: f64 = 5e-4;
const DEFAULT_STEPS: usize = 3000;
/// The last part of a concrete training uses thresholded masks.
const HARD_SHARE: f64 = 0.2;
/// And of Learned Token Pruning, with frozen thresholds.
const LTP_HARD_SHARE: f64 = 0.5;

impl LtpArgs {
    /// With the defaults of the command line.
    pub fn new(run: RunArgs) -> Self {
        Self { run, rate: RATE, lambda: LAMBDA, temperature: TEMPERATURE }
    }
}

impl ConcreteArgs {
    /// With the defaults of the command line.
    pub fn new(run: RunArgs) -> Self {
        Self { run, rate: CONCRETE_RATE, target_ratio: TARGET_RATIO, lambda_mask: None, lambda_p: LAMBDA_P }
    }

    /// Where all thresholds start.
    pub(super) fn p_logit(&self) -> f64 {
        (self.target_ratio / (1.0 - self.target_ratio)).ln()
    }

    /// Of the loss.
    pub(super) fn settings(&self, is_picture: bool, has_labels: bool) -> Settings {
        Settings {
            p_logit: self.p_logit(),
            lambda_p: self.lambda_p,
            lambda_mask: self.lambda_mask.unwrap_or(if is_picture { 100.0 } else { 1e-3 }),
            teacher_factor: if has_labels { 0.0 } else { 1.0 },
            is_hard: false,
        }
    }
}
impl Supervised {
    pub(super) fn run(&self) -> &RunArgs {
        match self {
            Self::Finetune(args) => &args.run,
            Self::Concrete(args) => &args.run,
            Self::Ltp(args) => &args.run,
        }
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Finetune(_) => "finetune",
            Self::Concrete(_) => "concrete",
            Self::Ltp(_) => "ltp",
        }
    }

    pub(super) fn labels(&self) -> Labels {
        if matches!(self, Self::Concrete(_)) { Labels::IfThere } else { Labels::Needed }
    }

    pub(super) fn recipe(&self) -> Recipe {
        let (rate, decay) = match self {
            Self::Finetune(args) => (args.rate, 1e-2),
            Self::Concrete(args) => (args.rate, 5e-2),
            Self::Ltp(args) => (args.rate, 0.0),
        };
        Recipe {
            rate,
            decay,
            approx_factor: 1.0,
            threshold_factor: 10.0,
            clip: Some(0.5),
            decays_matrices_only: false,
            trains_cls_token: true,
        }
    }

    /// Names of the stages, and their steps.
    pub(super) fn stages(&self) -> [(&'static str, usize); 2] {
        let steps = self.run().steps.unwrap_or(DEFAULT_STEPS);
        let (names, hard_share) = match self {
            Self::Finetune(_) => (["finetune", "none"], 0.0),
            Self::Concrete(_) => (["soft", "hard"], HARD_SHARE),
            Self::Ltp(_) => (["soft", "hard"], LTP_HARD_SHARE),
        };
        let hard = (steps as f64 * hard_share) as usize;
        [(names[0], steps - hard), (names[1], hard)]
    }

    pub(super) fn check(&self) -> Result<()> {
        self.run().check()?;
        if self.run().budget.is_some() {
            return Err(Error::Usage("--budget: here the length is given by --steps".to_owned()));
        }
        match self {
            Self::Concrete(args) if !(args.target_ratio > 0.0 && args.target_ratio < 1.0) => {
                let found = args.target_ratio;
                Err(Error::Usage(format!("--target-ratio {found}: expected more than 0 and less than 1")))
            }
            Self::Ltp(args) if args.temperature <= 0.0 => {
                Err(Error::Usage(format!("--temperature {}: expected more than 0", args.temperature)))
            }
            _ => Ok(()),
        }
    }

    /// What must be the same for a run to go on.
    pub(super) fn settings(&self) -> serde_json::Value {
        let others = match self {
            Self::Finetune(args) => json!({"rate": args.rate}),
            Self::Concrete(args) => json!({
                "rate": args.rate, "target_ratio": args.target_ratio, "lambda_mask": args.lambda_mask, "lambda_p": args.lambda_p,
            }),
            Self::Ltp(args) => json!({"rate": args.rate, "lambda": args.lambda, "temperature": args.temperature}),
        };
        self.run().settings(self.name(), others)
    }
}
