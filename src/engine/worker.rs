//! One chunk, from tokens to results: the order of its passes.

use std::mem;

use super::report::{ChunkWords, report};
use super::request::{Classification, Outputs};
use super::scratch::{Capacity, Networks, Scratch, write_embeddings};
use crate::backend::{
    BackTracking, Backend, ChunkLayout, MapKind, MatrixShape, Region, SelectTokens, Selection, Stage, kept_level,
};
use crate::error::{Error, Result};
use crate::models::{Model, Tokens};
use crate::network::{HeadRows, Hook, KeepMaps, NoMaps, Sets};
use crate::platform::Pause;
use crate::pruning::{MapsOf, Plan, Prune, Search};
use crate::tensor::row_stride;

/// What is asked of every chunk of a request.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    pub model: &'a Model,
    pub prune: &'a Prune,
    pub outputs: &'a Outputs,
    pub pause: &'a Pause,
}

/// A chunk that the device runs.
pub struct Started<B: Backend> {
    tokens: Vec<Tokens>,
    plan: Plan,
    layout: ChunkLayout,
    /// Of the outputs and of the token scores.
    strides: [usize; 2],
    pending: B::Pending,
}

/// Runs chunks one after another.
pub struct Worker<B: Backend> {
    pub backend: B,
    pub(super) scratch: Option<Scratch<B>>,
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
        let started = self.start_chunk(networks, job, tokens, &mut None, &mut Vec::new()).await?;
        self.finish_chunk(job, started).await
    }

    /// Has the device run a chunk. On a GPU that may be while the one before is `running`: the memory that they share is written in the order of
    /// the submits. Where chunks do not overlap, or this one needs more memory than there is, that one's results come first.
    pub async fn start_chunk(
        &mut self,
        networks: &Networks<B>,
        job: Job<'_>,
        tokens: Vec<Tokens>,
        running: &mut Option<Started<B>>,
        results: &mut Vec<Classification>,
    ) -> Result<Started<B>> {
        let Job { model, prune, .. } = job;
        let num_layers = model.config().num_hidden_layers;
        let lengths: Vec<usize> = tokens.iter().map(Tokens::len).collect();
        let plan = Plan::of(prune, &model.facts(), &lengths)?;
        let (layout, words) = ChunkLayout::host_words(&lengths, num_layers, &plan.k, plan.num_anchors);
        let capacity = Capacity::new(&layout, plan.has_maps(), &networks.limits);
        let is_enough = self.scratch.as_ref().is_some_and(|scratch| scratch.holds(capacity));
        if !(is_enough && self.backend.overlaps())
            && let Some(before) = running.take()
        {
            results.extend(self.finish_chunk(job, before).await?);
        }
        let mut scratch = Scratch::at_least(capacity, self.scratch.take(), &mut self.backend, networks, model)?;
        let outcome = async {
            self.backend.begin_chunk(&mut scratch.index, layout, &words)?;
            self.record(&mut scratch, networks, job, &tokens, &layout, &plan).await
        };
        let pending = match outcome.await {
            Ok(()) => self.submit(&scratch, networks, &layout, job, &plan),
            Err(error) => {
                // What was recorded of it is not to run with the next one.
                self.backend.release();
                Err(error)
            }
        };
        let (outputs, _) = outputs(networks, &scratch, &layout, &plan);
        let strides = [outputs.stride(), scratch.token_scores.stride()];
        self.scratch = Some(scratch);
        Ok(Started { tokens, plan, layout, strides, pending: pending? })
    }

    /// The results of a chunk that was started.
    pub async fn finish_chunk(&mut self, job: Job<'_>, started: Started<B>) -> Result<Vec<Classification>> {
        let Started { tokens, plan, layout, strides, pending } = started;
        let words = self.backend.finish(pending).await?;
        let words = chunk_words(words, strides, &layout, job, &plan)?;
        Ok(report(job.model, tokens, job.prune, &plan, &layout, &words, job.outputs))
    }

    /// The passes that the plan asks for, in the order of the paper.
    async fn record(
        &mut self,
        scratch: &mut Scratch<B>,
        networks: &Networks<B>,
        job: Job<'_>,
        tokens: &[Tokens],
        layout: &ChunkLayout,
        plan: &Plan,
    ) -> Result<()> {
        let backend = &mut self.backend;
        let Networks { main, approx, thresholds, .. } = networks;
        let Job { model, prune, pause, .. } = job;
        let Scratch { index, embedding_rows, main: workspace, approx: approx_workspace, maps, token_scores, .. } =
            scratch;
        let bounds = plan.bounds.as_slice();
        write_embeddings(backend, model.main(), tokens, embedding_rows, &mut workspace.embeddings)?;
        workspace.write_patches(backend, tokens)?;
        match &plan.search {
            Search::Nothing => {
                main.forward(backend, workspace, index, layout, Sets::All, &mut NoMaps, pause).await?;
                return main.head(backend, workspace, index, layout, HeadRows::FirstOfAll);
            }
            Search::LayerByLayer { selections } => {
                write_ends(backend, index, layout, tokens, plan.num_anchors)?;
                backend.pack_rows(kept_level(0)..kept_level(1), index)?;
                let mut hook = Choosing { selections, num_anchors: plan.num_anchors, maps, token_scores };
                let sets = Sets::Chosen { bounds };
                main.forward(backend, workspace, index, layout, sets, &mut hook, pause).await?;
            }
            Search::BackTracking { maps_of, kind, rule } => {
                let mut keep = KeepMaps { kind: *kind, maps };
                match (maps_of, approx, model.approx(), approx_workspace) {
                    (MapsOf::Model, ..) => {
                        main.forward(backend, workspace, index, layout, Sets::All, &mut keep, pause).await?;
                    }
                    (MapsOf::ApproxNet, Some(approx), Some(network), Some(approx_workspace)) => {
                        let embeddings = &mut approx_workspace.embeddings;
                        write_embeddings(backend, network, tokens, embedding_rows, embeddings)?;
                        // Both networks see the same patches.
                        mem::swap(&mut workspace.patches, &mut approx_workspace.patches);
                        let outcome =
                            approx.forward(backend, approx_workspace, index, layout, Sets::All, &mut keep, pause).await;
                        mem::swap(&mut workspace.patches, &mut approx_workspace.patches);
                        outcome?;
                    }
                    // The plan has asked the same model.
                    (MapsOf::ApproxNet, ..) => {
                        let needs = "an ApproxNet, and this model has none".to_owned();
                        return Err(Error::RuleNeeds { rule: prune.to_string(), needs });
                    }
                }
                backend.begin_stage(Stage::BackTracking);
                let call = BackTracking { rule: *rule, maps, thresholds, num_anchors: plan.num_anchors };
                backend.back_tracking(call, index, token_scores)?;
                backend.pack_rows(kept_level(0)..kept_level(layout.num_layers) + 1, index)?;
                let sets = Sets::Known { bounds };
                main.forward(backend, workspace, index, layout, sets, &mut NoMaps, pause).await?;
            }
        }
        main.head(backend, workspace, index, layout, HeadRows::Kept)
    }

    /// Has logits, kept tokens and what else was asked for read, with one mapping.
    fn submit(
        &mut self,
        scratch: &Scratch<B>,
        networks: &Networks<B>,
        layout: &ChunkLayout,
        job: Job<'_>,
        plan: &Plan,
    ) -> Result<B::Pending> {
        self.backend.begin_stage(Stage::Host);
        let (outputs, num_rows) = outputs(networks, scratch, layout, plan);
        let mut regions = vec![Region::Matrix(outputs, num_rows)];
        if plan.has_maps() {
            regions.push(Region::Index(&scratch.index, layout.counts(0)..layout.num_words()));
            // Read whether asked for or not: they tell whether ApproxNet's numbers overflowed.
            regions.push(Region::Matrix(&scratch.token_scores, layout.num_layers));
            if job.outputs.attention_maps {
                regions.push(Region::Matrix(&scratch.maps, 1));
            }
        }
        self.backend.submit(&regions)
    }
}

