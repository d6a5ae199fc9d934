//! The thread that owns the engine: it takes what waits, and computes it in one run.

use std::sync::Arc;
use std::thread;
use std::time::Instant;

use sttabt::{Classification, Engine, Error, Flops, Outputs, Prepared, Prune, Result, Task};
use tokio::sync::oneshot;

use super::metrics::Metrics;
use super::queue::{Batch, Output, Queue};

/// Starts the thread. What comes back has the reason when it ends before the queue is closed: without one it panicked.
pub fn start(
    mut engine: Engine,
    queue: Arc<Queue>,
    metrics: Arc<Metrics>,
    max_tokens: usize,
) -> std::io::Result<oneshot::Receiver<Error>> {
    let (ended, receiver) = oneshot::channel();
    let work = move || {
        // Whoever waits when this ends is to know, even after a panic.
        let mut end = End { queue: Arc::clone(&queue), ended: Some(ended) };
        while let Some(batch) = queue.next(max_tokens) {
            if let Err(error) = run(&mut engine, &queue, &metrics, batch) {
                if let Some(ended) = end.ended.take() {
                    let _ = ended.send(error);
                }
                return;
            }
        }
    };
    thread::Builder::new().name("engine".to_owned()).spawn(work)?;
    Ok(receiver)
}

struct End {
    queue: Arc<Queue>,
    ended: Option<oneshot::Sender<Error>>,
}

impl Drop for End {
    fn drop(&mut self) {
        // Before those who wait hear of it: with their answers the server may be done.
        drop(self.ended.take());
        self.queue.end();
    }
}

/// One batch. The error is one after which the engine is of no use.
fn run(engine: &mut Engine, queue: &Queue, metrics: &Metrics, batch: Batch) -> Result<()> {
    let start = Instant::now();
    // Of a model with one output the sigmoid is a choice.
    let outputs = Outputs { sigmoid: engine.model().config().task == Task::Regression, ..Outputs::default() };
    let results = compute(engine, &batch.inputs, &batch.prune, &outputs)?;
    let mut flops = Flops::default();
    results.iter().flatten().for_each(|result| flops += result.flops);
    let num_tokens = batch.inputs.iter().map(Prepared::num_tokens).sum();
    metrics.batch(&batch.waited, start.elapsed(), batch.inputs.len(), num_tokens, flops);
    let outputs = results.into_iter().map(|result| result.map(Output::of)).collect();
    queue.finish(&batch.shares, outputs);
    Ok(())
}

/// All inputs in one run. If that fails, each half, so that in the end those fail alone that cannot be computed.
fn compute(
    engine: &mut Engine,
    inputs: &[Prepared],
    prune: &Prune,
    outputs: &Outputs,
) -> Result<Vec<Result<Classification>>> {
    match pollster::block_on(engine.run(inputs, prune, outputs)) {
        Ok(results) => Ok(results.into_iter().map(Ok).collect()),
        Err(error @ Error::DeviceLost { .. }) => Err(error),
        Err(error) if inputs.len() < 2 => Ok(vec![Err(error)]),
        Err(_) => {
            let (first, second) = inputs.split_at(inputs.len() / 2);
            let mut results = compute(engine, first, prune, outputs)?;
            results.extend(compute(engine, second, prune, outputs)?);
            Ok(results)
        }
    }
}

impl Output {
    fn of(result: Classification) -> Self {
        let Classification { logits, probs, embedding, .. } = result;
        Self { logits, probs, embedding: embedding.unwrap_or_default() }
    }
}
