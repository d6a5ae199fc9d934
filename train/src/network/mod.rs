//! A transformer on Burn's tensors: one layer body for all families, for dense, masked and pruned passes.

mod fit;
mod head;

pub use fit::Source;

use burn::tensor::activation::{gelu_approximate, relu, sigmoid, tanh};
use burn::tensor::module::linear;
use burn::tensor::{Int, Tensor};
use sttabt::training::{Activation, NetworkValues, Part, PoolerKind};
use sttabt::{Config, PoolingMode};

use crate::batch::{Batch, BatchInput};
use crate::ops::{gated_probs, gelu, layer_norm, masked_probs, softmax};
use crate::parameters::{Id, Leaves, Parameters, Place};
use crate::rows::{Gates, Kept, Rows};

/// Weight and bias.
#[derive(Clone, Copy)]
struct Pair {
    weight: Id,
    bias: Id,
}

struct Layer {
    query: Pair,
    key: Pair,
    value: Pair,
    attention_output: Pair,
    attention_scale: Option<Id>,
    attention_norm: Pair,
    intermediate: Pair,
    output: Pair,
    mlp_scale: Option<Id>,
    mlp_norm: Pair,
}

/// A network whose values are in [`Parameters`].
pub struct Network {
    /// Its `config.json`.
    pub config: Config,
    is_pre_norm: bool,
    activation: Activation,
    pooler_kind: PoolerKind,
    words: Option<Id>,
    positions: Id,
    token_types: Option<Id>,
    embedding_norm: Option<Pair>,
    embedding_projection: Option<Pair>,
    anchors: Vec<Id>,
    projection: Option<Pair>,
    layers: Vec<Layer>,
    pooler: Option<Pair>,
    classifiers: Vec<Pair>,
    /// How an embedder makes its vectors.
    pub pooling: Option<PoolingMode>,
    /// Of all values, in the order of the library's.
    pub ids: Vec<Id>,
    place: Place,
}

