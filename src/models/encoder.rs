//! The transformer encoder on a device, and the one layer loop that both backends and all rules share.

use super::Network;
use super::tensors::{LayerNormTensors, LayerTensors, LinearTensors};
use crate::backend::{
    ALL, Activation, Attention, AttentionMap, Backend, ChunkLayout, Linear, MapKind, Rows, check, kept_level,
};
use crate::error::Result;
use crate::platform::Pause;
use crate::tensor::{HeadSide, Heads, PackedLayerNorm, PackedLinear};

/// Uploaded weights of one layer.
struct Layer<B: Backend> {
    /// Q, K and V stacked: features `0..s`, `s..2s` and `2s..3s` with s = `heads.stride()`.
    query_key_value: B::Linear,
    attention_output: B::Linear,
    attention_norm: B::LayerNorm,
    intermediate: B::Linear,
    output: B::Linear,
    output_norm: B::LayerNorm,
}

/// An uploaded network.
pub(crate) struct Encoder<B: Backend> {
    heads: Heads,
    hidden_size: usize,
    intermediate_size: usize,
    num_labels: usize,
    embedding_norm: B::LayerNorm,
    layers: Vec<Layer<B>>,
    pooler: B::Linear,
    classifier: B::Linear,
}

/// Scratch matrices of an encoder, for up to a number of rows; every run overwrites them.
pub(crate) struct Workspace<B: Backend> {
    /// Word embeddings of all tokens, `[N, hidden_size]`
    pub embeddings: B::Matrix,
    /// `[rows of the layer, hidden_size]`
    pub hidden_states: B::Matrix,
    /// The hidden states of the rows that go on, `[query rows, hidden_size]`
    residual: B::Matrix,
    /// Q, K, V side by side, `[key rows, 3 · heads.stride()]`
    qkv: B::Matrix,
    /// `[query rows, heads.stride()]`
    query: B::Matrix,
    /// `[query rows, heads.stride()]`
    context: B::Matrix,
    /// `[query rows, hidden_size]`
    projected: B::Matrix,
    /// `[query rows, hidden_size]`
    attention_output: B::Matrix,
    /// `[query rows, intermediate_size]`
    intermediate: B::Matrix,
    /// Statistics of each row's scores, `[rows, 2 · num_heads]`
    stats: B::Matrix,
    /// `[samples, hidden_size]`
    pooled: B::Matrix,
    /// `[samples, num_labels]`
    pub logits: B::Matrix,
}