/// The matrix of the logits, or of the hidden states of an embedding, and how many of its rows count.
fn outputs<'s, B: Backend>(
    networks: &Networks<B>,
    scratch: &'s Scratch<B>,
    layout: &ChunkLayout,
    plan: &Plan,
) -> (&'s B::Matrix, usize) {
    if plan.outputs_all_tokens {
        return (&scratch.main.hidden_states, layout.num_tokens);
    }
    let at = if plan.has_maps() { HeadRows::Kept } else { HeadRows::FirstOfAll };
    (networks.main.outputs(&scratch.main, at), layout.num_samples * plan.num_anchors)
}

/// The regions of a chunk, taken apart.
fn chunk_words(
    words: Vec<Vec<u32>>,
    [outputs_stride, scores_stride]: [usize; 2],
    layout: &ChunkLayout,
    job: Job<'_>,
    plan: &Plan,
) -> Result<ChunkWords> {
    let Job { model, prune, outputs, .. } = job;
    let pruned = plan.has_maps();
    let mut words = words.into_iter();
    let mut next = |wanted: bool| if wanted { words.next() } else { None };
    let floats = |words: Vec<u32>| words.into_iter().map(f32::from_bits).collect::<Vec<f32>>();
    let read = ChunkWords {
        outputs: next(true).map(floats).unwrap_or_default(),
        outputs_stride,
        kept: next(pruned),
        token_scores: next(pruned).map(floats),
        scores_stride,
        maps: next(pruned && outputs.attention_maps).map(floats),
    };
    // What overflowed must not pass for an answer: neither the logits nor the scores that chose the tokens. (Layer by layer those are sums
    // of whole numbers, in which a NaN is 0; there the logits tell.)
    let width = match model.config().labels.len() {
        0 => model.config().hidden_size,
        num_labels => (plan.num_anchors - 1) * row_stride(num_labels) + num_labels,
    };
    let are_finite = |values: &[f32], stride: usize, width: usize, num_rows: usize| {
        values.chunks(stride).take(num_rows).all(|row| row[..width].iter().all(|value| value.is_finite()))
    };
    let scores = read.token_scores.as_deref().unwrap_or_default();
    if !are_finite(&read.outputs, outputs_stride, width, usize::MAX)
        || !are_finite(scores, scores_stride, layout.num_tokens, plan.num_scored_layers())
    {
        return Err(Error::Overflow { rule: prune.to_string() });
    }
    let token_scores = read.token_scores.filter(|_| outputs.token_scores);
    Ok(ChunkWords { token_scores, ..read })
}

