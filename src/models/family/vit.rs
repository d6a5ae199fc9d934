//! ViT and DeiT: images; layers normalise before attention and MLP.

use super::bert::BERT;
use super::facts::{Family, HeadKind, InputKind, NormOrder, Refused};
use crate::models::checkpoint::{Names, Part};
use crate::models::config::PoolerKind;

pub const VIT: Family = Family {
    name: "Vit",
    architecture: "ViTForImageClassification",
    model_type: "vit",
    input: InputKind::Image { num_prefix_tokens: 1, resizes_positions: false, processor: "ViTImageProcessor" },
    norm_order: NormOrder::Pre,
    head: HeadKind::Classifier(PoolerKind::Norm),
    names: Names {
        prefix: "vit.",
        base: BASE,
        head: &[(Part::Pooler, "vit.layernorm"), (Part::Classifier, "classifier")],
    },
    other_names: &[("pos_embed", TIMM)],
    refused: &[Refused {
        what: "a second learned token in a model of class ViT: tensor",
        tensors: &["dist_token", "vit.embeddings.distillation_token", "embeddings.distillation_token"],
        supported: "that token in DeiTForImageClassification, DeiTForImageClassificationWithTeacher and timm's distilled models",
    }],
    ..BERT
};

pub const VIT_EMBEDDER: Family =
    Family { architecture: "ViTModel", head: HeadKind::Embedding(PoolerKind::Norm), ..VIT };

/// With a distillation token, which classifies nothing.
pub const DEIT: Family = Family {
    name: "Deit",
    architecture: "DeiTForImageClassification",
    model_type: "deit",
    input: InputKind::Image { num_prefix_tokens: 2, resizes_positions: false, processor: "DeiTImageProcessor" },
    names: Names {
        prefix: "deit.",
        base: BASE,
        head: &[(Part::Pooler, "deit.layernorm"), (Part::Classifier, "classifier")],
    },
    refused: &[],
    ..VIT
};

/// With a classifier for each of the two learned tokens, whose mean counts.
pub const DEIT_DISTILLED: Family = Family {
    architecture: "DeiTForImageClassificationWithTeacher",
    num_anchors: 2,
    names: Names {
        prefix: "deit.",
        base: BASE,
        head: &[
            (Part::Pooler, "deit.layernorm"),
            (Part::Classifier, "cls_classifier"),
            (Part::DistillationClassifier, "distillation_classifier"),
        ],
    },
    ..DEIT
};

pub const DEIT_EMBEDDER: Family =
    Family { architecture: "DeiTModel", head: HeadKind::Embedding(PoolerKind::Norm), ..DEIT };

const BASE: &[(Part, &str)] = &[
    (Part::Anchor(0), "embeddings.cls_token"),
    (Part::Anchor(1), "embeddings.distillation_token"),
    (Part::Positions, "embeddings.position_embeddings"),
    (Part::Projection, "embeddings.patch_embeddings.projection"),
    (Part::Query, "encoder.layer.{i}.attention.attention.query"),
    (Part::Key, "encoder.layer.{i}.attention.attention.key"),
    (Part::Value, "encoder.layer.{i}.attention.attention.value"),
    (Part::AttentionOutput, "encoder.layer.{i}.attention.output.dense"),
    (Part::AttentionNorm, "encoder.layer.{i}.layernorm_before"),
    (Part::Intermediate, "encoder.layer.{i}.intermediate.dense"),
    (Part::Output, "encoder.layer.{i}.output.dense"),
    (Part::MlpNorm, "encoder.layer.{i}.layernorm_after"),
    (Part::PLogit, "encoder.layer.{i}.p_logit"),
    (Part::LtpThreshold, "encoder.layer.{i}.ltp_threshold"),
];

/// timm's names. The thresholds are ours and have none here.
pub const TIMM: Names = Names {
    prefix: "",
    base: &[
        (Part::Anchor(0), "cls_token"),
        (Part::Anchor(1), "dist_token"),
        (Part::Positions, "pos_embed"),
        (Part::Projection, "patch_embed.proj"),
        (Part::QueryKeyValue, "blocks.{i}.attn.qkv"),
        (Part::AttentionOutput, "blocks.{i}.attn.proj"),
        (Part::AttentionNorm, "blocks.{i}.norm1"),
        (Part::Intermediate, "blocks.{i}.mlp.fc1"),
        (Part::Output, "blocks.{i}.mlp.fc2"),
        (Part::MlpNorm, "blocks.{i}.norm2"),
        (Part::Pooler, "norm"),
    ],
    head: &[(Part::Classifier, "head"), (Part::DistillationClassifier, "head_dist")],
};
