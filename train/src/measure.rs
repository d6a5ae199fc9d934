//! What a model costs and what it answers, measured with the engine on samples that no training saw.

use std::time::Instant;

use serde::Serialize;
use sttabt::{BackendKind, Classification, Engine, Flops, Input, Model, Outputs, Picture, Prune, Task};

use crate::data::Sample;
use crate::error::{Error, Result};
use crate::files::read;
use crate::loss::Label;

/// Inputs of one call.
const BATCH: usize = 32;

/// One rule's answers.
pub struct Answers {
    /// Logits, or an embedder's vector, of each sample.
    pub outputs: Vec<Vec<f32>>,
    retention: f64,
    flops: Flops,
    ms: f64,
}

/// Runs a rule over samples.
pub fn answers(engine: &mut Engine, samples: &[&Sample], prune: &Prune) -> Result<Answers> {
    let mut found = Answers { outputs: Vec::new(), retention: 0.0, flops: Flops::default(), ms: 0.0 };
    for samples in samples.chunks(BATCH) {
        let pictures: Vec<Option<Picture>> = samples.iter().map(|sample| picture(sample)).collect::<Result<_>>()?;
        let inputs: Vec<Input<'_>> =
            samples.iter().zip(&pictures).filter_map(|(sample, picture)| input(sample, picture)).collect();
        let start = Instant::now();
        let results = run(engine, &inputs, prune)?;
        found.ms += start.elapsed().as_secs_f64() * 1e3;
        for result in results {
            found.retention += result.retention;
            found.flops += result.flops;
            found.outputs.push(result.embedding.unwrap_or(result.logits));
        }
    }
    Ok(found)
}

fn picture(sample: &Sample) -> Result<Option<Picture>> {
    match sample {
        Sample::Picture(path) => Ok(Some(Picture::decode(&path.display().to_string(), &read(path)?)?)),
        Sample::Text(..) => Ok(None),
    }
}

fn input<'a>(sample: &'a Sample, picture: &'a Option<Picture>) -> Option<Input<'a>> {
    match (sample, picture) {
        (Sample::Text(text, Some(pair)), _) => Some(Input::Pair(text, pair)),
        (Sample::Text(text, None), _) => Some(Input::Text(text)),
        (Sample::Picture(_), picture) => picture.as_ref().map(Input::Image),
    }
}

fn run(engine: &mut Engine, inputs: &[Input<'_>], prune: &Prune) -> Result<Vec<Classification>> {
    let outputs = Outputs::default();
    let embeds = engine.model().config().task == Task::Embedding;
    let results = match embeds {
        true => pollster::block_on(engine.embed(inputs, prune, &outputs)),
        false => pollster::block_on(engine.classify(inputs, prune, &outputs)),
    };
    Ok(results?)
}

/// An engine on the CPU, which is everywhere.
pub fn engine(model: &Model) -> Result<Engine> {
    Ok(pollster::block_on(Engine::new(model, &BackendKind::Cpu.into()))?)
}

/// One rule beside the dense parent.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// As `--prune` takes it.
    pub rule: String,
    /// Share of right answers, or the correlation of numbers; from labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric: Option<f64>,
    /// Share of answers that are the parent's; for numbers their correlation, for vectors the mean cosine.
    pub agreement: f64,
    /// Mean absolute difference of the outputs from the parent's.
    pub distance: f64,
    /// Mean over samples and l = 0 … L of |K_l| / T.
    pub retention: f64,
    /// Of a sample, ApproxNet included.
    pub gflops: f64,
    /// In units of a dense pass.
    pub flops_share: f64,
    /// Of a sample.
    pub ms: f64,
}

impl Line {
    /// Compares a rule's answers with the parent's.
    pub fn new(rule: &str, task: Task, found: &Answers, parent: &Answers, labels: Option<&[Label]>) -> Self {
        let num_samples = found.outputs.len().max(1) as f64;
        let pairs = found.outputs.iter().zip(&parent.outputs);
        let distance = |(one, other): (&Vec<f32>, &Vec<f32>)| {
            let sum: f64 = one.iter().zip(other).map(|(one, other)| f64::from((one - other).abs())).sum();
            sum / one.len().max(1) as f64
        };
        Self {
            rule: rule.to_owned(),
            metric: labels.and_then(|labels| metric(task, &found.outputs, labels)),
            agreement: agreement(task, &found.outputs, &parent.outputs),
            distance: pairs.map(distance).sum::<f64>() / num_samples,
            retention: found.retention / num_samples,
            gflops: found.flops.total() as f64 / 1e9 / num_samples,
            flops_share: found.flops.total() as f64 / found.flops.dense.max(1) as f64,
            ms: found.ms / num_samples,
        }
    }
}

