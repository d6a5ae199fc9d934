//! What the command understands.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use sttabt::{Error, Prune, PruneMode, RULES};

use super::{ColumnArgs, DeviceArgs, ModelArgs};

/// Classify with transformers that compute only the tokens that matter.
#[derive(Parser)]
#[command(name = "sttabt", version, max_term_width = 100)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Classify texts or images, and show which tokens or patches survive each layer
    #[command(after_help = format!("{CLASSIFY_EXAMPLES}\n\n{}", rules()))]
    Classify(ClassifyArgs),
    /// Turn texts or images into vectors, with a model that embeds
    #[command(after_help = EMBED_EXAMPLES)]
    Embed(EmbedArgs),
    /// Order passages by how well they answer a query, and show which of their words survive
    #[command(after_help = RANK_EXAMPLES)]
    Rank(RankArgs),
    /// Measure rules on a labelled data set
    #[command(after_help = EVAL_EXAMPLES)]
    Eval(EvalArgs),
    /// List the GPU adapters, and what a model folder holds
    Info(InfoArgs),
    /// Make model.safetensors of a model's other weights: pytorch_model.bin, shards, wrapped names
    #[command(after_help = CONVERT_EXAMPLES)]
    Convert(ConvertArgs),
    /// Make a model folder with int8 weights: half the size of f16, and faster on a CPU
    #[command(after_help = QUANTIZE_EXAMPLES)]
    Quantize(QuantizeArgs),
    #[cfg(feature = "serve")]
    /// Answer requests over HTTP as text-embeddings-inference does: /rerank, /predict, /embed
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(ServeArgs),
    /// Serve the page of demo/ on this machine, and open a browser
    Demo(DemoArgs),
}

const CLASSIFY_EXAMPLES: &str = "Examples:
  sttabt classify \"a gripping, funny film\"
  sttabt classify --prune topk:0.3 --json \"first text\" \"second text\"
  sttabt classify --pair \"a question\" \"its answer\"
  sort texts.txt | sttabt classify -
  sttabt classify --image cat.jpg --save cat-layers.png";

const EMBED_EXAMPLES: &str = "Examples:
  sttabt embed --model bge-small --json \"first text\" \"second text\"
  sttabt embed --model bge-small --prune oracle:0.5 --file texts.txt
  sttabt embed --model dinov2-small --image cat.jpg";

const RANK_EXAMPLES: &str = "Examples:
  sttabt rank --query \"how long does a flea live\" passages.txt
  sttabt rank --query \"how long does a flea live\" --top 10 --json --text-column body pages.jsonl
  grep -ri flea notes/ | sttabt rank --query \"how long does a flea live\" --prune oracle:0.3 --top 5 -
  sttabt rank --top 3 pairs.tsv          a table with columns query and passage: a ranking for each query";

const EVAL_EXAMPLES: &str = "Examples:
  sttabt eval --prune dense,topk:0.5,concrete SST-2/dev.tsv
  sttabt eval --no-header --text-column 4 --label-column 2 CoLA/dev.tsv
  sttabt eval --text-column review --label-column stars --labels name reviews.csv
  sttabt eval --prune dense,topk:0.5 --images imagenette/val
  sttabt eval --model my-reranker --prune dense,oracle:0.3 --rank trec-dl";

#[cfg(feature = "serve")]
const SERVE_EXAMPLES: &str = "Examples:
  sttabt serve --model my-reranker --prune topk:0.3
  curl localhost:8080/rerank -H 'Content-Type: application/json' \\
    -d '{\"query\": \"how long does a flea live\", \"texts\": [\"a flea lives for weeks\", \"dogs bark\"]}'";

const CONVERT_EXAMPLES: &str = "Examples:
  sttabt convert my-model
  sttabt convert my-model --out my-model-safetensors";

const QUANTIZE_EXAMPLES: &str = "Examples:
  sttabt quantize --model models/sst2-minilm --out sst2-minilm-int8 --check SST-2/dev.tsv
  sttabt quantize --model models/deit-tiny --out deit-tiny-int8 --images imagenette/val --limit 300
  sttabt quantize --model my-model --out my-model-int8 --keep-f16 word_embeddings";

/// The rules with what they do, in lines of at most 100 characters.
fn rules() -> String {
    let mut rows = RULES.map(|rule| (rule.syntax(), rule.about)).to_vec();
    rows.push(("auto, auto:RULE".to_owned(), "RULE or the model's own if it is measured to be faster than dense here"));
    let mut text = "Rules (--prune); R is a ratio and T a threshold, one or one per layer: 0.9,0.7,…".to_owned();
    for (syntax, about) in rows {
        text += &format!("\n  {syntax:<17}");
        let mut width = 19;
        for word in about.split(' ') {
            width += 1 + word.chars().count();
            if width > 100 {
                text += &format!("\n{:19}", "");
                width = 20 + word.chars().count();
            }
            text += &format!(" {word}");
        }
    }
    text
}

