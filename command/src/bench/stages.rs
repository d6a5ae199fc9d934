//! How long each stage of a call takes: by the GPU's own clock, on the CPU by ours between two stages.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Instant;

use sttabt::backend::Stage;
use sttabt::{Engine, Prune};

use super::inputs::Batch;
use super::report::Stages;
use super::run::classify;
use super::times::median;
use crate::command::Result;

/// Stages of many calls.
#[derive(Default)]
pub struct StageTimes {
    /// In the order in which stages were first seen; `Host` comes last.
    all_ms: Vec<(Stage, Vec<f64>)>,
}

impl StageTimes {
    /// One call more; measuring slows it down a little, so its time counts nowhere else.
    pub fn add(&mut self, engine: &mut Engine, batch: &Batch, rule: &Prune) -> Result<()> {
        let stages_ms =
            if engine.cpu().is_some() { on_cpu(engine, batch, rule)? } else { on_gpu(engine, batch, rule)? };
        for (stage, ms) in stages_ms {
            match self.all_ms.iter_mut().find(|(known, _)| *known == stage) {
                Some((_, all_ms)) => all_ms.push(ms),
                None => self.all_ms.push((stage, vec![ms])),
            }
        }
        Ok(())
    }

    /// Medians.
    pub fn stages(&self) -> Stages {
        let mut stages: Vec<(Stage, f64)> =
            self.all_ms.iter().filter_map(|(stage, all_ms)| Some((*stage, median(all_ms)?))).collect();
        stages.sort_by_key(|(stage, _)| *stage == Stage::Host);
        Stages(stages.into_iter().map(|(stage, ms)| (stage.to_string(), ms)).collect())
    }
}

fn add(stages_ms: &mut Vec<(Stage, f64)>, stage: Stage, ms: f64) {
    match stages_ms.iter_mut().find(|(known, _)| *known == stage) {
        Some((_, sum)) => *sum += ms,
        None => stages_ms.push((stage, ms)),
    }
}

/// When each stage began, on the threads that ran chunks.
type Marks = HashMap<ThreadId, Vec<(Stage, Instant)>>;

/// The mean over the threads that ran chunks. What they do not account for is the host's, waiting for the last of them too.
fn on_cpu(engine: &mut Engine, batch: &Batch, rule: &Prune) -> Result<Vec<(Stage, f64)>> {
    let marks: Arc<Mutex<Marks>> = Arc::default();
    let hook_marks = Arc::clone(&marks);
    let hook = move |stage| {
        let mut marks = hook_marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.entry(thread::current().id()).or_default().push((stage, Instant::now()));
    };
    if let Some(cpu) = engine.cpu() {
        cpu.set_stage_hook(Some(Box::new(hook)));
    }
    let outcome = classify(engine, batch, rule);
    if let Some(cpu) = engine.cpu() {
        cpu.set_stage_hook(None);
    }
    let (_, ms) = outcome?;
    let marks = marks.lock().unwrap_or_else(PoisonError::into_inner);
    let mut stages_ms = Vec::new();
    for of_thread in marks.values() {
        for ((stage, start), (_, end)) in of_thread.iter().zip(of_thread.iter().skip(1)) {
            if *stage != Stage::Host {
                add(&mut stages_ms, *stage, (*end - *start).as_secs_f64() * 1e3 / marks.len() as f64);
            }
        }
    }
    let in_stages: f64 = stages_ms.iter().map(|(_, ms)| ms).sum();
    add(&mut stages_ms, Stage::Host, (ms - in_stages).max(0.0));
    Ok(stages_ms)
}

/// Empty where the device has no clock. What the GPU does not account for is the host's. It is taken from a run
/// without timed stages, in which the host prepares one chunk while the device computes another.
#[cfg(feature = "gpu")]
fn on_gpu(engine: &mut Engine, batch: &Batch, rule: &Prune) -> Result<Vec<(Stage, f64)>> {
    if !engine.gpu().is_some_and(|gpu| gpu.set_stage_timing(true)) {
        return Ok(Vec::new());
    }
    let outcome = classify(engine, batch, rule);
    let mut stages_ms = Vec::new();
    if let Some(gpu) = engine.gpu() {
        stages_ms = gpu.take_stages_ms();
        gpu.set_stage_timing(false);
    }
    outcome?;
    let (_, ms) = classify(engine, batch, rule)?;
    let on_device: f64 = stages_ms.iter().map(|(_, ms)| ms).sum();
    add(&mut stages_ms, Stage::Host, (ms - on_device).max(0.0));
    Ok(stages_ms)
}

#[cfg(not(feature = "gpu"))]
fn on_gpu(_engine: &mut Engine, _batch: &Batch, _rule: &Prune) -> Result<Vec<(Stage, f64)>> {
    Ok(Vec::new())
}
