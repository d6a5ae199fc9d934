//! BERT: texts; layers normalise after attention and MLP.

use super::facts::{Family, HeadKind, InputKind, Keys, NormOrder};
use crate::models::checkpoint::{Names, Part};
use crate::models::config::{Activation, PoolerKind, TextKind};

pub const BERT: Family = Family {
    name: "Bert",
    architecture: "BertForSequenceClassification",
    model_type: "bert",
    keys: Keys::BERT,
    input: InputKind::Text(TextKind { starts_after_padding: false, has_token_types: true, embedding_size: None }),
    num_anchors: 1,
    norm_order: NormOrder::Post,
    head: HeadKind::Classifier(PoolerKind::Dense(Activation::Tanh)),
    names: Names {
        prefix: "bert.",
        base: BASE,
        head: &[(Part::Pooler, "bert.pooler.dense"), (Part::Classifier, "classifier")],
    },
    other_names: &[],
    refused: &[],
};

pub const BERT_EMBEDDER: Family =
    Family { architecture: "BertModel", head: HeadKind::Embedding(PoolerKind::None), ..BERT };

/// RoBERTa and ELECTRA took these names over; ELECTRA alone projects embeddings.
pub const BASE: &[(Part, &str)] = &[
    (Part::Words, "embeddings.word_embeddings.weight"),
    (Part::Positions, "embeddings.position_embeddings.weight"),
    (Part::TokenTypes, "embeddings.token_type_embeddings.weight"),
    (Part::EmbeddingNorm, "embeddings.LayerNorm"),
    (Part::EmbeddingProjection, "embeddings_project"),
    (Part::Query, "encoder.layer.{i}.attention.self.query"),
    (Part::Key, "encoder.layer.{i}.attention.self.key"),
    (Part::Value, "encoder.layer.{i}.attention.self.value"),
    (Part::AttentionOutput, "encoder.layer.{i}.attention.output.dense"),
    (Part::AttentionNorm, "encoder.layer.{i}.attention.output.LayerNorm"),
    (Part::Intermediate, "encoder.layer.{i}.intermediate.dense"),
    (Part::Output, "encoder.layer.{i}.output.dense"),
    (Part::MlpNorm, "encoder.layer.{i}.output.LayerNorm"),
    (Part::PLogit, "encoder.layer.{i}.p_logit"),
    (Part::LtpThreshold, "encoder.layer.{i}.ltp_threshold"),
];