/// Clap's message quotes the rule already.
fn mode(text: &str) -> Result<PruneMode, String> {
    text.parse().map_err(|error| match error {
        Error::Rule { reason, .. } => reason,
        other => other.to_string(),
    })
}

fn rule(text: &str) -> Result<Prune, String> {
    match mode(text)? {
        PruneMode::Rule(rule) => Ok(rule),
        PruneMode::Auto(_) => Err("`auto` is for `classify`; name a rule, for example topk:0.5".to_owned()),
    }
}

/// What a run takes, whatever comes out.
#[derive(clap::Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Which tokens to keep [default: the model's own]
    #[arg(long, value_name = "RULE", value_parser = mode)]
    pub prune: Option<PruneMode>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Read texts from a file, one per line; with --pair, two with a tab between them
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Take images instead: files, or folders with images in them
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["texts", "file"])]
    pub image: Vec<PathBuf>,
    /// Texts, each an input of its own; `-` reads standard input, one per line
    #[arg(value_name = "TEXT")]
    pub texts: Vec<String>,
}

#[derive(clap::Args)]
pub struct ClassifyArgs {
    #[command(flatten)]
    pub run: RunArgs,
    /// Take the texts two by two
    #[arg(long, conflicts_with = "image")]
    pub pair: bool,
    /// Write a picture: each image, and what is left of it at every layer
    #[arg(long, value_name = "OUT.png")]
    pub save: Option<PathBuf>,
    /// Of a model with one output, show its sigmoid too
    #[arg(long)]
    pub sigmoid: bool,
    /// Of a multi-label model, show the labels of at least this probability [default: 0.5]
    #[arg(long, value_name = "P", value_parser = probability)]
    pub threshold: Option<f32>,
}

#[derive(clap::Args)]
// The models that stand there by default are classifiers.
#[command(mut_arg("model", |model| model.help("Model folder in Hugging Face layout [default: $STTABT_MODEL]")))]
pub struct EmbedArgs {
    #[command(flatten)]
    pub run: RunArgs,
}

fn probability(text: &str) -> Result<f32, String> {
    let number = text.parse().ok().filter(|number| (0.0..=1.0).contains(number));
    number.ok_or_else(|| "expected a number from 0 to 1".to_owned())
}

#[derive(clap::Args)]
#[command(mut_arg("model", |model| model.help("Model folder in Hugging Face layout: a cross-encoder [default: $STTABT_MODEL, else models/rerank-minilm-l12]")))]
pub struct RankArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// What the passages are to answer; it is never cut [default: each row of the tables has its own]
    #[arg(long, value_name = "TEXT")]
    pub query: Option<String>,
    /// Show the best N passages only [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub top: Option<u32>,
    /// Which tokens to keep [default: the model's own]
    #[arg(long, value_name = "RULE", value_parser = rule)]
    pub prune: Option<Prune>,
    /// Read long passages in overlapping windows, of which the best counts, instead of cutting them
    #[arg(long)]
    pub windows: bool,
    /// The label whose probability is the score, of a model with several: its name, or its index
    #[arg(long, value_name = "LABEL")]
    pub label: Option<String>,
    /// Print one JSON object, or without --query one in a line for each query
    #[arg(long)]
    pub json: bool,
    /// Name or number (from 1) of the column with the queries in tables [default: by its usual names]
    #[arg(long, value_name = "COLUMN", conflicts_with = "query")]
    pub query_column: Option<String>,
    /// Name or number of the column with the passages in tables [default: by its usual names]
    #[arg(long, value_name = "COLUMN")]
    pub text_column: Option<String>,
    /// Tables have no header line; columns are given by number
    #[arg(long)]
    pub no_header: bool,
    /// Leave out rows of tables with missing columns or an empty text, and say how many
    #[arg(long)]
    pub skip_broken_rows: bool,
    /// Passages: tables (.tsv, .csv, .jsonl, .ndjson, .json), else one in each line; `-` reads lines of standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
}

