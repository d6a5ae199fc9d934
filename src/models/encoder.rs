//! The transformer encoder on a device, and the one layer loop that both backends and all rules share.

use super::upload::{Embedding, Encoder, Layer, NormOrder, Pooler};
use super::workspace::Workspace;
use crate::backend::{
    ALL, Activation, Attention, AttentionMap, Backend, ChunkLayout, Linear, MapKind, MatrixShape, Rows, Stage, check,
    kept_level,
};
use crate::error::Result;
use crate::platform::Pause;

/// Where a pass leaves the hidden states of each sample's `[CLS]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadRows {
    /// All tokens are there; the first row of each sample is picked.
    FirstOfAll,
    /// Only K_L is there.
    Kept,
}

/// What a pass does with attention maps.
pub(crate) struct MapTarget<'a, B: Backend> {
    pub kind: MapKind,
    /// `[1, L · num_map_values]`
    pub maps: &'a mut B::Matrix,
}

impl<B: Backend> Encoder<B> {
    /// A pass over all tokens: hidden states of every layer, or only the attention maps.
    ///
    /// With `maps`, the pass ends at the last layer's map, and there are no hidden states after it.
    pub async fn forward_dense(
        &self,
        backend: &mut B,
        workspace: &mut Workspace<B>,
        index: &B::Index,
        layout: &ChunkLayout,
        mut maps: Option<MapTarget<'_, B>>,
        pause: &Pause,
    ) -> Result<()> {
        let all = Rows { level: ALL, bound: layout.num_tokens };
        let is_approx = maps.is_some();
        let stage = |stage: Stage| if is_approx { Stage::ApproxNet } else { stage };
        backend.begin_stage(stage(Stage::Embeddings));
        self.embed(backend, workspace, index, all, Source::All)?;
        for (layer, weights) in self.layers.iter().enumerate() {
            backend.begin_stage(stage(Stage::Layer(layer)));
            let s = self.heads.stride();
            let is_last_map = maps.is_some() && layer + 1 == self.layers.len();
            let features = if is_last_map { 0..2 * s } else { 0..3 * s };
            let Workspace { hidden_states, projected, qkv, .. } = workspace;
            let input = self.attention_input(backend, weights, hidden_states, index, all, projected)?;
            project(backend, input, weights, features, index, all, qkv)?;
            match &mut maps {
                Some(target) => self.attention_map(backend, workspace, target, layer, index, all, !is_last_map)?,
                None => self.attend(backend, workspace, index, all, all, Source::All)?,
            }
            if is_last_map {
                break;
            }
            self.finish_layer(backend, workspace, weights, index, all, Source::All)?;
            pause().await;
        }
        Ok(())
    }

    /// A pass over the kept tokens: layer l computes keys and values for K_l and everything else for K_{l+1} (paper, section 3).
    ///
    /// `bounds[l]` is an upper bound of Σ |K_l| over the samples.
    pub async fn forward_kept(
        &self,
        backend: &mut B,
        workspace: &mut Workspace<B>,
        index: &B::Index,
        bounds: &[usize],
        pause: &Pause,
    ) -> Result<()> {
        let rows = |layer: usize| Rows { level: kept_level(layer), bound: bounds[layer] };
        backend.begin_stage(Stage::Embeddings);
        self.embed(backend, workspace, index, rows(0), Source::Gathered)?;
        for (layer, weights) in self.layers.iter().enumerate() {
            backend.begin_stage(Stage::Layer(layer));
            self.kept_layer(backend, workspace, weights, index, rows(layer), rows(layer + 1))?;
            pause().await;
        }
        Ok(())
    }

    /// The forward rule: layer l scores all of K_l, and its own attention decides K_{l+1}.
    #[expect(clippy::too_many_arguments, reason = "the pass and the tokens it chooses are one loop")]
    pub async fn forward_choosing(
        &self,
        backend: &mut B,
        workspace: &mut Workspace<B>,
        index: &mut B::Index,
        bounds: &[usize],
        maps: &mut B::Matrix,
        token_scores: &mut B::Matrix,
        pause: &Pause,
    ) -> Result<()> {
        let rows = |layer: usize| Rows { level: kept_level(layer), bound: bounds[layer] };
        let num_layers = self.layers.len();
        let mut target = MapTarget { kind: MapKind::MeanProbs, maps };
        backend.begin_stage(Stage::Embeddings);
        backend.pack_rows(kept_level(0)..kept_level(1), index)?;
        self.embed(backend, workspace, index, rows(0), Source::All)?;
        for (layer, weights) in self.layers.iter().enumerate() {
            let (keys, queries) = (rows(layer), rows(layer + 1));
            backend.begin_stage(Stage::Layer(layer));
            if layer + 1 < num_layers {
                let s = self.heads.stride();
                let Workspace { hidden_states, projected, qkv, .. } = workspace;
                let input = self.attention_input(backend, weights, hidden_states, index, keys, projected)?;
                project(backend, input, weights, 0..3 * s, index, keys, qkv)?;
                self.attention_map(backend, workspace, &mut target, layer, index, keys, false)?;
                backend.forward_top_k(target.maps, layer, index, token_scores)?;
                backend.pack_rows(kept_level(layer + 1)..kept_level(layer + 2), index)?;
                let Workspace { hidden_states, residual, qkv, query, .. } = workspace;
                backend.gather_rows(hidden_states, 0..row_width::<B>(hidden_states), index, queries, residual)?;
                backend.gather_rows(qkv, 0..s, index, queries, query)?;
                self.attend(backend, workspace, index, keys, queries, Source::Gathered)?;
                self.finish_layer(backend, workspace, weights, index, queries, Source::Gathered)?;
            } else {
                // After the last layer only `[CLS]` counts, whatever its attention.
                backend.pack_rows(kept_level(num_layers)..kept_level(num_layers + 1), index)?;
                self.kept_layer(backend, workspace, weights, index, keys, queries)?;
            }
            pause().await;
        }
        Ok(())
    }