/// What a layer does beyond a dense one.
pub enum Mode<'a> {
    /// Nothing.
    Dense,
    /// Multiplies by the soft masks M_0 … M_L, `[N, R]` each.
    Masked(&'a [Tensor<2>]),
    /// Multiplies attention by G_l, and what a layer adds to a token by G_{l+1}. Gates are 0 or 1, so that this is the pruned pass itself: a
    /// layer computes the tokens of G_{l+1}, the others stay as they are. They are still keys, so that a closed gate's derivative
    /// tells what its token would add.
    Gated(&'a Gates),
    /// Multiplies a layer's output by what this makes of its probabilities, `[N, R]`.
    Scaled(&'a dyn Fn(usize, &Tensor<4>) -> Tensor<2>),
    /// Removes tokens after each layer, as this says of its probabilities and of those that are there, `[N, R]` of 0 and 1. Removed
    /// tokens are no keys any more; their rows are computed for nothing.
    Removing(&'a dyn Fn(usize, &Tensor<4>, &Tensor<2>) -> Tensor<2>),
    /// Computes only the tokens of K_1 … K_L; those of K_0 are all tokens of the batch.
    Pruned(&'a [Kept]),
}

/// What a pass leaves behind for a loss.
#[derive(Default)]
pub struct Pass {
    /// What entered each layer, and last what left the last one: a row for each token.
    pub hidden_states: Vec<Tensor<2>>,
    /// Before softmax, `[N, H, R, R]` of each layer.
    pub scores: Vec<Tensor<4>>,
    /// After it.
    pub probs: Vec<Tensor<4>>,
}

/// What of a pass is wanted beyond the last hidden states.
#[derive(Clone, Copy, Default)]
pub struct Wanted {
    /// All hidden states.
    pub hidden_states: bool,
    /// Scores.
    pub scores: bool,
    /// Probabilities.
    pub probs: bool,
}

impl Network {
    /// Adds the values of a network to the parameters, under names with this prefix.
    pub fn new(values: &NetworkValues, prefix: &str, pad_token: Option<usize>, parameters: &mut Parameters) -> Self {
        let ids: Vec<Id> =
            values.tensors.iter().map(|tensor| parameters.add_named(prefix, tensor, pad_token)).collect();
        let find = |part: Part, layer: usize, is_bias: bool| {
            let is_it = |tensor: &&sttabt::training::NamedValues| {
                tensor.part == part && tensor.layer == layer && tensor.is_bias == is_bias
            };
            values.tensors.iter().position(|tensor| is_it(&tensor)).map(|at| ids[at])
        };
        let pair = |part, layer| Some(Pair { weight: find(part, layer, false)?, bias: find(part, layer, true)? });
        let layer = |layer| {
            Some(Layer {
                query: pair(Part::Query, layer)?,
                key: pair(Part::Key, layer)?,
                value: pair(Part::Value, layer)?,
                attention_output: pair(Part::AttentionOutput, layer)?,
                attention_scale: find(Part::AttentionScale, layer, false),
                attention_norm: pair(Part::AttentionNorm, layer)?,
                intermediate: pair(Part::Intermediate, layer)?,
                output: pair(Part::Output, layer)?,
                mlp_scale: find(Part::MlpScale, layer, false),
                mlp_norm: pair(Part::MlpNorm, layer)?,
            })
        };
        let classifiers = [Part::Classifier, Part::DistillationClassifier];
        Self {
            is_pre_norm: values.is_pre_norm,
            activation: values.activation,
            pooler_kind: values.pooler,
            words: find(Part::Words, 0, false),
            // The library gives every network a table of positions.
            positions: find(Part::Positions, 0, false).unwrap_or_default(),
            token_types: find(Part::TokenTypes, 0, false),
            embedding_norm: pair(Part::EmbeddingNorm, 0),
            embedding_projection: pair(Part::EmbeddingProjection, 0),
            anchors: (0..).map_while(|anchor| find(Part::Anchor(anchor), 0, false)).collect(),
            projection: pair(Part::Projection, 0),
            layers: (0..values.config.num_hidden_layers).filter_map(layer).collect(),
            pooler: pair(Part::Pooler, 0),
            classifiers: classifiers.into_iter().filter_map(|part| pair(part, 0)).collect(),
            config: values.config.clone(),
            pooling: None,
            ids,
            place: parameters.place.clone(),
        }
    }

    /// Where its values are.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// L
    pub fn num_layers(&self) -> usize {
        self.layers.len()
    }

    /// All parameters but the table of words, of which a batch has a few: its optimiser would take a third of a step.
    pub fn ids_but_words(&self) -> impl Iterator<Item = Id> {
        self.ids.iter().copied().filter(|&id| Some(id) != self.words)
    }

    /// The parameters that no attention map depends on: the head, and what the last layer does after its map.
    pub fn ids_after_last_map(&self) -> Vec<Id> {
        let mut pairs: Vec<Pair> = self.pooler.iter().chain(&self.classifiers).copied().collect();
        let mut ids = Vec::new();
        if let Some(last) = self.layers.last() {
            pairs.extend([last.value, last.attention_output, last.intermediate, last.output, last.mlp_norm]);
            if !self.is_pre_norm {
                pairs.push(last.attention_norm);
            }
            ids.extend([last.attention_scale, last.mlp_scale].into_iter().flatten());
        }
        ids.extend(pairs.into_iter().flat_map(|pair| [pair.weight, pair.bias]));
        ids
    }

    fn linear(&self, leaves: &Leaves, pair: Pair, rows: Tensor<2>) -> Tensor<2> {
        linear(rows, leaves.matrix(pair.weight), Some(leaves.vector(pair.bias)))
    }

    fn norm(&self, leaves: &Leaves, pair: Pair, rows: Tensor<2>) -> Tensor<2> {
        let eps = f64::from(self.config.layer_norm_eps);
        layer_norm(rows, leaves.vector(pair.weight), leaves.vector(pair.bias), eps)
    }

    fn activate(&self, activation: Activation, rows: Tensor<2>) -> Tensor<2> {
        match activation {
            Activation::Gelu => gelu(rows),
            Activation::GeluTanh => gelu_approximate(rows),
            Activation::QuickGelu => rows.clone() * sigmoid(rows.mul_scalar(1.702)),
            Activation::Relu => relu(rows),
            Activation::Tanh => tanh(rows),
        }
    }

    /// The first hidden states; without token types all are 0.
    pub fn embed(&self, leaves: &Leaves, batch: &Batch, has_token_types: bool) -> Tensor<2> {
        let rows = self.embed_tables(leaves, batch, has_token_types);
        match self.embedding_projection {
            Some(projection) => self.linear(leaves, projection, rows),
            None => rows,
        }
    }

    /// The same before the projection of tables of another width.
    fn embed_tables(&self, leaves: &Leaves, batch: &Batch, has_token_types: bool) -> Tensor<2> {
        match &batch.input {
            BatchInput::Text { ids, token_types, positions } => {
                let row = |table: Option<Id>, at: &Tensor<1, Int>| {
                    table.map(|table| leaves.matrix(table).select(0, at.clone()))
                };
                let types = if has_token_types { token_types.clone() } else { token_types.clone().zeros_like() };
                let parts = [row(self.words, ids), row(self.token_types, &types), row(Some(self.positions), positions)];
                let sum = parts.into_iter().flatten().reduce(|sum, part| sum + part);
                let rows = sum.unwrap_or_else(|| self.place.zeros([0, 0]));
                match self.embedding_norm {
                    Some(norm) => self.norm(leaves, norm, rows),
                    None => rows,
                }
            }
            BatchInput::Patches(patches, wanted) => {
                let (num_samples, hidden) = (batch.rows.num_samples(), self.config.hidden_size);
                let num_patches = patches.dims()[0] / num_samples;
                let projected = match self.projection {
                    Some(projection) => self.linear(leaves, projection, patches.clone()),
                    None => patches.clone(),
                };
                let anchor = |&id: &Id| leaves.vector(id).reshape([1, 1, hidden]).expand([num_samples, 1, hidden]);
                let anchors = self.anchors.iter().map(anchor);
                let parts = anchors.chain([projected.reshape([num_samples, num_patches, hidden])]).collect();
                let num_tokens = num_patches + self.anchors.len();
                let positions = leaves.vector(self.positions).reshape([1, num_tokens, hidden]);
                let all = (Tensor::cat(parts, 1) + positions).reshape([num_samples * num_tokens, hidden]);
                match wanted {
                    Some(wanted) => all.select(0, wanted.clone()),
                    None => all,
                }
            }
        }
    }

    /// All layers; the last of [`Pass::hidden_states`] is what left the last one.
    pub fn run(&self, leaves: &Leaves, batch: &Batch, mode: &Mode<'_>, wanted: Wanted) -> Pass {
        let mut pass = Pass::default();
        let mut rows = self.embed(leaves, batch, true);
        let mut layout = &batch.rows;
        let mut present = layout.real.clone();
        for (at, layer) in self.layers.iter().enumerate() {
            if wanted.hidden_states {
                pass.hidden_states.push(rows.clone());
            }
            let kept = match mode {
                Mode::Pruned(kept) => Some(&kept[at]),
                Mode::Gated(gates) => Some(&gates.open[at].kept),
                _ => None,
            };
            let masks = match mode {
                Mode::Masked(masks) => Some([&masks[at], &masks[at + 1]]),
                Mode::Gated(gates) => Some([&gates.values[at], &gates.values[at + 1]]),
                _ => None,
            };
            let key_mask = match mode {
                Mode::Removing(_) => Some(layout.masked_keys(&present)),
                _ => layout.key_mask(),
            };
            let is_gated = matches!(mode, Mode::Gated(_));
            let step = Step { layer, layout, kept, masks, is_gated, key_mask: key_mask.as_ref() };
            let result = self.layer(leaves, rows.clone(), &step);
            rows = match mode {
                Mode::Gated(gates) => gates.open[at].put(rows, result.rows),
                _ => result.rows,
            };
            match mode {
                Mode::Scaled(scale) => rows = rows * layout.column(scale(at, &result.probs)),
                Mode::Removing(stays) => present = stays(at, &result.probs, &present),
                _ => {}
            }
            if wanted.scores {
                pass.scores.push(result.scores);
            }
            if wanted.probs {
                pass.probs.push(result.probs);
            }
            if let Mode::Pruned(kept) = mode {
                layout = &kept[at].rows;
            }
        }
        pass.hidden_states.push(rows);
        pass
    }

    fn layer(&self, leaves: &Leaves, rows: Tensor<2>, step: &Step<'_>) -> LayerResult {
        let Step { layer, layout, kept, masks, is_gated, key_mask } = *step;
        let (num_samples, heads) = (layout.num_samples(), self.config.num_attention_heads);
        let head_size = self.config.hidden_size / heads;
        let select = |rows: Tensor<2>| match kept {
            Some(kept) => kept.select(rows),
            None => rows,
        };
        let [in_mask, out_mask] = match masks {
            Some([in_mask, out_mask]) => {
                [Some(layout.column(in_mask.clone())), Some(select(layout.column(out_mask.clone())))]
            }
            None => [None, None],
        };
        let masked = |rows: Tensor<2>, mask: &Option<Tensor<2>>| match mask {
            Some(mask) if !is_gated => rows * mask.clone(),
            _ => rows,
        };
        let gated = |rows: Tensor<2>| match &out_mask {
            Some(mask) => rows * mask.clone(),
            None => rows,
        };
        let norm_before = if self.is_pre_norm { Some(layer.attention_norm) } else { None };
        let input = match norm_before {
            Some(norm) => self.norm(leaves, norm, rows.clone()),
            None => rows.clone(),
        };
        let query_layout = kept.map_or(layout, |kept| &kept.rows);
        let split = |rows: Tensor<2>, layout: &Rows| {
            layout.pad(rows).reshape([num_samples, layout.width, heads, head_size]).swap_dims(1, 2)
        };
        let key = masked(self.linear(leaves, layer.key, input.clone()), &in_mask);
        let value = masked(self.linear(leaves, layer.value, input.clone()), &in_mask);
        let query = masked(self.linear(leaves, layer.query, select(input.clone())), &out_mask);
        let query = split(query.mul_scalar(1.0 / (head_size as f64).sqrt()), query_layout);
        let mut scores = query.matmul(split(key, layout).swap_dims(2, 3));
        if let Some(mask) = key_mask {
            scores = scores + mask.clone();
        }
        let mut probs = softmax(scores.clone());
        if let Some([in_mask, _]) = masks {
            let mask = in_mask.clone().reshape([num_samples, 1, 1, layout.width]);
            probs = if is_gated { gated_probs(probs, mask) } else { masked_probs(probs, mask) };
        }
        let context = probs.clone().matmul(split(value, layout)).swap_dims(1, 2);
        let places = num_samples * query_layout.width;
        let context = query_layout.unpad(context.reshape([places, self.config.hidden_size]));
        let scaled = |rows: Tensor<2>, scale: Option<Id>| match scale {
            Some(scale) => rows * leaves.vector(scale).unsqueeze::<2>(),
            None => rows,
        };
        let attended = gated(self.linear(leaves, layer.attention_output, context.clone()));
        let attended_sum = select(rows) + scaled(attended, layer.attention_scale);
        let norm = if self.is_pre_norm { layer.mlp_norm } else { layer.attention_norm };
        let mlp_input = self.norm(leaves, norm, attended_sum.clone());
        let inner = masked(self.linear(leaves, layer.intermediate, mlp_input.clone()), &out_mask);
        let inner = self.activate(self.activation, inner);
        let output = scaled(gated(self.linear(leaves, layer.output, inner.clone())), layer.mlp_scale);
        let (output_sum, rows) = match self.is_pre_norm {
            true => {
                let sum = attended_sum.clone() + output;
                (sum.clone(), sum)
            }
            false => {
                let sum = mlp_input.clone() + output;
                (sum.clone(), self.norm(leaves, layer.mlp_norm, sum))
            }
        };
        LayerResult { rows, scores, probs, input, context, attended_sum, mlp_input, inner, output_sum }
    }
}

/// Added to sums and within logarithms.
pub const EPS: f64 = 1e-7;

#[derive(Clone, Copy)]
struct Step<'a> {
    layer: &'a Layer,
    layout: &'a Rows,
    kept: Option<&'a Kept>,
    /// Of what enters and of what leaves.
    masks: Option<[&'a Tensor<2>; 2]>,
    is_gated: bool,
    key_mask: Option<&'a Tensor<4>>,
}

struct LayerResult {
    rows: Tensor<2>,
    scores: Tensor<4>,
    probs: Tensor<4>,
    /// What queries, keys and values are made of.
    input: Tensor<2>,
    /// What the heads bring.
    context: Tensor<2>,
    /// With the residual, before a norm.
    attended_sum: Tensor<2>,
    mlp_input: Tensor<2>,
    /// Within the MLP.
    inner: Tensor<2>,
    /// With the residual, before a norm.
    output_sum: Tensor<2>,
}
