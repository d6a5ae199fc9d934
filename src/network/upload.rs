//! A network on a device: its weights, packed and uploaded one tensor at a time.

use std::borrow::Borrow;

use crate::backend::{Activation, Backend, check};
use crate::error::Result;
use crate::models::{
    self, Config, EmbeddingTensors, LayerNormTensors, LayerTensors, LinearTensors, Network, NormOrder, PoolerKind,
};
use crate::tensor::{HeadSide, Heads, PackedLayerNorm, PackedLinear, Tensor, row_stride};

/// Uploaded weights of one layer.
pub struct Layer<B: Backend> {
    /// Q, K and V stacked: features `0..s`, `s..2s` and `2s..3s` with s = `heads.stride()`.
    pub query_key_value: B::Linear,
    pub attention_output: B::Linear,
    pub attention_norm: B::LayerNorm,
    pub intermediate: B::Linear,
    pub output: B::Linear,
    pub mlp_norm: B::LayerNorm,
}

/// The first hidden states, from what the host wrote.
pub enum Embedding<B: Backend> {
    /// Embeddings, normalised.
    Norm(B::LayerNorm),
    /// Embeddings of another width, normalised and projected.
    Projected { norm: B::LayerNorm, projection: B::Linear, embedding_size: usize },
    /// Patches, projected, plus embeddings.
    Patches { projection: B::Linear, patch_values: usize },
}

/// From the last hidden state of an anchor to what the classifier reads.
pub enum Pooler<B: Backend> {
    None,
    Dense(B::Linear, Activation),
    Norm(B::LayerNorm),
}

/// An uploaded network.
pub(crate) struct Encoder<B: Backend> {
    pub heads: Heads,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    /// Columns of the classifiers, all together; of an embedding `hidden_size`.
    pub num_outputs: usize,
    pub num_anchors: usize,
    pub norm_order: NormOrder,
    /// Inside the MLP.
    pub activation: Activation,
    pub embedding: Embedding<B>,
    pub layers: Vec<Layer<B>>,
    pub pooler: Pooler<B>,
    /// Those of all anchors, one after another; `None`: what the pooler gives is an embedding.
    pub classifier: Option<B::Linear>,
}

impl<B: Backend> Encoder<B> {
    /// Packs and uploads a network, one tensor at a time.
    pub fn new(backend: &mut B, network: &Network) -> Result<Self> {
        Self::upload(backend, network, |_, _| {})
    }

    /// The same, and frees on the way what is packed. Files are sorted by name: the last layers stand at their end.
    pub fn new_freeing(backend: &mut B, network: &mut Network) -> Result<Self> {
        let needed = network.needed_bytes()?;
        Self::upload(backend, network, |network, layer| network.truncate(needed[layer]))
    }

    /// Layers come last, the last one first; after each one `uploaded(network, layer)`.
    fn upload<N: Borrow<Network>>(
        backend: &mut B,
        mut network: N,
        mut uploaded: impl FnMut(&mut N, usize),
    ) -> Result<Self> {
        let Network { family, config, .. } = network.borrow();
        let (heads, eps, num_layers) = (config.heads(), config.layer_norm_eps, config.num_hidden_layers);
        let head = network.borrow().head()?;
        let mut encoder = Self {
            heads,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            num_outputs: match head.classifiers.len() {
                0 => config.hidden_size,
                // Each starts where a row of its own would.
                1 => config.labels.len(),
                num_classifiers => num_classifiers * row_stride(config.labels.len()),
            },
            num_anchors: config.num_anchors,
            norm_order: family.norm_order,
            activation: activation(config.activation),
            embedding: upload_embedding(backend, config, &network.borrow().embeddings()?)?,
            layers: Vec::with_capacity(num_layers),
            pooler: match (config.pooler, &head.pooler) {
                (PoolerKind::Dense(name), Some(pooler)) => {
                    Pooler::Dense(upload_dense(backend, "pooler", pooler)?, activation(name))
                }
                (PoolerKind::Norm, Some(pooler)) => Pooler::Norm(upload_norm(backend, "pooler", pooler, eps)?),
                _ => Pooler::None,
            },
            classifier: if head.classifiers.is_empty() {
                None
            } else {
                Some(upload_linear(backend, "classifier", &head.classifiers, HeadSide::None)?)
            },
        };
        for layer in (0..num_layers).rev() {
            let tensors = network.borrow().layer(layer)?;
            encoder.layers.push(upload_layer(backend, layer, &tensors, heads, eps)?);
            network.borrow().release();
            uploaded(&mut network, layer);
        }
        encoder.layers.reverse();
        Ok(encoder)
    }
}

fn activation(named: models::Activation) -> Activation {
    match named {
        models::Activation::Gelu => Activation::Gelu,
        models::Activation::GeluTanh => Activation::GeluTanh,
        models::Activation::QuickGelu => Activation::QuickGelu,
        models::Activation::Relu => Activation::Relu,
        models::Activation::Tanh => Activation::Tanh,
    }
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

/// A linear layer without heads.
fn upload_dense<B: Backend>(backend: &mut B, label: &str, dense: &LinearTensors<'_>) -> Result<B::Linear> {
    upload_linear(backend, label, std::slice::from_ref(dense), HeadSide::None)
}

fn upload_embedding<B: Backend>(
    backend: &mut B,
    config: &Config,
    embeddings: &EmbeddingTensors<'_>,
) -> Result<Embedding<B>> {
    match embeddings {
        EmbeddingTensors::Text { norm, projection, .. } => {
            let norm = upload_norm(backend, "embeddings.LayerNorm", norm, config.layer_norm_eps)?;
            Ok(match projection {
                None => Embedding::Norm(norm),
                Some(dense) => Embedding::Projected {
                    norm,
                    projection: upload_dense(backend, "embeddings.projection", dense)?,
                    embedding_size: dense.0.shape[1],
                },
            })
        }
        EmbeddingTensors::Image { projection, .. } => {
            let mut packed = PackedLinear::stack(std::slice::from_ref(projection), HeadSide::None)?;
            // The bias is in the embedding rows, which `[CLS]` has too; see `models::embedding`.
            packed.bias.fill(0.0);
            Ok(Embedding::Patches {
                projection: backend.create_linear("embeddings.projection", &packed)?,
                patch_values: packed.in_features,
            })
        }
    }
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
    let mut scaled = |name, dense, heads, scale: &Option<Tensor<'_>>| {
        let mut packed = PackedLinear::stack(one(dense), heads)?;
        scale.iter().for_each(|scale| packed.scale_outputs(scale));
        backend.create_linear(&label(name), &packed)
    };
    let attention_output =
        scaled("attention_output", &layer.attention_output, HeadSide::Input(heads), &layer.attention_scale)?;
    let output = scaled("output", &layer.output, HeadSide::None, &layer.mlp_scale)?;
    Ok(Layer {
        query_key_value: upload_linear(backend, &label("query_key_value"), &qkv, HeadSide::Output(heads))?,
        attention_output,
        attention_norm: upload_norm(backend, &label("attention_norm"), &layer.attention_norm, eps)?,
        intermediate: upload_linear(backend, &label("intermediate"), one(&layer.intermediate), HeadSide::None)?,
        output,
        mlp_norm: upload_norm(backend, &label("mlp_norm"), &layer.mlp_norm, eps)?,
    })
}
