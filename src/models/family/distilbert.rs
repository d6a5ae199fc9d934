//! DistilBERT: BERT without token types, under names of its own.

use super::bert::BERT;
use super::facts::{Family, HeadKind, InputKind, IntermediateSize, Keys, LayerNormEps};
use crate::models::checkpoint::{Names, Part};
use crate::models::config::{Activation, PoolerKind, TextKind};

pub const DISTILBERT: Family = Family {
    name: "DistilBert",
    architecture: "DistilBertForSequenceClassification",
    model_type: "distilbert",
    keys: Keys {
        hidden_size: "dim",
        intermediate_size: IntermediateSize::Key("hidden_dim"),
        num_hidden_layers: "n_layers",
        num_attention_heads: "n_heads",
        hidden_act: "activation",
        layer_norm_eps: LayerNormEps::Fixed(1e-12),
    },
    input: InputKind::Text(TextKind { starts_after_padding: false, has_token_types: false, embedding_size: None }),
    head: HeadKind::Classifier(PoolerKind::Dense(Activation::Relu)),
    names: Names {
        prefix: "distilbert.",
        base: &[
            (Part::Words, "embeddings.word_embeddings.weight"),
            (Part::Positions, "embeddings.position_embeddings.weight"),
            (Part::EmbeddingNorm, "embeddings.LayerNorm"),
            (Part::Query, "transformer.layer.{i}.attention.q_lin"),
            (Part::Key, "transformer.layer.{i}.attention.k_lin"),
            (Part::Value, "transformer.layer.{i}.attention.v_lin"),
            (Part::AttentionOutput, "transformer.layer.{i}.attention.out_lin"),
            (Part::AttentionNorm, "transformer.layer.{i}.sa_layer_norm"),
            (Part::Intermediate, "transformer.layer.{i}.ffn.lin1"),
            (Part::Output, "transformer.layer.{i}.ffn.lin2"),
            (Part::MlpNorm, "transformer.layer.{i}.output_layer_norm"),
            (Part::PLogit, "transformer.layer.{i}.p_logit"),
            (Part::LtpThreshold, "transformer.layer.{i}.ltp_threshold"),
        ],
        head: &[(Part::Pooler, "pre_classifier"), (Part::Classifier, "classifier")],
    },
    ..BERT
};

pub const DISTILBERT_EMBEDDER: Family =
    Family { architecture: "DistilBertModel", head: HeadKind::Embedding(PoolerKind::None), ..DISTILBERT };
