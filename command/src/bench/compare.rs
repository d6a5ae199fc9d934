//! `sttabt-bench compare`: two files of numbers, and whether the second has become slower than noise explains.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use serde::Deserialize;

use super::args::CompareArgs;
use super::times::Times;
use crate::command::model_dir::unreadable;
use crate::command::{Failure, Result, note, write_columns};

/// No two runs agree better than so, even when the rounds of each do.
const LEAST_BAND: f64 = 0.03;
/// Of fewer rounds the spread says little.
const FEW_ROUNDS: usize = 5;
const BAND_OF_FEW: f64 = 0.25;

/// What is read of a file: times, and what they are the times of.
#[derive(Deserialize)]
struct File {
    #[serde(default)]
    environment: serde_json::Value,
    #[serde(default)]
    runs: Vec<Run>,
    #[serde(default)]
    kernels: Vec<KernelRun>,
}

#[derive(Deserialize)]
struct Run {
    model: String,
    backend: String,
    prune: String,
    batch: usize,
    tokens: usize,
    rounds: usize,
    ms: Times,
}

#[derive(Deserialize)]
struct KernelRun {
    backend: String,
    kernel: String,
    shape: String,
    ms: Times,
}

/// Times with the number of rounds that they are of.
struct Measured {
    ms: Times,
    rounds: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Faster,
    Same,
    Slower,
}

pub fn run(args: &CompareArgs) -> Result<()> {
    let (old, new) = (read(&args.old)?, read(&args.new)?);
    for what in ["adapter", "cpu", "threads"] {
        let (old, new) = (&old.environment[what], &new.environment[what]);
        if old != new {
            note(&format!("{what} differs: {old} and {new}"));
        }
    }
    let (old, new) = (measured(old), measured(new));
    let mut lines = vec![["run", "old ms", "new ms", "new / old", "noise", ""].map(str::to_owned).to_vec()];
    let mut verdicts = Vec::new();
    for (name, new) in &new {
        let Some(old) = old.get(name) else {
            note(&format!("only in {}: {name}", args.new.display()));
            continue;
        };
        let (ratio, band) = (new.ms.median / old.ms.median, band(old, new));
        let verdict = verdict(ratio, band);
        let said = match verdict {
            Verdict::Faster => "faster",
            Verdict::Same => "",
            Verdict::Slower => "SLOWER",
        };
        let numbers = [format!("{:.3}", old.ms.median), format!("{:.3}", new.ms.median), format!("{ratio:.3}")];
        let mut line = vec![name.clone()];
        line.extend(numbers);
        line.extend([format!("± {:.1} %", 100.0 * band), said.to_owned()]);
        lines.push(line);
        verdicts.push(verdict);
    }
    for name in old.keys().filter(|name| !new.contains_key(*name)) {
        note(&format!("only in {}: {name}", args.old.display()));
    }
    if verdicts.is_empty() {
        return Err(Failure::Error("the files have no run in common".to_owned()));
    }
    write_columns(&mut io::stdout().lock(), &lines)?;
    match verdicts.iter().filter(|verdict| **verdict == Verdict::Slower).count() {
        0 => Ok(()),
        slower => Err(Failure::Error(format!("{slower} of {} became slower than noise explains", verdicts.len()))),
    }
}

fn read(path: &Path) -> Result<File> {
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    let broken = |error| Failure::Error(format!("{}: not a file of sttabt-bench: {error}", path.display()));
    let file: File = serde_json::from_slice(&bytes).map_err(broken)?;
    if file.runs.is_empty() && file.kernels.is_empty() {
        return Err(Failure::Error(format!("{}: holds no numbers of `run` or `kernels`", path.display())));
    }
    Ok(file)
}

fn measured(file: File) -> BTreeMap<String, Measured> {
    let runs = file.runs.into_iter().map(|run| {
        let Run { model, backend, prune, batch, tokens, rounds, ms } = run;
        (format!("{model} {backend} {batch:>2} x {tokens:>3} {prune}"), Measured { ms, rounds })
    });
    // `kernels` always takes enough rounds.
    let kernels = file.kernels.into_iter().map(|run| {
        let KernelRun { backend, kernel, shape, ms } = run;
        (format!("{backend} {kernel} {shape}"), Measured { ms, rounds: FEW_ROUNDS })
    });
    runs.chain(kernels).collect()
}

/// How far new / old may lie from 1 by chance.
fn band(old: &Measured, new: &Measured) -> f64 {
    let least = if old.rounds.min(new.rounds) < FEW_ROUNDS { BAND_OF_FEW } else { LEAST_BAND };
    old.ms.spread().hypot(new.ms.spread()).max(least)
}

fn verdict(ratio: f64, band: f64) -> Verdict {
    match ratio {
        ratio if ratio > 1.0 + band => Verdict::Slower,
        ratio if ratio < 1.0 / (1.0 + band) => Verdict::Faster,
        _ => Verdict::Same,
    }
}