    /// Logits from the hidden states of `[CLS]`.
    pub fn head(
        &self,
        backend: &mut B,
        workspace: &mut Workspace<B>,
        index: &B::Index,
        layout: &ChunkLayout,
        at: HeadRows,
    ) -> Result<()> {
        backend.begin_stage(Stage::Head);
        let Workspace { hidden_states, residual, pooled, logits, .. } = workspace;
        let num_samples = layout.num_samples;
        let (cls, rows) = match at {
            HeadRows::Kept => (&*hidden_states, Rows { level: kept_level(layout.num_layers), bound: num_samples }),
            HeadRows::FirstOfAll => {
                let rows = Rows { level: layout.first_level(), bound: num_samples };
                backend.gather_rows(hidden_states, 0..row_width::<B>(hidden_states), index, rows, residual)?;
                (&*residual, rows)
            }
        };
        match &self.pooler {
            Pooler::Dense(dense) => {
                backend.linear(whole(cls, dense, Activation::Tanh, None, rows, pooled), index, pooled)?;
            }
            Pooler::Norm(norm) => backend.layer_norm(cls, norm, index, rows, pooled)?,
        }
        backend.linear(whole(pooled, &self.classifier, Activation::Identity, None, rows, logits), index, logits)
    }

    /// The hidden states that enter layer 0, of all tokens or of those in K_0.
    fn embed(
        &self,
        backend: &mut B,
        workspace: &mut Workspace<B>,
        index: &B::Index,
        rows: Rows,
        source: Source,
    ) -> Result<()> {
        let Workspace { embeddings, patches, residual, hidden_states, .. } = workspace;
        if source == Source::Gathered {
            backend.gather_rows(embeddings, 0..row_width::<B>(embeddings), index, rows, residual)?;
            if let Some([all, gathered]) = patches {
                backend.gather_rows(all, 0..row_width::<B>(all), index, rows, gathered)?;
            }
        }
        let embeddings = if source == Source::Gathered { &*residual } else { &*embeddings };
        match (&self.embedding, patches) {
            (Embedding::Patches { projection, .. }, Some([all, gathered])) => {
                let patches = if source == Source::Gathered { gathered } else { all };
                let call = whole(patches, projection, Activation::Identity, Some(embeddings), rows, hidden_states);
                backend.linear(call, index, hidden_states)
            }
            (Embedding::Norm(norm), _) => backend.layer_norm(embeddings, norm, index, rows, hidden_states),
            (Embedding::Patches { .. }, None) => check(false, "embed", "patches", "missing", "a matrix"),
        }
    }

