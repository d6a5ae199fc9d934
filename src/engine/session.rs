//! A model's networks on one backend, their scratch memory, and the run of one chunk.

use super::chunks::{ChunkLimits, Picks, check_lengths, row_bytes, split};
use super::report::{ChunkWords, report, scored_layers};
use super::request::{Classification, Outputs};
use crate::backend::{
    BackTracking, BackTrackingRule, Backend, ChunkLayout, MapKind, MatrixShape, Region, Stage, kept_level, logit,
    sigmoid,
};
use crate::error::{Error, Result};
use crate::models::{Encoder, HeadRows, MapTarget, Model, Tokens, Workspace};
use crate::platform::Pause;
use crate::pruning::Prune;

/// A model's networks on a backend.
pub struct Session<B: Backend> {
    backend: B,
    main: Encoder<B>,
    approx: Option<Encoder<B>>,
    /// logit(p) of every layer, `[1, L]`; zeros without learned thresholds.
    thresholds: B::Matrix,
    scratch: Option<Scratch<B>>,
    limits: ChunkLimits,
}

/// The memory that chunks use one after another. It only grows: a chunk of a familiar size allocates nothing.
struct Scratch<B: Backend> {
    capacity: Capacity,
    index: B::Index,
    main: Workspace<B>,
    approx: Option<Workspace<B>>,
    /// `[1, L · num_map_values]`
    maps: B::Matrix,
    /// `[L, N]`
    token_scores: B::Matrix,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Capacity {
    num_rows: usize,
    num_samples: usize,
    num_map_values: usize,
    num_words: usize,
}

impl Capacity {
    /// Enough for a chunk, rounded up within the device's limits so that similar chunks share it.
    fn new(layout: &ChunkLayout, with_maps: bool, limits: &ChunkLimits) -> Self {
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

impl<B: Backend> Session<B> {
    /// Uploads the networks, and waits until the device has taken them.
    #[cfg(any(feature = "gpu", test))]
    pub async fn new(backend: B, model: &Model, max_buffer_bytes: Option<u64>) -> Result<Self> {
        let mut session = Self::new_now(backend, model, max_buffer_bytes)?;
        session.backend.read(&[]).await?;
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
        let mut logits = threshold_logits(model);
        logits.resize(thresholds.stride(), 0.0);
        backend.write_matrix(&mut thresholds, 0, &logits)?;
        let limits = ChunkLimits {
            max_binding_bytes: backend.max_binding_bytes().min(max_buffer_bytes.unwrap_or(u64::MAX)),
            max_multiply_adds: backend.max_chunk_multiply_adds(),
            row_bytes: row_bytes(model),
        };
        Ok(Self { backend, main, approx, thresholds, scratch: None, limits })
    }

    /// The backend, for what it counts and measures.
    pub fn backend(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Runs the inputs chunk by chunk.
    pub async fn classify(
        &mut self,
        model: &Model,
        tokens: Vec<Tokens>,
        prune: &Prune,
        outputs: &Outputs,
        pause: &Pause,
    ) -> Result<Vec<Classification>> {
        check_rule(model, prune)?;
        let lengths: Vec<usize> = tokens.iter().map(Tokens::len).collect();
        check_lengths(prune, &lengths)?;
        Picks::new(prune, &lengths, model.config().num_hidden_layers)?;
        let mut results = Vec::with_capacity(tokens.len());
        let mut rest = tokens.into_iter();
        for chunk in split(&lengths, model.config(), *prune != Prune::Dense, &self.limits)? {
            let tokens: Vec<Tokens> = rest.by_ref().take(chunk.len()).collect();
            results.extend(self.run_chunk(model, tokens, prune, outputs, pause).await?);
        }
        Ok(results)
    }

    /// From tokens to logits and kept tokens; nothing is read back in between.
    async fn run_chunk(
        &mut self,
        model: &Model,
        tokens: Vec<Tokens>,
        prune: &Prune,
        outputs: &Outputs,
        pause: &Pause,
    ) -> Result<Vec<Classification>> {
        let num_layers = model.config().num_hidden_layers;
        let lengths: Vec<usize> = tokens.iter().map(Tokens::len).collect();
        let picks = Picks::new(prune, &lengths, num_layers)?;
        let (layout, words) = ChunkLayout::host_words(&lengths, num_layers, &picks.k);
        let mut scratch = self.scratch_for(Capacity::new(&layout, *prune != Prune::Dense, &self.limits))?;
        let outcome = self.record(&mut scratch, model, &tokens, prune, layout, &words, &picks.bounds, pause).await;
        let read = match outcome {
            Ok(head) => self.read(&scratch, &layout, prune, outputs, head).await,
            Err(error) => Err(error),
        };
        self.scratch = Some(scratch);
        Ok(report(model, tokens, prune, &layout, &read?))
    }

    /// The scratch memory, grown if the chunk needs more.
    fn scratch_for(&mut self, needed: Capacity) -> Result<Scratch<B>> {
        let capacity = match self.scratch.take() {
            Some(scratch) if scratch.capacity.max(needed) == scratch.capacity => return Ok(scratch),
            Some(scratch) => scratch.capacity.max(needed),
            None => needed,
        };
        let backend = &mut self.backend;
        backend.release();
        let (rows, samples) = (capacity.num_rows, capacity.num_samples);
        let main = self.main.workspace(backend, rows, samples)?;
        let approx = self.approx.as_ref().map(|approx| approx.workspace(backend, rows, samples)).transpose()?;
        Ok(Scratch {
            capacity,
            index: backend.create_index(capacity.num_words)?,
            main,
            approx,
            maps: backend.create_matrix("maps", 1, capacity.num_map_values)?,
            token_scores: backend.create_matrix("token_scores", self.thresholds.width(), rows)?,
        })
    }

    /// The rule's passes, in the order of the paper.
    #[expect(clippy::too_many_arguments, reason = "one chunk's request and its memory")]
    async fn record(
        &mut self,
        scratch: &mut Scratch<B>,
        model: &Model,
        tokens: &[Tokens],
        prune: &Prune,
        layout: ChunkLayout,
        words: &[u32],
        bounds: &[usize],
        pause: &Pause,
    ) -> Result<HeadRows> {
        let Self { backend, main, approx, thresholds, .. } = self;
        let Scratch { index, main: workspace, approx: approx_workspace, maps, token_scores, .. } = scratch;
        let constants = &model.config().prune;
        backend.begin_chunk(index, layout, words)?;
        backend.write_matrix(&mut workspace.embeddings, 0, &model.main().embed(tokens)?)?;
        workspace.write_patches(backend, tokens)?;
        let top_k = BackTrackingRule::TopK { impact_weight: constants.topk_impact_weight };
        let rule = match prune {
            Prune::Dense => {
                main.forward_dense(backend, workspace, index, &layout, None, pause).await?;
                main.head(backend, workspace, index, &layout, HeadRows::FirstOfAll)?;
                return Ok(HeadRows::FirstOfAll);
            }
            Prune::Forward(_) => {
                write_forward_ends(backend, index, &layout, tokens)?;
                main.forward_choosing(backend, workspace, index, bounds, maps, token_scores, pause).await?;
                main.head(backend, workspace, index, &layout, HeadRows::Kept)?;
                return Ok(HeadRows::Kept);
            }
            Prune::Oracle(_) => {
                let target = MapTarget { kind: MapKind::MeanProbs, maps };
                main.forward_dense(backend, workspace, index, &layout, Some(target), pause).await?;
                top_k
            }
            Prune::TopK(_) | Prune::Concrete => {
                let (Some(approx), Some(network), Some(workspace)) = (approx, model.approx(), approx_workspace) else {
                    return Err(needs(prune, "an ApproxNet"));
                };
                backend.write_matrix(&mut workspace.embeddings, 0, &network.embed(tokens)?)?;
                workspace.write_patches(backend, tokens)?;
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
                approx.forward_dense(backend, workspace, index, &layout, Some(target), pause).await?;
                rule
            }
        };
        backend.begin_stage(Stage::BackTracking);
        backend.back_tracking(BackTracking { rule, maps, thresholds }, index, token_scores)?;
        backend.pack_rows(kept_level(0)..kept_level(layout.num_layers) + 1, index)?;
        main.forward_kept(backend, workspace, index, bounds, pause).await?;
        main.head(backend, workspace, index, &layout, HeadRows::Kept)?;
        Ok(HeadRows::Kept)
    }

    /// Logits, kept tokens and what else was asked for, with one mapping.
    async fn read(
        &mut self,
        scratch: &Scratch<B>,
        layout: &ChunkLayout,
        prune: &Prune,
        outputs: &Outputs,
        head: HeadRows,
    ) -> Result<ChunkWords> {
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

/// logit(p) of every layer; empty without learned thresholds.
pub fn threshold_logits(model: &Model) -> Vec<f32> {
    model.p_logits().unwrap_or(&[]).iter().map(|&p_logit| logit(sigmoid(p_logit))).collect()
}

fn needs(prune: &Prune, what: &str) -> Error {
    Error::RuleNeeds { rule: prune.to_string(), needs: format!("{what}, and this model has none") }
}

/// [`Error::RuleNeeds`] when the model lacks what a rule looks at.
fn check_rule(model: &Model, prune: &Prune) -> Result<()> {
    if prune.needs_approx_net() && !model.has_approx_net() {
        return Err(needs(prune, "an ApproxNet (folder approx/)"));
    }
    if *prune == Prune::Concrete && !model.has_thresholds() {
        return Err(needs(prune, "learned thresholds (tensors encoder.layer.{i}.p_logit)"));
    }
    Ok(())
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