fn largest(values: &[f32]) -> usize {
    (0..values.len()).reduce(|best, at| if values[at] > values[best] { at } else { best }).unwrap_or(0)
}

fn share(are_equal: impl Iterator<Item = bool>) -> f64 {
    let (mut equal, mut all) = (0, 0);
    for is_equal in are_equal {
        equal += usize::from(is_equal);
        all += 1;
    }
    equal as f64 / f64::from(all.max(1))
}

fn agreement(task: Task, found: &[Vec<f32>], parent: &[Vec<f32>]) -> f64 {
    let pairs = || found.iter().zip(parent);
    let first = |outputs: &[Vec<f32>]| -> Vec<f64> { outputs.iter().map(|output| f64::from(output[0])).collect() };
    match task {
        Task::Classification => share(pairs().map(|(one, other)| largest(one) == largest(other))),
        Task::MultiLabel => {
            share(pairs().map(|(one, other)| one.iter().zip(other).all(|(a, b)| (*a > 0.0) == (*b > 0.0))))
        }
        Task::Regression => pearson(&first(found), &first(parent)),
        Task::Embedding => {
            let cosine = |(one, other): (&Vec<f32>, &Vec<f32>)| -> f64 {
                let product = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum() };
                product(one, other) / (product(one, one) * product(other, other)).sqrt().max(1e-30)
            };
            pairs().map(cosine).sum::<f64>() / found.len().max(1) as f64
        }
    }
}

fn metric(task: Task, found: &[Vec<f32>], labels: &[Label]) -> Option<f64> {
    match task {
        Task::Classification => {
            Some(share(found.iter().zip(labels).map(|(output, label)| Label::Class(largest(output)) == *label)))
        }
        Task::Regression => {
            let value = |label: &Label| if let Label::Value(value) = label { *value } else { 0.0 };
            let values: Vec<f64> = labels.iter().map(value).collect();
            Some(pearson(&found.iter().map(|output| f64::from(output[0])).collect::<Vec<_>>(), &values))
        }
        Task::MultiLabel | Task::Embedding => None,
    }
}

/// Pearson correlation; 0 where one side is constant.
fn pearson(one: &[f64], other: &[f64]) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    let (mean_one, mean_other) = (mean(one), mean(other));
    let mut sums = [0.0; 3];
    for (a, b) in one.iter().zip(other) {
        let (a, b) = (a - mean_one, b - mean_other);
        sums[0] += a * b;
        sums[1] += a * a;
        sums[2] += b * b;
    }
    let scale = (sums[1] * sums[2]).sqrt();
    if scale > 0.0 { sums[0] / scale } else { 0.0 }
}

/// The dense parent's answers, each asked for when it is first needed.
pub struct ParentAnswers {
    engine: Engine,
    task: Task,
    of_samples: Vec<Option<Vec<f32>>>,
}

impl ParentAnswers {
    /// To so many samples.
    pub fn new(model: &Model, num_samples: usize) -> Result<Self> {
        Ok(Self { engine: engine(model)?, task: model.config().task, of_samples: vec![None; num_samples] })
    }

    /// To some of the samples, one after another.
    pub fn of(&mut self, all: &[Sample], wanted: &[usize]) -> Result<Vec<f32>> {
        let missing: Vec<usize> = wanted.iter().copied().filter(|&at| self.of_samples[at].is_none()).collect();
        let samples: Vec<&Sample> = missing.iter().map(|&at| &all[at]).collect();
        let found = answers(&mut self.engine, &samples, &Prune::Dense)?;
        for (at, mut answer) in missing.into_iter().zip(found.outputs) {
            // The loss of an embedder compares directions.
            if self.task == Task::Embedding {
                let length = answer.iter().map(|value| value * value).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
                answer.iter_mut().for_each(|value| *value /= length);
            }
            self.of_samples[at] = Some(answer);
        }
        if wanted.iter().any(|&at| self.of_samples[at].is_none()) {
            let reason = "the engine gave another number of results than there are inputs";
            return Err(Error::Failed(reason.to_owned()));
        }
        Ok(wanted.iter().filter_map(|&at| self.of_samples[at].as_deref()).flatten().copied().collect())
    }
}
