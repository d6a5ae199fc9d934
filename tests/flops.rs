//! FLOPs are counted from the rows that are computed: the formula and a counter in every kernel give the same number.
//!
//! After `start_counting` each kernel adds its rows to one counter on the device.

use crate::common::*;
use sttabt::backend::gpu::{Variant, Variants};
use sttabt::{BackendKind, Engine, Input, Model, Outputs};

fn check(model: &Model, inputs: &[Input<'_>], rules: &[&str]) {
    let mut engine: Engine = engine(model, BackendKind::Gpu);
    engine.gpu().expect("a GPU").start_counting();
    let mut before = 0;
    let each_variant = Variant::ALL.into_iter().flat_map(|variant| rules.iter().map(move |rule| (variant, rule)));
    for (variant, rule) in each_variant {
        engine.gpu().expect("a GPU").set_variants(Variants::all(variant));
        let prune = rule.parse().expect("rule");
        let results = classify_with(&mut engine, inputs, &prune, &Outputs::default());
        let total: u64 = results.iter().map(|result| result.flops.total()).sum();
        let gpu = engine.gpu().expect("a GPU");
        let after = pollster::block_on(gpu.counted_multiply_adds()).expect("counter");
        assert!(total > 0);
        assert_eq!(
            2 * (after - before),
            total,
            "{rule}, {variant}: what the kernels counted, and what the report says"
        );
        before = after;
    }
}

const RULES: [&str; 7] =
    ["dense", "topk:0.5", "topk:0.9,0.6,0.4,0.1", "concrete", "oracle:0.4", "forward:0.6", "forward:0.9,0.5,0.3,0.1"];

#[test]
fn kernels_count_what_the_report_says() {
    let texts = ["w51 w41 w11 w19 w70 w33", "w88", "w12 w13 w14 w15 w16 w17 w18 w19 w20 w21 w22 w23 w24 w25 w26 w27"];
    let mut inputs = texts.map(Input::Text).to_vec();
    inputs.push(Input::Pair(texts[0], texts[2]));
    check(&tiny_bert(), &inputs, &RULES);
}

/// The projection of patches is counted for K_0 alone.
#[test]
fn kernels_count_what_the_report_says_of_images() {
    let pictures = [0, 1, 2].map(|index| picture(&fixture("tiny-vit").join(format!("image{index}.png"))));
    check(&tiny_vit(), &pictures.each_ref().map(Input::Image), &RULES);
}

mod real_models {
    use super::*;

    const RULES: [&str; 5] = ["dense", "topk:0.3", "concrete", "oracle:0.3", "forward:0.3"];

    #[test]
    fn kernels_count_what_the_report_says_of_a_text() {
        let text = Input::Text("a gripping, funny film that never loses its way, though it does lose its plot");
        check(&sst2_minilm(), &[text], &RULES);
    }

    #[test]
    fn kernels_count_what_the_report_says_of_an_image() {
        let picture = picture(&fixture("deit-tiny").join("chelsea-224.png"));
        check(&deit_tiny(), &[Input::Image(&picture)], &RULES);
    }
}
