//! A model's networks on a device, the memory that chunks use one after another, and what the host writes into it.

use super::chunks::ChunkLimits;
use crate::backend::{Backend, ChunkLayout, MatrixShape};
use crate::error::{Error, Result};
use crate::models::{Model, Network, Tokens};
use crate::network::{Encoder, Workspace};
use crate::parallel::for_each;
use crate::tensor::row_stride;

/// A model's networks on a device.
pub struct Networks<B: Backend> {
    pub main: Encoder<B>,
    pub approx: Option<Encoder<B>>,
    /// logit(p) of every layer, `[1, L]`; zeros without learned thresholds.
    pub thresholds: B::Matrix,
    pub limits: ChunkLimits,
}

/// The memory that chunks use one after another. It only grows: a chunk of a familiar size allocates nothing.
pub struct Scratch<B: Backend> {
    capacity: Capacity,
    pub index: B::Index,
    /// Of either network of a text model, on the host
    pub embedding_rows: Vec<f32>,
    pub main: Workspace<B>,
    pub approx: Option<Workspace<B>>,
    /// `[1, L · num_map_values]`
    pub maps: B::Matrix,
    /// `[L, N]`
    pub token_scores: B::Matrix,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    pub num_rows: usize,
    num_samples: usize,
    pub num_map_values: usize,
    num_words: usize,
}

impl Capacity {
    /// Enough for a chunk, rounded up within the device's limits so that similar chunks share it.
    pub fn new(layout: &ChunkLayout, with_maps: bool, limits: &ChunkLimits) -> Self {
        let round = |count: usize| count.next_multiple_of((count.next_power_of_two() / 8).max(64));
        let within = |count: usize, limit: usize| round(count).min(limit.max(count));
        let num_map_values = if with_maps { layout.num_layers * layout.num_map_values } else { 0 };
        Self {
            num_rows: within(layout.num_tokens, limits.max_rows()),
            num_samples: round(layout.num_samples),
            num_map_values: within(num_map_values.max(64), limits.max_map_values()),
            num_words: within(layout.num_words(), limits.max_map_values()),
        }
    }

    fn max(self, other: Self) -> Self {
        Self {
            num_rows: self.num_rows.max(other.num_rows),
            num_samples: self.num_samples.max(other.num_samples),
            num_map_values: self.num_map_values.max(other.num_map_values),
            num_words: self.num_words.max(other.num_words),
        }
    }
}

impl<B: Backend> Scratch<B> {
    /// Whether it is enough.
    pub fn holds(&self, needed: Capacity) -> bool {
        self.capacity.max(needed) == self.capacity
    }

    /// The memory there was, or more if the chunk needs more; what there was is freed first then.
    pub fn at_least(
        needed: Capacity,
        before: Option<Self>,
        backend: &mut B,
        networks: &Networks<B>,
        model: &Model,
    ) -> Result<Self> {
        let Networks { main, approx, thresholds, .. } = networks;
        let capacity = match before {
            Some(scratch) if scratch.holds(needed) => return Ok(scratch),
            Some(scratch) => scratch.capacity.max(needed),
            None => needed,
        };
        backend.release();
        let (rows, samples) = (capacity.num_rows, capacity.num_samples);
        let patches = main.patches(backend, rows)?;
        let mut main = main.workspace(backend, rows, samples, patches)?;
        let mut approx = approx.as_ref().map(|approx| approx.workspace(backend, rows, samples, None)).transpose()?;
        let stride = main.embeddings.stride().max(approx.as_ref().map_or(0, |approx| approx.embeddings.stride()));
        let mut num_values = rows * stride;
        for (network, workspace) in [(Some(model.main()), Some(&mut main)), (model.approx(), approx.as_mut())] {
            let (Some(network), Some(workspace)) = (network, workspace) else { continue };
            let Some(constant) = network.constant_embeddings() else { continue };
            // Written once, as many times as they fit: chunks read as many as they have inputs.
            num_values = 0;
            let rows_per_input = constant.len() / workspace.embeddings.stride();
            for input in 0..rows / rows_per_input.max(1) {
                backend.write_matrix(&mut workspace.embeddings, input * rows_per_input, constant)?;
            }
        }
        let mut embedding_rows = Vec::new();
        embedding_rows
            .try_reserve_exact(num_values)
            .map_err(|_| Error::OutOfMemory { what: format!("embedding rows [{rows}, {stride}] f32") })?;
        embedding_rows.resize(num_values, 0.0);
        Ok(Self {
            capacity,
            index: backend.create_index(capacity.num_words)?,
            embedding_rows,
            main,
            approx,
            maps: backend.create_matrix("maps", 1, capacity.num_map_values)?,
            token_scores: backend.create_matrix("token_scores", thresholds.width(), rows)?,
        })
    }
}

/// Writes the embedding rows of a chunk, one input after another, `[N, row_stride(embedding_size)]`, which `memory` is for. Those that all inputs
/// have are there already.
pub fn write_embeddings<B: Backend>(
    backend: &mut B,
    network: &Network,
    inputs: &[Tokens],
    memory: &mut [f32],
    embeddings: &mut B::Matrix,
) -> Result<()> {
    if network.constant_embeddings().is_some() {
        return Ok(());
    }
    let embed = network.embedder()?;
    let stride = row_stride(network.embedding_size());
    let rows = &mut memory[..inputs.iter().map(Tokens::len).sum::<usize>() * stride];
    let mut rest = &mut *rows;
    let mut tasks = Vec::with_capacity(inputs.len());
    for input in inputs {
        let (own, others) = rest.split_at_mut(input.len() * stride);
        tasks.push((input, own));
        rest = others;
    }
    let compute = |(input, rows): (&Tokens, &mut [f32])| embed(input, rows);
    if B::COMPUTES_ON_HOST {
        tasks.into_iter().for_each(compute)
    } else {
        for_each(tasks, compute)
    }
    backend.write_matrix(embeddings, 0, rows)
}
