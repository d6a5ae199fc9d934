//! DINOv2: ViT whose layers scale what they add, and whose table of positions is resized for the image.

use super::facts::{Family, HeadKind, InputKind, IntermediateSize, Keys, LayerNormEps, Refused};
use super::vit::VIT;
use crate::models::checkpoint::{Names, Part};
use crate::models::config::PoolerKind;

pub const DINOV2_EMBEDDER: Family = Family {
    name: "Dinov2",
    architecture: "Dinov2Model",
    model_type: "dinov2",
    keys: Keys {
        intermediate_size: IntermediateSize::Ratio("mlp_ratio"),
        layer_norm_eps: LayerNormEps::Default(1e-6),
        ..Keys::BERT
    },
    input: InputKind::Image { num_prefix_tokens: 1, resizes_positions: true, processor: "BitImageProcessor" },
    head: HeadKind::Embedding(PoolerKind::Norm),
    names: Names {
        prefix: "dinov2.",
        base: &[
            (Part::Anchor(0), "embeddings.cls_token"),
            (Part::Positions, "embeddings.position_embeddings"),
            (Part::Projection, "embeddings.patch_embeddings.projection"),
            (Part::Query, "encoder.layer.{i}.attention.attention.query"),
            (Part::Key, "encoder.layer.{i}.attention.attention.key"),
            (Part::Value, "encoder.layer.{i}.attention.attention.value"),
            (Part::AttentionOutput, "encoder.layer.{i}.attention.output.dense"),
            (Part::AttentionScale, "encoder.layer.{i}.layer_scale1.lambda1"),
            (Part::AttentionNorm, "encoder.layer.{i}.norm1"),
            (Part::Intermediate, "encoder.layer.{i}.mlp.fc1"),
            (Part::Output, "encoder.layer.{i}.mlp.fc2"),
            (Part::MlpScale, "encoder.layer.{i}.layer_scale2.lambda1"),
            (Part::MlpNorm, "encoder.layer.{i}.norm2"),
            (Part::PLogit, "encoder.layer.{i}.p_logit"),
            (Part::LtpThreshold, "encoder.layer.{i}.ltp_threshold"),
            (Part::Pooler, "layernorm"),
        ],
        head: &[],
    },
    other_names: &[],
    refused: &[Refused {
        what: "DINOv2 with a gated MLP (SwiGLU): tensor",
        tensors: &["encoder.layer.0.mlp.weights_in.weight", "dinov2.encoder.layer.0.mlp.weights_in.weight"],
        supported: "DINOv2 small, base and large",
    }],
    ..VIT
};
