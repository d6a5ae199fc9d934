//! ViT, and DeiT without its distillation token: images; layers normalise before attention and MLP.

use super::facts::{Family, InputKind, Keys, NormOrder, Refused};
use crate::models::checkpoint::{Names, Part};
use crate::models::config::{Activation, PoolerKind};

pub const VIT: Family = Family {
    name: "Vit",
    architecture: "ViTForImageClassification",
    model_type: "vit",
    keys: Keys::BERT,
    input: InputKind::Image,
    num_anchors: 1,
    norm_order: NormOrder::Pre,
    activation: Activation::Gelu,
    pooler: PoolerKind::Norm,
    names: Names {
        prefix: "vit.",
        table: &[
            (Part::Anchor(0), "vit.embeddings.cls_token"),
            (Part::Positions, "vit.embeddings.position_embeddings"),
            (Part::Projection, "vit.embeddings.patch_embeddings.projection"),
            (Part::Query, "vit.encoder.layer.{i}.attention.attention.query"),
            (Part::Key, "vit.encoder.layer.{i}.attention.attention.key"),
            (Part::Value, "vit.encoder.layer.{i}.attention.attention.value"),
            (Part::AttentionOutput, "vit.encoder.layer.{i}.attention.output.dense"),
            (Part::AttentionNorm, "vit.encoder.layer.{i}.layernorm_before"),
            (Part::Intermediate, "vit.encoder.layer.{i}.intermediate.dense"),
            (Part::Output, "vit.encoder.layer.{i}.output.dense"),
            (Part::MlpNorm, "vit.encoder.layer.{i}.layernorm_after"),
            (Part::PLogit, "vit.encoder.layer.{i}.p_logit"),
            (Part::LtpThreshold, "vit.encoder.layer.{i}.ltp_threshold"),
            (Part::Pooler, "vit.layernorm"),
            (Part::Classifier, "classifier"),
        ],
    },
    other_names: &[("pos_embed", TIMM)],
    refused: &[Refused {
        what: "distilled DeiT: tensor",
        tensors: &[
            "dist_token",
            "deit.embeddings.distillation_token",
            "vit.embeddings.distillation_token",
            "embeddings.distillation_token",
        ],
        supported: "ViT and DeiT with the one token [CLS]",
    }],
};

/// timm's names. The thresholds are ours and have none here.
const TIMM: Names = Names {
    prefix: "",
    table: &[
        (Part::Anchor(0), "cls_token"),
        (Part::Positions, "pos_embed"),
        (Part::Projection, "patch_embed.proj"),
        (Part::QueryKeyValue, "blocks.{i}.attn.qkv"),
        (Part::AttentionOutput, "blocks.{i}.attn.proj"),
        (Part::AttentionNorm, "blocks.{i}.norm1"),
        (Part::Intermediate, "blocks.{i}.mlp.fc1"),
        (Part::Output, "blocks.{i}.mlp.fc2"),
        (Part::MlpNorm, "blocks.{i}.norm2"),
        (Part::Pooler, "norm"),
        (Part::Classifier, "head"),
    ],
};
