//! `sttabt quantize`: the same model with int8 weights, and how near it is to its source.

use std::io::{self, Write};
use std::path::Path;

use sttabt::{Config, Model, ModelFiles, Prune, Task};

use super::args::{EvalArgs, QuantizeArgs};
use super::eval::{Run, Samples, check_task, measure, progress_bar};
use super::metrics::accuracy;
use super::model_dir::{Kind, find, load};
use super::written::Written;
use super::{Failure, ModelArgs, Result, default_rule, open_engine, visible, write_columns};

/// Inputs of one batch.
const BATCH: u32 = 32;

pub fn run(args: &QuantizeArgs) -> Result<()> {
    let kind = if args.images.is_some() { Kind::Images } else { Kind::Text };
    let folder = find(&args.model, kind)?;
    let source = load(&folder)?;
    let rules = rules(args, &source)?;
    // What is wrong with the data is said before anything is written.
    let eval_args = eval_args(args);
    let samples = if args.check.is_some() || args.images.is_some() {
        check_task(source.config())?;
        Some(Samples::read(&eval_args, source.config())?)
    } else {
        None
    };
    let in_folder = |error: sttabt::Error| Failure::Error(format!("{}: {error}", folder.display()));
    let before = sizes(&ModelFiles::from_dir(&folder)?);
    let files = ModelFiles::from_dir(&folder)?.into_int8(args.keep_f16.as_deref()).map_err(in_folder)?;
    let after = sizes(&files);
    write(&args.out, &files)?;
    let mut out = io::stdout().lock();
    for (network, after) in &after {
        let before = before.iter().find(|(name, _)| name == network).map_or(0.0, |(_, size)| *size);
        let file = args.out.join(network).join(ModelFiles::KNOWN.weights[0]);
        writeln!(out, "{}: {after:.1} MB, before {before:.1} MB", visible(&file.display().to_string()))?;
    }
    let is_copied = |name: &&str| !ModelFiles::KNOWN.networks.iter().any(|network| is_of(name, network));
    let copied: Vec<&str> = files.names().filter(is_copied).collect();
    if !copied.is_empty() {
        writeln!(out, "copied: {}", visible(&copied.join(", ")))?;
    }
    if let Some(samples) = samples {
        let quantized = Model::from_bytes(files)?;
        compare(&mut out, &eval_args, &samples, &rules, [&source, &quantized])?;
    }
    out.flush()?;
    Ok(())
}

/// Whether a file holds the weights of a network, or its config.
fn is_of(name: &str, network: &str) -> bool {
    let short = name.strip_prefix(network).unwrap_or_default();
    short == ModelFiles::KNOWN.config || ModelFiles::KNOWN.weights.contains(&short) || short.ends_with(".safetensors")
}

/// MB of weights by network.
fn sizes(files: &ModelFiles) -> Vec<(&'static str, f64)> {
    let size = |network: &'static str| {
        let names = files.names().filter(|name| {
            let short = name.strip_prefix(network).unwrap_or_default();
            !short.contains('/') && is_of(name, network) && short != ModelFiles::KNOWN.config
        });
        let num_bytes: usize = names.filter_map(|name| Some(files.get(name)?.len())).sum();
        (num_bytes > 0).then_some((network, num_bytes as f64 / 1e6))
    };
    ModelFiles::KNOWN.networks.iter().copied().filter_map(size).collect()
}

/// Writes all files or none.
fn write(out: &Path, files: &ModelFiles) -> Result<()> {
    let written: Vec<Written> = files
        .names()
        .map(|name| Written::new(out.join(name), [files.get(name).unwrap_or_default()]))
        .collect::<Result<_>>()?;
    written.into_iter().try_for_each(Written::keep)
}

/// What `eval` would be called with.
fn eval_args(args: &QuantizeArgs) -> EvalArgs {
    EvalArgs {
        model: ModelArgs { model: None },
        device: args.device.clone(),
        prune: None,
        batch: BATCH,
        json: false,
        columns: args.columns.clone(),
        images: args.images.clone(),
        rank: None,
        relevant: None,
        windows: false,
        label: None,
        data: args.check.clone(),
    }
}

