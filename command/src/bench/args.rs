//! What the command understands.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::command::{BackendArg, ColumnArgs, DeviceArgs, ModelArgs};

/// Measure what token pruning costs and saves on this device.
#[derive(Parser)]
#[command(name = "sttabt", version, max_term_width = 100)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Time rules against each other, round by round in one process
    #[command(after_help = RUN_EXAMPLES)]
    Run(Box<RunArgs>),
    /// Time every kernel alone, against the best that this device can do
    Kernels(KernelsArgs),
    /// Time one call for each line of standard input: {"prune": RULE, "texts": […]} or {"prune": RULE, "images": [FILE…]}
    Calls(CallsArgs),
    /// Compare two JSON files of `run` or `kernels`; exit code 1 if something became slower than noise explains
    Compare(CompareArgs),
}

const RUN_EXAMPLES: &str = "Examples:
  sttabt-bench run --backend cpu --prune dense,topk:0.3,topk:0.5 --batch 1,8 --tokens 128
  sttabt-bench run --model models/deit-tiny --batch 8 --json deit.json --plot plots
  sttabt-bench run --data SST-2/dev.tsv --limit 200 --batch 32

Times are wall times of whole batches, from text or decoded image to label. `time` and `FLOPs` are \
shares of the dense run's, ApproxNet included; without pruning's own costs they would be equal. \
`time` is the median of the rounds' own shares, not the share of the medians.";

#[derive(clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// Rules to compare; dense is always among them [default: dense, with an ApproxNet topk:0.5 and topk:0.3 too]
    #[arg(long, value_name = "RULE,RULE…")]
    pub prune: Option<String>,
    /// Where to compute: auto (a hardware GPU if there is one, else the CPU), gpu (software adapters too) or cpu
    #[arg(long, value_enum, value_name = "BACKEND,…", value_delimiter = ',', default_values_t = [BackendArg::Auto])]
    pub backend: Vec<BackendArg>,
    /// Take the GPU adapter whose name contains NAME
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
    /// Inputs of one batch
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_values_t = [1, 8, 32],
          value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch: Vec<u32>,
    /// Tokens of every input, of texts made of the model's own words [default: 32,128,512, as far as the model takes them]
    #[arg(long, value_name = "T,…", value_delimiter = ',', conflicts_with_all = ["data", "images"],
          value_parser = clap::value_parser!(u32).range(3..))]
    pub tokens: Vec<u32>,
    /// Time on the texts of a labelled file instead, each once: CSV, JSON by the line, or tab-separated as in GLUE
    #[arg(long, value_name = "DATA")]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub columns: ColumnArgs,
    /// Time on images instead, each once: a folder with images, or with one folder per class
    #[arg(long, value_name = "DIR", conflicts_with_all = ["data", "text_column", "pair_column", "label_column", "no_header", "skip_broken_rows"])]
    pub images: Option<PathBuf>,
    /// Rounds of every setting [default: as many as take 10 s, from 5 to 100]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..), conflicts_with_all = ["data", "images"])]
    pub rounds: Option<u32>,
    /// Write the numbers; the file is whole at any time, after Ctrl-C too
    #[arg(long, value_name = "OUT.json")]
    pub json: Option<PathBuf>,
    /// Draw SVG files into a folder: time against retention, stages, and with labels accuracy against time
    #[arg(long, value_name = "DIR")]
    pub plot: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct KernelsArgs {
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Write the numbers
    #[arg(long, value_name = "OUT.json")]
    pub json: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct CallsArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[derive(clap::Args)]
pub struct CompareArgs {
    /// The numbers to compare with
    #[arg(value_name = "OLD.json")]
    pub old: PathBuf,
    /// The numbers to judge
    #[arg(value_name = "NEW.json")]
    pub new: PathBuf,
}
