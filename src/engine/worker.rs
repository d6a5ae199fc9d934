//! One chunk, from tokens to results: the memory that it needs, and the order of its passes.

use std::mem;

use super::chunks::{ChunkLimits, Picks};
use super::report::{ChunkWords, report, scored_layers};
use super::request::{Classification, Outputs};
use crate::backend::{
    BackTracking, BackTrackingRule, Backend, ChunkLayout, MapKind, MatrixShape, Region, Stage, kept_level,
};
use crate::error::{Error, Result};
use crate::models::{Model, Network, Tokens};
use crate::network::{Encoder, HeadRows, MapTarget, Workspace};
use crate::parallel::for_each;
use crate::platform::Pause;
use crate::pruning::Prune;
use crate::tensor::row_stride;

/// A model's networks on a device.
pub struct Networks<B: Backend> {
    pub main: Encoder<B>,
    pub approx: Option<Encoder<B>>,
    /// logit(p) of every layer, `[1, L]`; zeros without learned thresholds.
    pub thresholds: B::Matrix,
    pub limits: ChunkLimits,
}

/// What is asked of every chunk of a request.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    pub model: &'a Model,
    pub prune: &'a Prune,
    pub outputs: &'a Outputs,
    pub pause: &'a Pause,
}

/// Runs chunks one after another.
pub struct Worker<B: Backend> {
    pub backend: B,
    pub(super) scratch: Option<Scratch<B>>,
}

