//! What all trainings ask for.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde_json::json;
use sttabt::Prune;

use crate::checkpoint::Checkpoints;
use crate::data::DataArgs;
use crate::error::{Error, Result};

/// Arguments of every training.
#[derive(Args, Clone)]
pub struct RunArgs {
    /// The folder of a model
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// What it learns from
    #[command(flatten)]
    pub data: DataArgs,
    /// The folder to write
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// End after about so many minutes
    #[arg(long, value_name = "MINUTES", conflicts_with = "steps")]
    pub budget: Option<f64>,
    /// Steps of all stages together [default: 3000]
    #[arg(long, value_name = "N")]
    pub steps: Option<usize>,
    /// Points that the default rule may lose
    #[arg(long, default_value_t = MAX_LOSS, value_name = "POINTS")]
    pub max_loss: f64,
    /// Rules of the report, as in dense,topk:0.5 [default: all that the model has; topk at nine ratios]
    #[arg(long, value_name = "RULE,RULE…")]
    pub report: Option<String>,
    /// Samples of a batch
    #[arg(long, default_value_t = BATCH, value_name = "N")]
    pub batch: usize,
    /// Of all random numbers
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub seed: u64,
    /// Go on where a run with the same arguments was stopped
    #[arg(long)]
    pub resume: bool,
    /// Write weights as f32 instead of f16
    #[arg(long)]
    pub f32: bool,
    /// Seconds between checkpoints
    #[arg(long, default_value_t = CHECKPOINT_EVERY, value_name = "SECONDS")]
    pub checkpoint_every: f64,
}

const MAX_LOSS: f64 = 1.0;
/// Samples of a batch, where nobody says how many.
pub const BATCH: usize = 32;
/// Seconds.
pub const CHECKPOINT_EVERY: f64 = 120.0;

impl RunArgs {
    /// A run with the defaults of the command line.
    pub fn new(model: PathBuf, data: DataArgs, out: PathBuf) -> Self {
        Self {
            model,
            data,
            out,
            budget: None,
            steps: None,
            max_loss: MAX_LOSS,
            report: None,
            batch: BATCH,
            seed: 0,
            resume: false,
            f32: false,
            checkpoint_every: CHECKPOINT_EVERY,
        }
    }

    /// Numbers that make no sense are refused.
    pub fn check(&self) -> Result<()> {
        if self.batch == 0 || self.steps == Some(0) || self.budget.is_some_and(|minutes| minutes <= 0.0) {
            return Err(Error::Usage("--batch, --steps and --budget: expected more than 0".to_owned()));
        }
        self.report_rules().map(|_| ())
    }

    /// The rules that a report is asked for.
    pub fn report_rules(&self) -> Result<Option<Vec<Prune>>> {
        let parsed = self.report.as_deref().map(Prune::parse_list).transpose();
        parsed.map_err(|error| Error::Usage(format!("--report: {error}")))
    }

    /// Where the checkpoint is.
    pub fn checkpoints(&self) -> Checkpoints {
        Self::checkpoints_of(&self.out)
    }

    /// Where that of a run in this folder is.
    pub fn checkpoints_of(out: &Path) -> Checkpoints {
        Checkpoints::new(out.join("checkpoint"))
    }

    /// How often one is written.
    pub fn checkpoint_every(&self) -> Duration {
        Duration::from_secs_f64(self.checkpoint_every.max(0.0))
    }

    /// What must be the same for a run to go on.
    pub fn settings(&self, command: &str, others: serde_json::Value) -> serde_json::Value {
        let columns = &self.data.columns;
        let columns = json!([
            columns.text_column,
            columns.pair_column,
            columns.label_column,
            columns.no_header,
            columns.limit,
            columns.labels.map(|reading| format!("{reading:?}")),
        ]);
        let mut settings = json!({
            "command": command, "model": self.model, "data": self.data.path(), "columns": columns,
            "held_back": self.data.held_back, "steps": self.steps, "budget": self.budget, "batch": self.batch,
            "seed": self.seed, "others": others,
        });
        // Absent where it is not asked for, so that older runs go on.
        if self.data.columns.skip_broken_rows {
            settings["skip_broken_rows"] = true.into();
        }
        settings
    }

    /// The folder is new, or a run in it goes on.
    pub fn begin(&self) -> Result<()> {
        let is_empty = match std::fs::read_dir(&self.out) {
            Ok(mut entries) => entries.next().is_none(),
            Err(_) => true,
        };
        let is_finished = self.out.join("report.json").exists();
        match (self.resume, self.checkpoints().exist(), is_empty) {
            (true, false, _) if is_finished => {
                return Err(Error::Usage(format!("--resume: the run in {} is finished", self.out.display())));
            }
            // A run that was killed before its first checkpoint begins anew.
            (true, ..) | (false, false, true) => {}
            (false, true, _) => {
                let out = self.out.display();
                return Err(Error::Usage(format!(
                    "--out {out}: a run was stopped there: go on with --resume, or name a new folder"
                )));
            }
            (false, false, false) => {
                return Err(Error::Usage(format!("--out {}: not empty: name a new folder", self.out.display())));
            }
        }
        std::fs::create_dir_all(&self.out).map_err(Error::file("write", &self.out))
    }
}
