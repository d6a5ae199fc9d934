//! Every family and head, random models of four layers: ids and kept sets as transformers gives them, numbers within 1e-4.

use crate::common::*;
use crate::parity_cases::{Calls, check_fixture};
use sttabt::BackendKind;

/// A test for each backend and folder, with the number of its runs.
macro_rules! families {
    ($($name:ident, $folder:literal, $runs:literal;)*) => {
        mod cpu {
            $(#[test] fn $name() { super::check($folder, $runs, sttabt::BackendKind::Cpu, super::Calls::Single); })*
        }
        mod gpu {
            $(#[test] fn $name() { super::check($folder, $runs, sttabt::BackendKind::Gpu, super::Calls::Batches); })*
        }
        #[test]
        fn no_folder_is_left_out() {
            let mut named = vec![$($folder),*];
            named.sort_unstable();
            let mut found: Vec<String> = std::fs::read_dir(fixture("families")).expect("a folder")
                .map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
            found.sort_unstable();
            assert_eq!(found, named);
        }
    };
}

fn check(name: &str, num_runs: usize, kind: BackendKind, calls: Calls) {
    let folder = fixture("families").join(name);
    check_fixture(&folder, engine(&load(&folder), kind), num_runs, calls);
}

families! {
    bert_gelu_new, "bert-gelu-new", 56;
    bert_relu, "bert-relu", 58;
    bert_multilabel, "bert-multilabel", 56;
    bert_embed_cls, "bert-embed-cls", 57;
    distilbert, "distilbert", 60;
    roberta, "roberta", 58;
    roberta_embed_cls, "roberta-embed-cls", 56;
    camembert_score, "camembert-score", 57;
    xlm_roberta, "xlm-roberta", 59;
    electra, "electra", 56;
    electra_same, "electra-same", 59;
    vit_gelu_tanh, "vit-gelu-tanh", 15;
    deit, "deit", 15;
    deit_distilled, "deit-distilled", 15;
    dinov2_embed, "dinov2-embed", 15;
}