/// Those that were asked for, or dense and the model's own. What the model cannot follow is said before anything is written.
fn rules(args: &QuantizeArgs, model: &Model) -> Result<Vec<Prune>> {
    let Some(rules) = &args.prune else {
        let mut rules = vec![Prune::Dense, default_rule(model)?];
        rules.dedup();
        return Ok(rules);
    };
    if args.check.is_none() && args.images.is_none() {
        return Err(Failure::Usage("--prune compares both models on data: give --check or --images".to_owned()));
    }
    let rules = Prune::parse_list(rules)?;
    for rule in &rules {
        if let Some(need) = model.lacks(rule) {
            return Err(Failure::Error(format!("rule `{rule}` needs {need}, and this model has none")));
        }
    }
    Ok(rules)
}

/// Answers, kept tokens and metrics of both models under each rule.
fn compare(
    out: &mut impl Write,
    args: &EvalArgs,
    samples: &Samples,
    rules: &[Prune],
    models: [&Model; 2],
) -> Result<()> {
    let progress = progress_bar(2 * rules.len() * samples.len());
    let mut runs: Vec<Vec<(Run, Vec<Kept>)>> = Vec::new();
    for model in models {
        let mut engine = open_engine(model, &args.device)?;
        let mut of_model = Vec::new();
        for rule in rules {
            progress.set_message(rule.to_string());
            let mut kept = Vec::new();
            let run = measure(&mut engine, args, samples, rule, &progress, |result| {
                // A dense run keeps all.
                if !rule.is_dense() {
                    kept.push(result.kept.clone());
                }
            })?;
            of_model.push((run, kept));
        }
        runs.push(of_model);
    }
    progress.finish_and_clear();
    let config: &Config = models[0].config();
    let mut lines: Vec<Vec<String>> = Vec::new();
    for ((rule, (before, kept_before)), (after, kept_after)) in rules.iter().zip(&runs[0]).zip(&runs[1]) {
        let [before_metrics, after_metrics] = [before, after].map(|run| run.metrics(samples, config));
        if lines.is_empty() {
            let mut header = vec!["rule".to_owned()];
            if config.task == Task::Classification {
                header.push("equal labels".to_owned());
            }
            header.push("equal tokens".to_owned());
            header.extend(after_metrics.keys().flat_map(|name| [(*name).to_owned(), "before".to_owned()]));
            lines.push(header);
        }
        let per_cent = |share: f64| format!("{:.2}", 100.0 * share);
        let mut line = vec![rule.to_string()];
        if config.task == Task::Classification {
            line.push(per_cent(accuracy(&after.labels(), &before.labels())));
        }
        line.push(if rule.is_dense() { "-".to_owned() } else { per_cent(equal_tokens(kept_before, kept_after)) });
        line.extend(
            after_metrics
                .values()
                .zip(before_metrics.values())
                .flat_map(|(after, before)| [per_cent(*after), per_cent(*before)]),
        );
        lines.push(line);
    }
    writeln!(out, "\n{} samples, both models, in per cent:", samples.len())?;
    write_columns(out, &lines)
}

/// The kept tokens of a sample, layer by layer.
type Kept = Vec<Vec<u32>>;

/// Tokens that both keep over tokens that either keeps (Jaccard), in all layers of a sample; the mean over the samples.
fn equal_tokens(a: &[Kept], b: &[Kept]) -> f64 {
    let share = |(a, b): (&Kept, &Kept)| {
        let both: usize = a.iter().zip(b).map(|(a, b)| a.iter().filter(|token| b.contains(token)).count()).sum();
        let all: usize = [a, b].into_iter().flatten().map(Vec::len).sum();
        both as f64 / (all - both).max(1) as f64
    };
    a.iter().zip(b).map(share).sum::<f64>() / a.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_of_equal_tokens() {
        let whole: Kept = vec![vec![0, 1, 2, 3], vec![0, 2]];
        let one = std::slice::from_ref(&whole);
        assert_eq!(equal_tokens(one, one), 1.0);
        // {0, 1, 2} and {0} of {0, 1, 2, 3} and {0, 2}.
        assert!((equal_tokens(one, &[vec![vec![0, 1, 2], vec![0]]]) - 4.0 / 6.0).abs() < 1e-12);
        // {0} and {0} of {0, …, 6} and {0, 2, 3}.
        assert!((equal_tokens(one, &[vec![vec![0, 4, 5, 6], vec![0, 3]]]) - 2.0 / 10.0).abs() < 1e-12);
    }
}
