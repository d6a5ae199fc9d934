//! BERT: texts; layers normalise after attention and MLP.

use super::facts::{Family, InputKind, Keys, NormOrder};
use crate::models::checkpoint::{Names, Part};
use crate::models::config::{Activation, PoolerKind};

pub const BERT: Family = Family {
    name: "Bert",
    architecture: "BertForSequenceClassification",
    model_type: "bert",
    keys: Keys::BERT,
    input: InputKind::Text { position_offset: 0 },
    num_anchors: 1,
    norm_order: NormOrder::Post,
    activation: Activation::Gelu,
    pooler: PoolerKind::Dense(Activation::Tanh),
    names: Names {
        prefix: "bert.",
        table: &[
            (Part::Words, "bert.embeddings.word_embeddings.weight"),
            (Part::Positions, "bert.embeddings.position_embeddings.weight"),
            (Part::TokenTypes, "bert.embeddings.token_type_embeddings.weight"),
            (Part::EmbeddingNorm, "bert.embeddings.LayerNorm"),
            (Part::Query, "bert.encoder.layer.{i}.attention.self.query"),
            (Part::Key, "bert.encoder.layer.{i}.attention.self.key"),
            (Part::Value, "bert.encoder.layer.{i}.attention.self.value"),
            (Part::AttentionOutput, "bert.encoder.layer.{i}.attention.output.dense"),
            (Part::AttentionNorm, "bert.encoder.layer.{i}.attention.output.LayerNorm"),
            (Part::Intermediate, "bert.encoder.layer.{i}.intermediate.dense"),
            (Part::Output, "bert.encoder.layer.{i}.output.dense"),
            (Part::MlpNorm, "bert.encoder.layer.{i}.output.LayerNorm"),
            (Part::PLogit, "bert.encoder.layer.{i}.p_logit"),
            (Part::LtpThreshold, "bert.encoder.layer.{i}.ltp_threshold"),
            (Part::Pooler, "bert.pooler.dense"),
            (Part::Classifier, "classifier"),
        ],
    },
    other_names: &[],
    refused: &[],
};
