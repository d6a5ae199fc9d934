//! ELECTRA's discriminator: BERT whose tables may be narrower than its layers, and with another head.

use super::bert::{BASE, BERT};
use super::facts::{Family, HeadKind, InputKind};
use crate::models::checkpoint::{Names, Part};
use crate::models::config::{Activation, PoolerKind, TextKind};

pub const ELECTRA: Family = Family {
    name: "Electra",
    architecture: "ElectraForSequenceClassification",
    model_type: "electra",
    input: InputKind::Text(TextKind {
        starts_after_padding: false,
        has_token_types: true,
        embedding_size: Some("embedding_size"),
    }),
    head: HeadKind::Classifier(PoolerKind::Dense(Activation::Gelu)),
    names: Names {
        prefix: "electra.",
        base: BASE,
        head: &[(Part::Pooler, "classifier.dense"), (Part::Classifier, "classifier.out_proj")],
    },
    ..BERT
};

pub const ELECTRA_EMBEDDER: Family =
    Family { architecture: "ElectraModel", head: HeadKind::Embedding(PoolerKind::None), ..ELECTRA };
