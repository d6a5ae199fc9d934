//! The numbers of a run, as JSON and as text.

use std::io::Write;
use std::path::Path;

use serde::{Serialize, Serializer};
use sttabt::Flops;

use super::environment::Environment;
use super::times::Times;
use crate::command::{Failure, Result, write_columns};

#[derive(Debug, Serialize)]
pub struct Report {
    pub environment: Environment,
    pub runs: Vec<RuleRun>,
    /// Whether Ctrl-C ended it before its time.
    pub interrupted: bool,
}

/// One rule on one backend, batch size and length; times, rows and FLOPs are those of a whole batch.
#[derive(Debug, Clone, Serialize)]
pub struct RuleRun {
    pub model: String,
    pub backend: &'static str,
    pub prune: String,
    pub batch: usize,
    /// Of one input; over a data set the mean.
    pub tokens: usize,
    pub rounds: usize,
    pub ms: Times,
    pub stages_ms: Stages,
    /// Σ |K_l| over the layers.
    pub rows: f64,
    pub flops: BatchFlops,
    pub retention: f64,
    pub gflops_per_s: f64,
    /// Shares of the dense run's.
    pub of_dense: OfDense,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<f64>,
}

/// The mean over the rounds: for a data set every batch has its own.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct BatchFlops {
    pub dense: f64,
    pub pruned: f64,
    pub approx: f64,
    pub total: f64,
}

impl BatchFlops {
    pub fn new(sum: Flops, rounds: usize) -> Self {
        let mean = |flops: u64| flops as f64 / rounds as f64;
        Self { dense: mean(sum.dense), pruned: mean(sum.pruned), approx: mean(sum.approx), total: mean(sum.total()) }
    }
}

#[derive(Debug, Clone, Copy, Serialize)]
pub struct OfDense {
    /// Median over the rounds of time / dense time in the same round.
    pub time: f64,
    pub flops: f64,
}

/// Milliseconds of every stage, in the order of their work.
#[derive(Debug, Clone, Default)]
pub struct Stages(pub Vec<(String, f64)>);

impl Serialize for Stages {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, ms)| (name, ms)))
    }
}

/// Writes a file that is whole at any time: beside it first, and then in its place.
pub fn write_json(path: &Path, report: &impl Serialize) -> Result<()> {
    let failed = |error: std::io::Error| Failure::Error(format!("cannot write {}: {error}", path.display()));
    let mut beside = path.as_os_str().to_owned();
    beside.push(".part");
    let mut json = serde_json::to_vec_pretty(report)?;
    json.push(b'\n');
    std::fs::write(&beside, json).map_err(failed)?;
    std::fs::rename(&beside, path).map_err(failed)
}

/// The table of one setting.
pub fn print(out: &mut impl Write, adapter: &str, runs: &[RuleRun]) -> Result<()> {
    let Some(first) = runs.first() else { return Ok(()) };
    let on = if first.backend == "cpu" { "cpu".to_owned() } else { format!("{} ({adapter})", first.backend) };
    let (model, batch, tokens, rounds) = (&first.model, first.batch, first.tokens, first.rounds);
    let plural = if rounds == 1 { "" } else { "s" };
    writeln!(out, "{model} on {on}, {batch} x {tokens} tokens, {rounds} round{plural}")?;
    let with_accuracy = runs.iter().any(|run| run.accuracy.is_some());
    let mut header = vec!["rule", "min ms", "median", "p90", "rows", "GFLOPs", "GFLOP/s", "retention", "FLOPs", "time"];
    header.extend(with_accuracy.then_some("accuracy"));
    let mut lines = vec![header.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for run in runs {
        let mut line = vec![run.prune.clone()];
        line.extend([run.ms.min, run.ms.median, run.ms.p90].map(|ms| format!("{ms:.2}")));
        line.push(format!("{:.0}", run.rows));
        line.push(format!("{:.3}", run.flops.total / 1e9));
        line.push(format!("{:.1}", run.gflops_per_s));
        line.push(format!("{:.3}", run.retention));
        line.extend([run.of_dense.flops, run.of_dense.time].map(|share| format!("{:.1} %", 100.0 * share)));
        if with_accuracy {
            line.push(run.accuracy.map_or_else(String::new, |accuracy| format!("{:.2} %", 100.0 * accuracy)));
        }
        lines.push(line);
    }
    write_columns(out, &lines)?;
    writeln!(out)?;
    out.flush()?;
    Ok(())
}