    /// What queries, keys and values are computed from: the hidden states, or in pre-norm order those normalised.
    fn attention_input<'w>(
        &self,
        backend: &mut B,
        weights: &Layer<B>,
        hidden_states: &'w B::Matrix,
        index: &B::Index,
        rows: Rows,
        normalised: &'w mut B::Matrix,
    ) -> Result<&'w B::Matrix> {
        match self.norm_order {
            NormOrder::Post => Ok(hidden_states),
            NormOrder::Pre => {
                backend.layer_norm(hidden_states, &weights.attention_norm, index, rows, normalised)?;
                Ok(normalised)
            }
        }
    }

    /// A layer whose K_l and K_{l+1} are known before it starts.
    fn kept_layer(
        &self,
        backend: &mut B,
        workspace: &mut Workspace<B>,
        weights: &Layer<B>,
        index: &B::Index,
        keys: Rows,
        queries: Rows,
    ) -> Result<()> {
        let s = self.heads.stride();
        let Workspace { hidden_states, residual, qkv, query, projected, attention_output, .. } = workspace;
        let input = self.attention_input(backend, weights, hidden_states, index, keys, projected)?;
        project(backend, input, weights, s..3 * s, index, keys, qkv)?;
        backend.gather_rows(hidden_states, 0..row_width::<B>(hidden_states), index, queries, residual)?;
        let input = self.attention_input(backend, weights, residual, index, queries, attention_output)?;
        project(backend, input, weights, 0..s, index, queries, query)?;
        self.attend(backend, workspace, index, keys, queries, Source::Gathered)?;
        self.finish_layer(backend, workspace, weights, index, queries, Source::Gathered)
    }

    /// The head-averaged map of a layer whose Q and K are in `qkv`, and with V there what attention gives, in `context`.
    #[expect(clippy::too_many_arguments, reason = "the map's place, its rows and what else is wanted")]
    fn attention_map(
        &self,
        backend: &mut B,
        workspace: &mut Workspace<B>,
        target: &mut MapTarget<'_, B>,
        layer: usize,
        index: &B::Index,
        rows: Rows,
        with_context: bool,
    ) -> Result<()> {
        let Workspace { qkv, stats, context, .. } = workspace;
        let call = AttentionMap { qkv, heads: self.heads, kind: target.kind, rows, layer };
        backend.attention_maps(call, index, stats, target.maps, with_context.then_some(context))
    }

    /// Attention of the rows of `queries` over those of `keys`; ends in `context`.
    fn attend(
        &self,
        backend: &mut B,
        workspace: &mut Workspace<B>,
        index: &B::Index,
        keys: Rows,
        queries: Rows,
        source: Source,
    ) -> Result<()> {
        let Workspace { qkv, query, context, .. } = workspace;
        let query = if source == Source::All { &*qkv } else { &*query };
        let call = Attention { query, qkv, heads: self.heads, query_rows: queries, key_rows: keys };
        backend.attention(call, index, context)
    }

    /// What follows attention, for the rows of `queries`; ends in `hidden_states`.
    fn finish_layer(
        &self,
        backend: &mut B,
        workspace: &mut Workspace<B>,
        weights: &Layer<B>,
        index: &B::Index,
        queries: Rows,
        source: Source,
    ) -> Result<()> {
        let Workspace { hidden_states, residual, context, projected, attention_output, intermediate, .. } = workspace;
        let residual = if source == Source::All { &*hidden_states } else { &*residual };
        match self.norm_order {
            NormOrder::Post => {
                let project =
                    whole(context, &weights.attention_output, Activation::Identity, Some(residual), queries, projected);
                backend.linear(project, index, projected)?;
                backend.layer_norm(projected, &weights.attention_norm, index, queries, attention_output)?;
                let up = whole(attention_output, &weights.intermediate, Activation::Gelu, None, queries, intermediate);
                backend.linear(up, index, intermediate)?;
                let down = whole(
                    intermediate,
                    &weights.output,
                    Activation::Identity,
                    Some(attention_output),
                    queries,
                    projected,
                );
                backend.linear(down, index, projected)?;
                backend.layer_norm(projected, &weights.mlp_norm, index, queries, hidden_states)
            }
            NormOrder::Pre => {
                let project = whole(
                    context,
                    &weights.attention_output,
                    Activation::Identity,
                    Some(residual),
                    queries,
                    attention_output,
                );
                backend.linear(project, index, attention_output)?;
                backend.layer_norm(attention_output, &weights.mlp_norm, index, queries, projected)?;
                let up = whole(projected, &weights.intermediate, Activation::Gelu, None, queries, intermediate);
                backend.linear(up, index, intermediate)?;
                let down = whole(
                    intermediate,
                    &weights.output,
                    Activation::Identity,
                    Some(attention_output),
                    queries,
                    hidden_states,
                );
                backend.linear(down, index, hidden_states)
            }
        }
    }
}

/// All features of a linear layer, into all columns of `output`.
fn whole<'a, B: Backend>(
    input: &'a B::Matrix,
    linear: &'a B::Linear,
    activation: Activation,
    residual: Option<&'a B::Matrix>,
    rows: Rows,
    output: &B::Matrix,
) -> Linear<'a, B> {
    Linear { input, linear, features: 0..output.stride(), activation, residual, rows, output_column: 0 }
}

/// Where the rows of a step are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// Every row goes on: embeddings as written, queries in `qkv`, the residual in `hidden_states`.
    All,
    /// Gathered into `query` and `residual`.
    Gathered,
}

/// Columns of a matrix with padding.
fn row_width<B: Backend>(matrix: &B::Matrix) -> usize {
    matrix.stride()
}

/// Some of Q, K and V, into the same columns of `output`.
fn project<B: Backend>(
    backend: &mut B,
    input: &B::Matrix,
    weights: &Layer<B>,
    features: std::ops::Range<usize>,
    index: &B::Index,
    rows: Rows,
    output: &mut B::Matrix,
) -> Result<()> {
    let output_column = features.start;
    let call = Linear {
        input,
        linear: &weights.query_key_value,
        features,
        activation: Activation::Identity,
        residual: None,
        rows,
        output_column,
    };
    backend.linear(call, index, output)
}
