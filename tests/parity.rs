//! The authors' own numbers: kept sets identical and logits close, for every case, every rule and both backends.

use crate::common::*;
use crate::parity_cases::{Calls, check_cases, check_fixture};
use sttabt::backend::gpu::{Variant, Variants};
use sttabt::{BackendKind, Engine, Model, Outputs};

#[test]
fn tiny_bert_agrees_on_the_cpu() {
    check_fixture(&fixture("tiny-bert"), engine(&tiny_bert(), BackendKind::Cpu), 67, Calls::Single);
}

#[test]
fn tiny_bert_agrees_on_the_gpu() {
    check_fixture(&fixture("tiny-bert"), engine(&tiny_bert(), BackendKind::Gpu), 67, Calls::Single);
}

#[test]
fn tiny_vit_agrees_on_the_cpu() {
    check_fixture(&fixture("tiny-vit"), engine(&tiny_vit(), BackendKind::Cpu), 26, Calls::Single);
}

#[test]
fn tiny_vit_agrees_on_the_gpu() {
    check_fixture(&fixture("tiny-vit"), engine(&tiny_vit(), BackendKind::Gpu), 26, Calls::Single);
}

/// The variants that software adapters do not get by themselves.
fn tiled(model: &Model) -> Engine {
    let mut engine = engine(model, BackendKind::Gpu);
    engine.gpu().expect("a GPU").set_variants(Variants::all(Variant::Tiled));
    engine
}

#[test]
fn the_tiny_models_agree_with_the_tiled_variants() {
    check_fixture(&fixture("tiny-bert"), tiled(&tiny_bert()), 67, Calls::Batches);
    check_fixture(&fixture("tiny-vit"), tiled(&tiny_vit()), 26, Calls::Batches);
}

#[test]
fn sst2_minilm_agrees_on_the_cpu() {
    check_fixture(&fixture("sst2-minilm"), engine(&sst2_minilm(), BackendKind::Cpu), 330, Calls::Single);
}

#[test]
fn deit_tiny_agrees_on_the_cpu() {
    check_fixture(&fixture("deit-tiny"), engine(&deit_tiny(), BackendKind::Cpu), 40, Calls::Single);
}

/// Real models on the GPU. A software adapter takes minutes for all their cases, so it gets some: every tenth text, and other ones with
/// the tiled variants; two of the five pictures; each under all of its rules. `./test --all` runs them all.
mod real_models {
    use super::*;

    #[test]
    fn sst2_minilm_agrees_on_the_gpu() {
        let engine = engine(&sst2_minilm(), BackendKind::Gpu);
        check_cases(&fixture("sst2-minilm"), engine, 33, Calls::Single, |index, _| index % 10 == 4);
    }

    #[test]
    fn deit_tiny_agrees_on_the_gpu() {
        let engine = engine(&deit_tiny(), BackendKind::Gpu);
        check_cases(&fixture("deit-tiny"), engine, 8, Calls::Single, |index, _| index == 0);
    }

    #[test]
    fn they_agree_with_the_tiled_variants() {
        let (texts, images) = (sst2_minilm(), deit_tiny());
        check_cases(&fixture("sst2-minilm"), tiled(&texts), 33, Calls::Batches, |index, _| index % 10 == 9);
        check_cases(&fixture("deit-tiny"), tiled(&images), 8, Calls::Batches, |index, _| index == 2);
    }

    #[test]
    #[ignore = "./test --all runs it"]
    fn sst2_minilm_agrees_on_the_gpu_in_all_cases() {
        check_fixture(&fixture("sst2-minilm"), engine(&sst2_minilm(), BackendKind::Gpu), 330, Calls::Single);
    }

    #[test]
    #[ignore = "./test --all runs it"]
    fn deit_tiny_agrees_on_the_gpu_in_all_cases() {
        check_fixture(&fixture("deit-tiny"), engine(&deit_tiny(), BackendKind::Gpu), 40, Calls::Single);
    }

    /// Every third case.
    #[test]
    #[ignore = "./test --all runs it"]
    fn they_agree_with_the_tiled_variants_in_more_cases() {
        let (texts, images) = (sst2_minilm(), deit_tiny());
        check_cases(&fixture("sst2-minilm"), tiled(&texts), 110, Calls::Batches, |index, _| index % 3 == 0);
        check_cases(&fixture("deit-tiny"), tiled(&images), 16, Calls::Batches, |index, _| index % 3 == 0);
    }
}

/// ApproxNet's attention maps, and the impacts that Rule 1 makes of them.
#[test]
fn approx_net_attention_agrees() {
    for (name, model, expected_maps) in [("tiny-bert", tiny_bert(), 20), ("tiny-vit", tiny_vit(), 16)] {
        check_attention(name, &model, expected_maps);
    }
}

fn check_attention(name: &str, model: &Model, expected_maps: usize) {
    let folder = fixture(name);
    for kind in BACKENDS {
        let mut engine = engine(model, kind);
        let mut num_maps = 0;
        for (index, case) in cases(&folder).iter().enumerate() {
            let Some(expected) = case["approx"]["mean_attention_probs"].as_array() else { continue };
            let outputs = Outputs { token_scores: true, attention_maps: true, sigmoid: false, threshold: None };
            let run =
                case["runs"].as_array().and_then(|runs| runs.iter().find(|run| run["mode"] == "topk")).expect("topk");
            let result =
                classify_with(&mut engine, &[CaseInput::new(&folder, case).get()], &prune(run), &outputs).remove(0);
            let (maps, scores) = (result.attention_maps.expect("maps"), result.token_scores.expect("scores"));
            for (layer, expected) in expected.iter().enumerate() {
                num_maps += 1;
                let far = distance(&maps[layer], &matrix(expected), 0.0);
                assert!(far < 1e-5, "{name}, {kind:?}, case {index}: map of layer {layer} is off by {far:e}");
                // w over K_l is m over K_l, normalised.
                let kept: Vec<f32> = result.kept[layer].iter().map(|&token| scores[layer][token as usize]).collect();
                let total: f32 = kept.iter().sum();
                let impacts: Vec<f32> = kept.iter().map(|m| m / (total + 1e-8)).collect();
                let far = distance(&impacts, &floats(&run["input_impacts"][layer]), 0.0);
                assert!(far < 1e-5, "{name}, {kind:?}, case {index}: impacts of layer {layer} are off by {far:e}");
            }
        }
        assert_eq!(num_maps, expected_maps, "{name}: maps");
    }
}
