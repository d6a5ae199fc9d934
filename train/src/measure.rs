//! What a model costs and what it answers, measured with the engine on samples that no training saw.

use std::time::Instant;

use serde::Serialize;
use sttabt::{BackendKind, Classification, Engine, Flops, Input, Model, Outputs, Picture, Prune, Task};
use sttabt_command::command::metrics::pearson;

use crate::data::Sample;
use crate::error::{Error, Result};
use crate::files::read;
use crate::loss::Label;
use crate::metrics::{Metric, first, largest, share};

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

impl Answers {
    fn num_samples(&self) -> f64 {
        self.outputs.len().max(1) as f64
    }

    /// Mean over samples and l = 0 … L of |K_l| / T.
    pub fn retention(&self) -> f64 {
        self.retention / self.num_samples()
    }

    /// Of a sample, ApproxNet included.
    pub fn gflops(&self) -> f64 {
        self.flops.total() as f64 / 1e9 / self.num_samples()
    }

    /// In units of a dense pass.
    pub fn flops_share(&self) -> f64 {
        self.flops.total() as f64 / self.flops.dense.max(1) as f64
    }

    /// Of a sample.
    pub fn ms(&self) -> f64 {
        self.ms / self.num_samples()
    }
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
        let pairs = found.outputs.iter().zip(&parent.outputs);
        let distance = |(one, other): (&Vec<f32>, &Vec<f32>)| {
            let sum: f64 = one.iter().zip(other).map(|(one, other)| f64::from((one - other).abs())).sum();
            sum / one.len().max(1) as f64
        };
        let metric = match task {
            Task::Classification => Some(Metric::Accuracy),
            Task::Regression => Some(Metric::Pearson),
            Task::MultiLabel | Task::Embedding => None,
        };
        Self {
            rule: rule.to_owned(),
            metric: metric.zip(labels).map(|(metric, labels)| metric.of(&found.outputs, labels)),
            agreement: agreement(task, &found.outputs, &parent.outputs),
            distance: pairs.map(distance).sum::<f64>() / found.num_samples(),
            retention: found.retention(),
            gflops: found.gflops(),
            flops_share: found.flops_share(),
            ms: found.ms(),
        }
    }
}

fn agreement(task: Task, found: &[Vec<f32>], parent: &[Vec<f32>]) -> f64 {
    let pairs = || found.iter().zip(parent);
    let numbers = |outputs: &[Vec<f32>]| -> Vec<f64> { outputs.iter().map(|output| first(output)).collect() };
    match task {
        Task::Classification => share(pairs().map(|(one, other)| largest(one) == largest(other))),
        Task::MultiLabel => {
            share(pairs().map(|(one, other)| one.iter().zip(other).all(|(a, b)| (*a > 0.0) == (*b > 0.0))))
        }
        Task::Regression => pearson(&numbers(found), &numbers(parent)),
        Task::Embedding => {
            let cosine = |(one, other): (&Vec<f32>, &Vec<f32>)| -> f64 {
                let product = |a: &[f32], b: &[f32]| -> f64 { a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum() };
                product(one, other) / (product(one, one) * product(other, other)).sqrt().max(1e-30)
            };
            pairs().map(cosine).sum::<f64>() / found.len().max(1) as f64
        }
    }
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