/// Each layer's own attention chooses who goes on.
struct Choosing<'a, B: Backend> {
    selections: &'a [Selection],
    num_anchors: usize,
    maps: &'a mut B::Matrix,
    token_scores: &'a mut B::Matrix,
}

impl<B: Backend> Hook<B> for Choosing<'_, B> {
    fn maps(&mut self) -> Option<(MapKind, &mut B::Matrix)> {
        Some((MapKind::MeanProbs, &mut *self.maps))
    }

    fn choose(&mut self, backend: &mut B, layer: usize, index: &mut B::Index) -> Result<()> {
        // After the last layer only the anchors count, whatever their attention.
        if let Some(&selection) = self.selections.get(layer) {
            let call = SelectTokens { maps: self.maps, layer, selection, num_anchors: self.num_anchors };
            backend.select_tokens(call, index, self.token_scores)?;
        }
        backend.pack_rows(kept_level(layer + 1)..kept_level(layer + 2), index)
    }
}

/// All tokens are in K_0, and the anchors in K_L.
fn write_ends<B: Backend>(
    backend: &mut B,
    index: &mut B::Index,
    layout: &ChunkLayout,
    tokens: &[Tokens],
    num_anchors: usize,
) -> Result<()> {
    for (layer, most) in [(0, usize::MAX), (layout.num_layers, num_anchors)] {
        let counts: Vec<u32> = tokens.iter().map(|tokens| tokens.len().min(most) as u32).collect();
        backend.write_index(index, layout.counts(layer), &counts)?;
        // What stands behind a sample's count is not looked at.
        let positions: Vec<u32> = tokens.iter().flat_map(|tokens| 0..tokens.len() as u32).collect();
        backend.write_index(index, layout.kept(layer), &positions)?;
    }
    Ok(())
}