#[derive(clap::Args)]
pub struct EvalArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Rules to compare, as in dense,topk:0.5,concrete [default: the model's own]
    #[arg(long, value_name = "RULE,RULE…")]
    pub prune: Option<String>,
    /// Inputs of one batch
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=65536))]
    pub batch: u32,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub columns: ColumnArgs,
    /// Measure on images instead: a folder with one folder per class, named by label, ImageNet id (n01440764) or index
    #[arg(long, value_name = "DIR", conflicts_with_all = ["data", "text_column", "pair_column", "label_column", "no_header", "skip_broken_rows"])]
    pub images: Option<PathBuf>,
    /// Measure a ranking instead: a folder with NAME.queries.tsv, NAME.candidates.tsv and NAME.qrels.tsv, one set or several
    #[arg(long, value_name = "DIR", conflicts_with_all = ["data", "images", "batch", "text_column", "pair_column", "label_column", "no_header", "skip_broken_rows", "labels"])]
    pub rank: Option<PathBuf>,
    /// With --rank: passages of at least this grade are relevant to MRR and recall [default: 1, as trec_eval's -l]
    #[arg(long, value_name = "GRADE", requires = "rank", conflicts_with_all = ["data", "images"], value_parser = clap::value_parser!(u32).range(1..))]
    pub relevant: Option<u32>,
    /// With --rank: read long passages in overlapping windows, of which the best counts
    #[arg(long, requires = "rank", conflicts_with_all = ["data", "images"])]
    pub windows: bool,
    /// With --rank: the label whose probability is the score, of a model with several
    #[arg(long, value_name = "LABEL", requires = "rank", conflicts_with_all = ["data", "images"])]
    pub label: Option<String>,
    /// Labelled texts: CSV (.csv), JSON by the line or an array (.jsonl, .ndjson, .json), else tab-separated as in GLUE
    #[arg(value_name = "DATA", required_unless_present_any = ["images", "rank"])]
    pub data: Option<PathBuf>,
}

#[derive(clap::Args)]
pub struct InfoArgs {
    #[command(flatten)]
    pub model: ModelArgs,
}

#[derive(clap::Args)]
pub struct ConvertArgs {
    /// Write a whole model folder there, instead of the weights alone into DIR
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Model folder, as it is downloaded from Hugging Face
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

#[derive(clap::Args)]
pub struct QuantizeArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    /// The new model folder
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Keep matrices as f16 whose tensor names contain PATTERN, as in word_embeddings or layer.0.
    #[arg(long, value_name = "PATTERN")]
    pub keep_f16: Option<String>,
    /// Compare both models on labelled texts, in the formats of `eval`
    #[arg(long, value_name = "DATA", conflicts_with = "images")]
    pub check: Option<PathBuf>,
    /// Compare both models on images: a folder with one folder per class
    #[arg(long, value_name = "DIR", conflicts_with_all = ["text_column", "pair_column", "label_column", "no_header", "skip_broken_rows"])]
    pub images: Option<PathBuf>,
    /// Rules to compare them under, as in dense,topk:0.3 [default: dense and the model's own]
    #[arg(long, value_name = "RULE,RULE…")]
    pub prune: Option<String>,
    #[command(flatten)]
    pub columns: ColumnArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
}

#[cfg(feature = "serve")]
#[derive(clap::Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub device: DeviceArgs,
    /// Which tokens to keep, unless a request says so [default: the model's own]
    #[arg(long, value_name = "RULE", value_parser = rule)]
    pub prune: Option<Prune>,
    /// Name or address to listen at; 0.0.0.0 is all of this machine's. There is no password
    #[arg(long, value_name = "HOST", default_value = "127.0.0.1")]
    pub host: String,
    /// Port to listen at; 0 takes a free one
    #[arg(long, value_name = "N", default_value_t = 8080)]
    pub port: u16,
    /// Cut texts that are too long, unless a request says `truncate`
    #[arg(long, value_name = "BOOL", default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    pub auto_truncate: bool,
    /// Tokens that are computed at once [default: 16384 on a GPU, 2048 for each thread on a CPU]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_batch_tokens: Option<u32>,
    /// Texts of one request
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_client_batch_size: u32,
    /// Requests that wait or are computed; others are refused
    #[arg(long, value_name = "N", default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_concurrent_requests: u32,
    /// Bytes of a request's body
    #[arg(long, value_name = "N", default_value_t = 2_000_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub payload_limit: u32,
    /// Time for a request, with its waiting
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..))]
    pub request_seconds: u32,
    /// Time for a client to send a request's head, then its body, and to take more of the answer
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..))]
    pub client_seconds: u32,
    /// Time to answer those who wait, after SIGTERM or Ctrl-C
    #[arg(long, value_name = "N", default_value_t = 30)]
    pub drain_seconds: u32,
}

#[derive(clap::Args)]
pub struct DemoArgs {
    /// Port on 127.0.0.1; 0 takes a free one. A browser's stored models belong to one port
    #[arg(long, value_name = "N", default_value_t = 8484)]
    pub port: u16,
    /// Do not open a browser
    #[arg(long)]
    pub no_open: bool,
    /// Folder of the built page [default: demo/dist of the clone]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}
