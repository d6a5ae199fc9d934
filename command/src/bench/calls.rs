//! `sttabt-bench calls`: one call for each line of standard input, for scripts that time others in turn with it.

use std::io::{self, BufRead, Write};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sttabt::{Classification, Engine, Flops, Prune};

use super::args::CallsArgs;
use super::inputs::Batch;
use super::report::BatchFlops;
use super::run::classify;
use crate::command::model_dir::{Kind, find, load};
use crate::command::{Failure, Result, open_engine};

/// A line of standard input.
#[derive(Deserialize)]
struct Request {
    prune: String,
    #[serde(default)]
    texts: Vec<String>,
    #[serde(default)]
    images: Vec<PathBuf>,
}

/// A line of standard output.
#[derive(Serialize)]
struct Answer {
    ms: f64,
    /// Of texts; empty for images.
    input_ids: Vec<Vec<u32>>,
    logits: Vec<Vec<f32>>,
    /// Of an embedder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    embeddings: Vec<Vec<f32>>,
    flops: BatchFlops,
    retention: f64,
}

/// In place of an answer.
#[derive(Serialize)]
struct Refusal {
    error: String,
}

pub fn run(args: &CallsArgs) -> Result<()> {
    let model = load(&find(&args.model, Kind::Text)?)?;
    let mut engine = open_engine(&model, &args.device)?;
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let line = line.map_err(|error| Failure::Error(format!("cannot read standard input: {error}")))?;
        match answer(&mut engine, &line) {
            Ok(answer) => serde_json::to_writer(&mut out, &answer)?,
            Err(Failure::Usage(error) | Failure::Error(error)) => serde_json::to_writer(&mut out, &Refusal { error })?,
            Err(Failure::ClosedPipe) => return Ok(()),
        }
        writeln!(out)?;
        out.flush()?;
    }
    Ok(())
}

fn answer(engine: &mut Engine, line: &str) -> Result<Answer> {
    let request: Request =
        serde_json::from_str(line).map_err(|error| Failure::Usage(format!("not a request: {error}")))?;
    let prune: Prune = request.prune.parse()?;
    let batch = Batch::of(request.texts, &request.images)?;
    let (results, ms) = classify(engine, &batch, &prune)?;
    let mut flops = Flops::default();
    for result in &results {
        flops += result.flops;
    }
    let retention: f64 = results.iter().map(|result| result.retention).sum();
    let collect = |result: &Classification| (result.input_ids.clone(), result.logits.clone());
    let (input_ids, logits) = results.iter().map(collect).unzip();
    let embeddings = results.iter().filter_map(|result| result.embedding.clone()).collect();
    let retention = retention / results.len().max(1) as f64;
    Ok(Answer { ms, input_ids, logits, embeddings, flops: BatchFlops::new(flops, 1), retention })
}
