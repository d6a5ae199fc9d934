//! A model's networks on one device, and the run of a request.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use super::chunks::{ChunkLimits, row_bytes, share, split};
use super::request::Classification;
use super::scratch::Networks;
use super::worker::{Job, Worker};
use crate::backend::cpu::{CpuBackend, MAX_PRUNED_TOKENS};
use crate::backend::{Backend, MatrixShape};
use crate::error::Result;
use crate::models::{Input, Model, Tokens};
use crate::network::Encoder;
use crate::parallel::{Caller, all, for_each, num_threads};
use crate::pruning::{Plan, check_lengths, concrete_thresholds};

/// A model's networks on a device, and those who run chunks there.
pub struct Session<B: Backend> {
    networks: Networks<B>,
    worker: Worker<B>,
    /// Who runs other chunks at the same time, on the CPU.
    others: Vec<Worker<B>>,
}

impl<B: Backend> Session<B> {
    /// Uploads the networks, and waits until the device has taken them.
    #[cfg(any(feature = "gpu", test))]
    pub async fn new(backend: B, model: &Model, max_buffer_bytes: Option<u64>) -> Result<Self> {
        let mut session = Self::new_now(backend, model, max_buffer_bytes)?;
        session.worker.backend.read(&[]).await?;
        Ok(session)
    }

    /// Uploads the networks.
    pub fn new_now(mut backend: B, model: &Model, max_buffer_bytes: Option<u64>) -> Result<Self> {
        let main = Encoder::new(&mut backend, model.main())?;
        let approx = model.approx().map(|approx| Encoder::new(&mut backend, approx)).transpose()?;
        Self::with(backend, main, approx, model, max_buffer_bytes)
    }

    /// The same, and frees meanwhile what is packed, if nobody else shares the model: for a device that cannot be lost.
    pub fn new_freeing(mut backend: B, model: &mut Model, max_buffer_bytes: Option<u64>) -> Result<Self> {
        let Some((main, approx)) = model.networks_mut() else {
            return Self::new_now(backend, model, max_buffer_bytes);
        };
        let main = Encoder::new_freeing(&mut backend, main)?;
        let approx = approx.map(|approx| Encoder::new_freeing(&mut backend, approx)).transpose()?;
        Self::with(backend, main, approx, model, max_buffer_bytes)
    }

    fn with(
        mut backend: B,
        main: Encoder<B>,
        approx: Option<Encoder<B>>,
        model: &Model,
        max_buffer_bytes: Option<u64>,
    ) -> Result<Self> {
        let num_layers = model.config().num_hidden_layers;
        let mut thresholds = backend.create_matrix("thresholds", 1, num_layers)?;
        let mut logits = concrete_thresholds(model.p_logits().unwrap_or_default());
        logits.resize(thresholds.stride(), 0.0);
        backend.write_matrix(&mut thresholds, 0, &logits)?;
        let limits = ChunkLimits {
            max_binding_bytes: backend.max_binding_bytes().min(max_buffer_bytes.unwrap_or(u64::MAX)),
            max_multiply_adds: backend.max_chunk_multiply_adds(),
            row_bytes: row_bytes(model),
        };
        let networks = Networks { main, approx, thresholds, limits };
        Ok(Self { networks, worker: Worker::new(backend), others: Vec::new() })
    }

    /// The backend, with what it has compiled; the networks are freed.
    #[cfg(any(feature = "gpu", test))]
    pub fn into_backend(self) -> B {
        let mut backend = self.worker.backend;
        // Whatever still holds the networks' buffers.
        backend.release();
        backend
    }

    /// The backend, for what it counts and measures.
    #[cfg(feature = "internals")]
    pub fn backend(&mut self) -> &mut B {
        &mut self.worker.backend
    }

    /// Runs the inputs chunk by chunk. They come in groups. Where the backend overlaps, the device computes a chunk
    /// while the next group is prepared and the next chunk recorded.
    #[cfg(any(feature = "gpu", test))]
    pub async fn classify(
        &mut self,
        job: Job<'_>,
        groups: impl Iterator<Item = Result<Vec<Tokens>>>,
    ) -> Result<Vec<Classification>> {
        let mut results = Vec::new();
        let mut running = None;
        let mut first = 0;
        for group in groups {
            let tokens = group?;
            let lengths: Vec<usize> = tokens.iter().map(Tokens::len).collect();
            let chunks = self.chunks(job, first, &lengths, u64::MAX)?;
            first += lengths.len();
            let mut tokens = tokens.into_iter();
            for chunk in chunks {
                let tokens = tokens.by_ref().take(chunk.len()).collect();
                let started = self.worker.start_chunk(&self.networks, job, tokens, &mut running, &mut results).await?;
                if let Some(before) = running.replace(started) {
                    results.extend(self.worker.finish_chunk(job, before).await?);
                }
            }
        }
        if let Some(last) = running {
            results.extend(self.worker.finish_chunk(job, last).await?);
        }
        Ok(results)
    }