#[cfg(test)]
impl<B: Backend> Workspace<B> {
    /// What the layers write: first those that start with K_0, then those of K_1.
    pub fn layer_buffers_mut(&mut self) -> Vec<&mut B::Matrix> {
        let Self { hidden_states, residual, qkv, query, context, projected, attention_output, intermediate, .. } = self;
        vec![hidden_states, residual, qkv, query, context, projected, attention_output, intermediate]
    }
}

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
    /// Packs and uploads a network, one tensor at a time.
    pub fn new(backend: &mut B, network: &Network) -> Result<Self> {
        let config = &network.config;
        let tensors = network.tensors()?;
        let heads = config.heads();
        let eps = config.layer_norm_eps;
        let layers =
            tensors.layers.iter().enumerate().map(|(index, layer)| upload_layer(backend, index, layer, heads, eps));
        let layers = layers.collect::<Result<_>>()?;
        Ok(Self {
            heads,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            num_labels: config.labels.len(),
            layers,
            embedding_norm: upload_norm(backend, "embeddings.LayerNorm", &tensors.embedding_norm, eps)?,
            pooler: upload_linear(backend, "pooler", std::slice::from_ref(&tensors.pooler), HeadSide::None)?,
            classifier: upload_linear(
                backend,
                "classifier",
                std::slice::from_ref(&tensors.classifier),
                HeadSide::None,
            )?,
        })
    }

    /// Scratch for `num_rows` tokens of `num_samples` samples.
    pub fn workspace(&self, backend: &mut B, num_rows: usize, num_samples: usize) -> Result<Workspace<B>> {
        let hidden = self.hidden_size;
        let head_stride = self.heads.stride();
        Ok(Workspace {
            embeddings: backend.create_matrix("embeddings", num_rows, hidden)?,
            hidden_states: backend.create_matrix("hidden_states", num_rows, hidden)?,
            residual: backend.create_matrix("residual", num_rows, hidden)?,
            qkv: backend.create_matrix("qkv", num_rows, 3 * head_stride)?,
            query: backend.create_matrix("query", num_rows, head_stride)?,
            context: backend.create_matrix("context", num_rows, head_stride)?,
            projected: backend.create_matrix("projected", num_rows, hidden)?,
            attention_output: backend.create_matrix("attention_output", num_rows, hidden)?,
            intermediate: backend.create_matrix("intermediate", num_rows, self.intermediate_size)?,
            stats: backend.create_matrix("stats", num_rows, 2 * self.heads.num_heads)?,
            pooled: backend.create_matrix("pooled", num_samples, hidden)?,
            logits: backend.create_matrix("logits", num_samples, self.num_labels)?,
        })
    }

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
        backend.layer_norm(&workspace.embeddings, &self.embedding_norm, index, all, &mut workspace.hidden_states)?;
        for (layer, weights) in self.layers.iter().enumerate() {
            let s = self.heads.stride();
            let is_last_map = maps.is_some() && layer + 1 == self.layers.len();
            let features = if is_last_map { 0..2 * s } else { 0..3 * s };
            project(backend, &workspace.hidden_states, weights, features, index, all, &mut workspace.qkv)?;
            if let Some(target) = &mut maps {
                self.attention_map(backend, workspace, target, layer, index, all)?;
            }
            if is_last_map {
                break;
            }
            self.finish_layer(backend, workspace, weights, index, all, all, Source::All)?;
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
        let Workspace { embeddings, residual, hidden_states, .. } = workspace;
        backend.gather_rows(embeddings, 0..row_width::<B>(embeddings), index, rows(0), residual)?;
        backend.layer_norm(residual, &self.embedding_norm, index, rows(0), hidden_states)?;
        for (layer, weights) in self.layers.iter().enumerate() {
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
        backend.pack_rows(kept_level(0)..kept_level(1), index)?;
        backend.layer_norm(
            &workspace.embeddings,
            &self.embedding_norm,
            index,
            rows(0),
            &mut workspace.hidden_states,
        )?;
        for (layer, weights) in self.layers.iter().enumerate() {
            let (keys, queries) = (rows(layer), rows(layer + 1));
            if layer + 1 < num_layers {
                let s = self.heads.stride();
                project(backend, &workspace.hidden_states, weights, 0..3 * s, index, keys, &mut workspace.qkv)?;
                self.attention_map(backend, workspace, &mut target, layer, index, keys)?;
                backend.forward_top_k(target.maps, layer, index, token_scores)?;
                backend.pack_rows(kept_level(layer + 1)..kept_level(layer + 2), index)?;
                let Workspace { hidden_states, residual, qkv, query, .. } = workspace;
                backend.gather_rows(hidden_states, 0..row_width::<B>(hidden_states), index, queries, residual)?;
                backend.gather_rows(qkv, 0..s, index, queries, query)?;
                self.finish_layer(backend, workspace, weights, index, keys, queries, Source::Gathered)?;
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
        let head = |input, linear, features, activation| Linear {
            input,
            linear,
            features: 0..features,
            activation,
            residual: None,
            rows,
            output_column: 0,
        };
        let pooled_width = row_width::<B>(pooled);
        backend.linear(head(cls, &self.pooler, pooled_width, Activation::Tanh), index, pooled)?;
        let num_logits = row_width::<B>(logits);
        backend.linear(head(pooled, &self.classifier, num_logits, Activation::Identity), index, logits)
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
        let Workspace { hidden_states, residual, qkv, query, .. } = workspace;
        project(backend, hidden_states, weights, s..3 * s, index, keys, qkv)?;
        backend.gather_rows(hidden_states, 0..row_width::<B>(hidden_states), index, queries, residual)?;
        project(backend, residual, weights, 0..s, index, queries, query)?;
        self.finish_layer(backend, workspace, weights, index, keys, queries, Source::Gathered)
    }

    /// The head-averaged map of a layer whose Q and K are in `qkv`.
    fn attention_map(
        &self,
        backend: &mut B,
        workspace: &mut Workspace<B>,
        target: &mut MapTarget<'_, B>,
        layer: usize,
        index: &B::Index,
        rows: Rows,
    ) -> Result<()> {
        let Workspace { qkv, stats, .. } = workspace;
        let call = || AttentionMap { qkv, heads: self.heads, kind: target.kind, rows };
        backend.attention_stats(call(), index, stats)?;
        backend.attention_maps(call(), stats, layer, index, target.maps)
    }

    /// Attention over `keys` and the feed-forward block, for the rows of `queries`; ends in `hidden_states`.
    #[expect(clippy::too_many_arguments, reason = "the weights, two sets of rows and where they are")]
    fn finish_layer(
        &self,
        backend: &mut B,
        workspace: &mut Workspace<B>,
        weights: &Layer<B>,
        index: &B::Index,
        keys: Rows,
        queries: Rows,
        source: Source,
    ) -> Result<()> {
        let Workspace {
            hidden_states, residual, qkv, query, context, projected, attention_output, intermediate, ..
        } = workspace;
        let (query, residual) = match source {
            Source::All => (&*qkv, &*hidden_states),
            Source::Gathered => (&*query, &*residual),
        };
        let call = Attention { query, qkv, heads: self.heads, query_rows: queries, key_rows: keys };
        backend.attention(call, index, context)?;
        let hidden_width = row_width::<B>(projected);
        let linear = |input, linear, features, activation, residual| Linear {
            input,
            linear,
            features: 0..features,
            activation,
            residual,
            rows: queries,
            output_column: 0,
        };
        backend.linear(
            linear(context, &weights.attention_output, hidden_width, Activation::Identity, Some(residual)),
            index,
            projected,
        )?;
        backend.layer_norm(projected, &weights.attention_norm, index, queries, attention_output)?;
        let intermediate_width = row_width::<B>(intermediate);
        backend.linear(
            linear(attention_output, &weights.intermediate, intermediate_width, Activation::Gelu, None),
            index,
            intermediate,
        )?;
        backend.linear(
            linear(intermediate, &weights.output, hidden_width, Activation::Identity, Some(attention_output)),
            index,
            projected,
        )?;
        backend.layer_norm(projected, &weights.output_norm, index, queries, hidden_states)
    }
}

/// Where the query rows of a layer are.
#[derive(Debug, Clone, Copy)]
enum Source {
    /// Every row goes on: queries in `qkv`, the residual in `hidden_states`.
    All,
    /// Gathered into `query` and `residual`.
    Gathered,
}

/// Columns of a matrix with padding.
fn row_width<B: Backend>(matrix: &B::Matrix) -> usize {
    use crate::backend::MatrixShape;
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

fn upload_linear<B: Backend>(
    backend: &mut B,
    label: &str,
    parts: &[LinearTensors<'_>],
    heads: HeadSide,
) -> Result<B::Linear> {
    let packed = PackedLinear::stack(parts, heads)?;
    backend.create_linear(label, &packed)
}

fn upload_norm<B: Backend>(
    backend: &mut B,
    label: &str,
    (weight, bias): &LayerNormTensors<'_>,
    eps: f32,
) -> Result<B::LayerNorm> {
    check(
        weight.shape == bias.shape,
        "layer_norm",
        "bias",
        format!("{:?}", bias.shape),
        format!("{:?}", weight.shape),
    )?;
    backend.create_layer_norm(label, &PackedLayerNorm::new(weight, bias, eps))
}

fn upload_layer<B: Backend>(
    backend: &mut B,
    index: usize,
    layer: &LayerTensors<'_>,
    heads: Heads,
    eps: f32,
) -> Result<Layer<B>> {
    let label = |name: &str| format!("layer.{index}.{name}");
    let qkv = [layer.query.clone(), layer.key.clone(), layer.value.clone()];
    let one = std::slice::from_ref;
    Ok(Layer {
        query_key_value: upload_linear(backend, &label("query_key_value"), &qkv, HeadSide::Output(heads))?,
        attention_output: upload_linear(
            backend,
            &label("attention_output"),
            one(&layer.attention_output),
            HeadSide::Input(heads),
        )?,
        attention_norm: upload_norm(backend, &label("attention_norm"), &layer.attention_norm, eps)?,
        intermediate: upload_linear(backend, &label("intermediate"), one(&layer.intermediate), HeadSide::None)?,
        output: upload_linear(backend, &label("output"), one(&layer.output), HeadSide::None)?,
        output_norm: upload_norm(backend, &label("output_norm"), &layer.output_norm, eps)?,
    })
}
