//! RoBERTa, XLM-RoBERTa and CamemBERT: BERT with positions from behind the padding's, without token types, and with another head.

use super::bert::{BASE, BERT};
use super::facts::{Family, HeadKind, InputKind};
use crate::models::checkpoint::{Names, Part};
use crate::models::config::{PoolerKind, TextKind};

pub const ROBERTA: Family = Family {
    name: "Roberta",
    architecture: "RobertaForSequenceClassification",
    model_type: "roberta",
    input: InputKind::Text(TextKind { starts_after_padding: true, has_token_types: true, embedding_size: None }),
    names: NAMES,
    ..BERT
};

pub const ROBERTA_EMBEDDER: Family =
    Family { architecture: "RobertaModel", head: HeadKind::Embedding(PoolerKind::None), ..ROBERTA };

pub const XLM_ROBERTA: Family = Family {
    name: "XlmRoberta",
    architecture: "XLMRobertaForSequenceClassification",
    model_type: "xlm-roberta",
    ..ROBERTA
};

pub const XLM_ROBERTA_EMBEDDER: Family =
    Family { architecture: "XLMRobertaModel", head: HeadKind::Embedding(PoolerKind::None), ..XLM_ROBERTA };

pub const CAMEMBERT: Family = Family {
    name: "Camembert",
    architecture: "CamembertForSequenceClassification",
    model_type: "camembert",
    ..ROBERTA
};

pub const CAMEMBERT_EMBEDDER: Family =
    Family { architecture: "CamembertModel", head: HeadKind::Embedding(PoolerKind::None), ..CAMEMBERT };

const NAMES: Names = Names {
    prefix: "roberta.",
    base: BASE,
    head: &[(Part::Pooler, "classifier.dense"), (Part::Classifier, "classifier.out_proj")],
};