/// The memory that chunks use one after another. It only grows: a chunk of a familiar size allocates nothing.
pub(super) struct Scratch<B: Backend> {
    capacity: Capacity,
    index: B::Index,
    /// Of either network, on the host
    embedding_rows: Vec<f32>,
    pub main: Workspace<B>,
    approx: Option<Workspace<B>>,
    /// `[1, L · num_map_values]`
    maps: B::Matrix,
    /// `[L, N]`
    token_scores: B::Matrix,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Capacity {
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

impl<B: Backend> Worker<B> {
    pub fn new(backend: B) -> Self {
        Self { backend, scratch: None }
    }

    /// From tokens to logits and kept tokens; nothing is read back in between.
    pub async fn run_chunk(
        &mut self,
        networks: &Networks<B>,
        job: Job<'_>,
        tokens: Vec<Tokens>,
    ) -> Result<Vec<Classification>> {
        let Job { model, prune, .. } = job;
        let num_layers = model.config().num_hidden_layers;
        let lengths: Vec<usize> = tokens.iter().map(Tokens::len).collect();
        let picks = Picks::new(prune, &lengths, num_layers)?;
        let (layout, words) = ChunkLayout::host_words(&lengths, num_layers, &picks.k);
        let capacity = Capacity::new(&layout, *prune != Prune::Dense, &networks.limits);
        let mut scratch = self.scratch_for(networks, capacity)?;
        let outcome = async {
            self.backend.begin_chunk(&mut scratch.index, layout, &words)?;
            self.record(&mut scratch, networks, job, &tokens, &layout, &picks.bounds).await
        };
        let read = match outcome.await {
            Ok(head) => self.read(&scratch, &layout, job, head).await,
            Err(error) => Err(error),
        };
        self.scratch = Some(scratch);
        Ok(report(model, tokens, prune, &layout, &read?))
    }

    /// The scratch memory, grown if the chunk needs more.
    fn scratch_for(&mut self, networks: &Networks<B>, needed: Capacity) -> Result<Scratch<B>> {
        let Networks { main, approx, thresholds, .. } = networks;
        let capacity = match self.scratch.take() {
            Some(scratch) if scratch.capacity.max(needed) == scratch.capacity => return Ok(scratch),
            Some(scratch) => scratch.capacity.max(needed),
            None => needed,
        };
        let backend = &mut self.backend;
        backend.release();
        let (rows, samples) = (capacity.num_rows, capacity.num_samples);
        let patches = main.patches(backend, rows)?;
        let main = main.workspace(backend, rows, samples, patches)?;
        let approx = approx.as_ref().map(|approx| approx.workspace(backend, rows, samples, None)).transpose()?;
        let stride = main.embeddings.stride().max(approx.as_ref().map_or(0, |approx| approx.embeddings.stride()));
        let mut embedding_rows = Vec::new();
        embedding_rows
            .try_reserve_exact(rows * stride)
            .map_err(|_| Error::OutOfMemory { what: format!("embedding rows [{rows}, {stride}] f32") })?;
        embedding_rows.resize(rows * stride, 0.0);
        Ok(Scratch {
            capacity,
            index: backend.create_index(capacity.num_words)?,
            embedding_rows,
            main,
            approx,
            maps: backend.create_matrix("maps", 1, capacity.num_map_values)?,
            token_scores: backend.create_matrix("token_scores", thresholds.width(), rows)?,
        })
    }

    /// The rule's passes, in the order of the paper.
    async fn record(
        &mut self,
        scratch: &mut Scratch<B>,
        networks: &Networks<B>,
        job: Job<'_>,
        tokens: &[Tokens],
        layout: &ChunkLayout,
        bounds: &[usize],
    ) -> Result<HeadRows> {
        let backend = &mut self.backend;
        let Networks { main, approx, thresholds, .. } = networks;
        let Job { model, prune, pause, .. } = job;
        let Scratch { index, embedding_rows, main: workspace, approx: approx_workspace, maps, token_scores, .. } =
            scratch;
        let constants = &model.config().prune;
        backend.write_matrix(&mut workspace.embeddings, 0, embed::<B>(model.main(), tokens, embedding_rows)?)?;
        workspace.write_patches(backend, tokens)?;
        let top_k = BackTrackingRule::TopK { impact_weight: constants.topk_impact_weight };
        let rule = match prune {
            Prune::Dense => {
                main.forward_dense(backend, workspace, index, layout, None, pause).await?;
                main.head(backend, workspace, index, layout, HeadRows::FirstOfAll)?;
                return Ok(HeadRows::FirstOfAll);
            }
            Prune::Forward(_) => {
                write_forward_ends(backend, index, layout, tokens)?;
                main.forward_choosing(backend, workspace, index, bounds, maps, token_scores, pause).await?;
                main.head(backend, workspace, index, layout, HeadRows::Kept)?;
                return Ok(HeadRows::Kept);
            }
            Prune::Oracle(_) => {
                let target = MapTarget { kind: MapKind::MeanProbs, maps };
                main.forward_dense(backend, workspace, index, layout, Some(target), pause).await?;
                top_k
            }
            Prune::TopK(_) | Prune::Concrete => {
                let (Some(approx), Some(network), Some(approx_workspace)) = (approx, model.approx(), approx_workspace)
                else {
                    return Err(needs(prune, "an ApproxNet"));
                };
                backend.write_matrix(
                    &mut approx_workspace.embeddings,
                    0,
                    embed::<B>(network, tokens, embedding_rows)?,
                )?;
                let (kind, rule) = match prune {
                    Prune::Concrete => (
                        MapKind::MeanPhi,
                        BackTrackingRule::Concrete {
                            impact_weight: constants.concrete_impact_weight,
                            temperature: constants.concrete_temperature,
                            hard_threshold: constants.concrete_hard_threshold,
                        },
                    ),
                    _ => (MapKind::MeanProbs, top_k),
                };
                let target = MapTarget { kind, maps };
                // Both networks see the same patches.
                mem::swap(&mut workspace.patches, &mut approx_workspace.patches);
                let outcome = approx.forward_dense(backend, approx_workspace, index, layout, Some(target), pause).await;
                mem::swap(&mut workspace.patches, &mut approx_workspace.patches);
                outcome?;
                rule
            }
        };
        backend.begin_stage(Stage::BackTracking);
        backend.back_tracking(BackTracking { rule, maps, thresholds }, index, token_scores)?;
        backend.pack_rows(kept_level(0)..kept_level(layout.num_layers) + 1, index)?;
        main.forward_kept(backend, workspace, index, bounds, pause).await?;
        main.head(backend, workspace, index, layout, HeadRows::Kept)?;
        Ok(HeadRows::Kept)
    }

    /// Logits, kept tokens and what else was asked for, with one mapping.
    async fn read(
        &mut self,
        scratch: &Scratch<B>,
        layout: &ChunkLayout,
        job: Job<'_>,
        head: HeadRows,
    ) -> Result<ChunkWords> {
        let Job { prune, outputs, .. } = job;
        self.backend.begin_stage(Stage::Host);
        let pruned = head == HeadRows::Kept;
        let mut regions = vec![Region::Matrix(&scratch.main.logits, layout.num_samples)];
        if pruned {
            regions.push(Region::Index(&scratch.index, layout.counts(0)..layout.num_words()));
            // Read whether asked for or not: they tell whether ApproxNet's numbers overflowed.
            regions.push(Region::Matrix(&scratch.token_scores, layout.num_layers));
            if outputs.attention_maps {
                regions.push(Region::Matrix(&scratch.maps, 1));
            }
        }
        let mut words = self.backend.read(&regions).await?.into_iter();
        let mut next = |wanted: bool| if wanted { words.next() } else { None };
        let floats = |words: Vec<u32>| words.into_iter().map(f32::from_bits).collect::<Vec<f32>>();
        let read = ChunkWords {
            logits: next(true).map(floats).unwrap_or_default(),
            logits_stride: scratch.main.logits.stride(),
            kept: next(pruned),
            token_scores: next(pruned).map(floats),
            scores_stride: scratch.token_scores.stride(),
            maps: next(pruned && outputs.attention_maps).map(floats),
        };
        // What overflowed must not pass for an answer: neither the logits nor the scores that chose the tokens.
        let are_finite = |values: &[f32], stride: usize, width: usize, num_rows: usize| {
            values.chunks(stride).take(num_rows).all(|row| row[..width].iter().all(|value| value.is_finite()))
        };
        let num_labels = scratch.main.logits.width();
        let num_scored = scored_layers(prune, layout.num_layers);
        let scores = read.token_scores.as_deref().unwrap_or_default();
        if !are_finite(&read.logits, read.logits_stride, num_labels, layout.num_samples)
            || !are_finite(scores, read.scores_stride, layout.num_tokens, num_scored)
        {
            return Err(Error::Overflow { rule: prune.to_string() });
        }
        let token_scores = read.token_scores.filter(|_| outputs.token_scores);
        Ok(ChunkWords { token_scores, ..read })
    }
}

/// The embedding rows of a chunk, one input after another, `[N, row_stride(hidden_size)]`, in `memory`.
fn embed<'a, B: Backend>(network: &Network, inputs: &[Tokens], memory: &'a mut [f32]) -> Result<&'a [f32]> {
    let embed = network.embedder()?;
    let stride = row_stride(network.config.hidden_size);
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
    Ok(rows)
}

/// The forward rule starts with all tokens in K_0 and ends with `[CLS]` in K_L.
fn write_forward_ends<B: Backend>(
    backend: &mut B,
    index: &mut B::Index,
    layout: &ChunkLayout,
    tokens: &[Tokens],
) -> Result<()> {
    let lengths: Vec<usize> = tokens.iter().map(Tokens::len).collect();
    let counts: Vec<u32> = lengths.iter().map(|&length| length as u32).collect();
    backend.write_index(index, layout.counts(0), &counts)?;
    let positions: Vec<u32> = lengths.iter().flat_map(|&length| 0..length as u32).collect();
    backend.write_index(index, layout.kept(0), &positions)?;
    backend.write_index(index, layout.counts(layout.num_layers), &vec![1; lengths.len()])?;
    backend.write_index(index, layout.kept(layout.num_layers), &vec![0; positions.len()])
}

pub fn needs(prune: &Prune, what: &str) -> Error {
    Error::RuleNeeds { rule: prune.to_string(), needs: format!("{what}, and this model has none") }
}