    /// Whether an input of so many tokens can be pruned: its scores fit the kernels, and its attention maps a binding.
    pub fn can_prune(&self, model: &Model, num_tokens: usize) -> bool {
        let map_values = model.config().num_hidden_layers.saturating_mul(num_tokens.saturating_mul(num_tokens));
        num_tokens <= self.worker.backend.max_pruned_tokens() && map_values <= self.networks.limits.max_map_values()
    }

    /// Checks inputs of a request, from its `first` one on, and splits them into chunks, none of which has samples of two shares.
    fn chunks(&self, job: Job<'_>, first: usize, lengths: &[usize], share: u64) -> Result<Vec<Range<usize>>> {
        let Job { model, prune, .. } = job;
        let plan = Plan::of(prune, &model.facts(), lengths)?;
        let elsewhere = format!("the backend `cpu` takes up to {MAX_PRUNED_TOKENS}");
        let elsewhere = (!B::COMPUTES_ON_HOST).then_some(elsewhere.as_str());
        check_lengths(prune, first, lengths, self.worker.backend.max_pruned_tokens(), elsewhere)?;
        split(first, lengths, share, model.config(), plan.has_maps(), &self.networks.limits)
    }
}

impl Session<CpuBackend> {
    /// Runs the inputs with a chunk on every thread: they wait for each other at the end alone, not after every kernel. Those
    /// who find no chunk any more leave their threads to the kernels of the others.
    pub async fn classify_on_all_threads(&mut self, job: Job<'_>, tokens: Vec<Tokens>) -> Result<Vec<Classification>> {
        let lengths: Vec<usize> = tokens.iter().map(Tokens::len).collect();
        let chunks =
            self.chunks(job, 0, &lengths, share(&lengths, job.model.config(), &self.networks.limits, num_threads()))?;
        let num_others = chunks.len().min(num_threads()).saturating_sub(1);
        while self.others.len() < num_others {
            self.others.push(Worker::new(self.worker.backend.fork()));
        }
        let Self { networks, worker, others } = self;
        let mut results: Vec<Option<Result<Vec<Classification>>>> = chunks.iter().map(|_| None).collect();
        let mut tokens = tokens.into_iter();
        let queue: VecDeque<_> = chunks
            .into_iter()
            .map(|chunk| tokens.by_ref().take(chunk.len()).collect::<Vec<Tokens>>())
            .zip(&mut results)
            .collect();
        let queue = Mutex::new(queue);
        // All enter before the first begins, which would take all threads for its kernels.
        let workers: Vec<_> = std::iter::once(worker)
            .chain(others.iter_mut().take(num_others))
            .map(|worker| (worker.backend.enter(), worker))
            .collect();
        all(workers.into_iter().map(|(caller, worker)| run_queue(caller, worker, networks, job, &queue))).await;
        drop(queue);
        let mut classifications = Vec::new();
        for chunk in results.into_iter().flatten() {
            classifications.extend(chunk?);
        }
        Ok(classifications)
    }
}

/// Inputs of a request, from its `first` one on, as tokens, made on all threads.
pub fn prepare(model: &Model, inputs: &[Input<'_>], first: usize) -> Result<Vec<Tokens>> {
    let mut tokens: Vec<Option<Result<Tokens>>> = inputs.iter().map(|_| None).collect();
    let tasks = inputs.iter().enumerate().zip(&mut tokens).collect();
    for_each(tasks, |((index, input), tokens)| *tokens = Some(model.prepare(first + index, input)));
    tokens.into_iter().flatten().collect()
}

/// Chunks that wait, and where their results go.
type Queue<'a> = Mutex<VecDeque<(Vec<Tokens>, &'a mut Option<Result<Vec<Classification>>>)>>;

/// Runs chunks until there are no more; none is begun after one that failed.
async fn run_queue(
    _caller: Caller,
    worker: &mut Worker<CpuBackend>,
    networks: &Networks<CpuBackend>,
    job: Job<'_>,
    queue: &Queue<'_>,
) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some((tokens, result)) = next else { return };
        let outcome = worker.run_chunk(networks, job, tokens).await;
        if outcome.is_err() {
            queue.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        *result = Some(outcome);
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
