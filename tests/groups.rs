//! A large batch on a GPU is prepared in groups, one while the device computes another: results keep their order, and errors their numbers.

use crate::common::*;
use sttabt::{BackendKind, Error, Input, Outputs};

/// Some 24 000 tokens: more than two groups, of several chunks in all where a buffer is small.
fn texts() -> Vec<String> {
    (0..200).map(|text| (0..120).map(|word| format!("w{} ", 5 + (text * 31 + word * 7) % 90)).collect()).collect()
}

#[test]
fn groups_give_what_one_batch_gives() {
    let (model, texts) = (tiny_bert(), texts());
    let inputs: Vec<Input<'_>> = texts.iter().map(|text| Input::Text(text)).collect();
    for rule in ["dense", "topk:0.3", "ltp:0.009"] {
        let rule = rule.parse().expect("a rule");
        let on_gpu = classify(&mut engine(&model, BackendKind::Gpu), &inputs, &rule);
        let on_cpu = classify(&mut engine(&model, BackendKind::Cpu), &inputs, &rule);
        assert_eq!(on_gpu.len(), on_cpu.len());
        for (place, (gpu, cpu)) in on_gpu.iter().zip(&on_cpu).enumerate() {
            assert_eq!(gpu.input_ids, cpu.input_ids, "{rule}, input {place}");
            let far = distance(&gpu.logits, &cpu.logits, 1e-4);
            assert!(far < 1e-4, "{rule}, input {place}: logits are off by {far:e}");
        }
        // A run after it, in the same memory or less, is not disturbed by what was in flight.
        let alone = classify(&mut engine(&model, BackendKind::Gpu), &inputs[199..], &rule);
        assert_eq!(alone[0].logits, on_gpu[199].logits, "{rule}");
    }
}

#[test]
fn errors_have_the_number_of_the_whole_batch() {
    let mut texts = texts();
    texts[198].clear();
    let inputs: Vec<Input<'_>> = texts.iter().map(|text| Input::Text(text)).collect();
    for kind in BACKENDS {
        let mut engine = engine(&tiny_bert(), kind);
        let error =
            pollster::block_on(engine.classify(&inputs, &"dense".parse().expect("a rule"), &Outputs::default()));
        let reason = "the text is empty, expected at least one word".to_owned();
        assert_eq!(error.expect_err("an empty text"), Error::Input { index: 198, reason }, "{kind:?}");
        // Nor does it disturb the next one.
        assert_eq!(classify(&mut engine, &inputs[..3], &"topk:0.5".parse().expect("a rule")).len(), 3);
    }
}

/// Also without inputs the rule must fit the model.
#[test]
fn no_inputs_are_checked_too() {
    for kind in BACKENDS {
        let mut engine = engine(&tiny_bert(), kind);
        let run = |engine: &mut sttabt::Engine, rule: &str| {
            pollster::block_on(engine.classify(&[], &rule.parse().expect("a rule"), &Outputs::default()))
        };
        assert_eq!(run(&mut engine, "topk:0.5"), Ok(Vec::new()), "{kind:?}");
        let error = run(&mut engine, "topk:0.5,0.4").expect_err("too few ratios").to_string();
        assert_eq!(error, "rule `topk:0.5,0.4` needs one ratio or 4, one per layer, not 2", "{kind:?}");
    }
}
