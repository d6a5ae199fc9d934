//! Learned Token Pruning: the kept tokens, logits and scores of an implementation in float64, and thresholds out of the model's file.

use crate::common::*;
use serde_json::Value;
use sttabt::{Error, Input, Model, Outputs, Prune};

fn ltp_cases() -> Vec<Value> {
    let cases: Value = serde_json::from_slice(&read(&fixture("tiny-bert").join("ltp_cases.json"))).expect("JSON");
    cases["cases"].as_array().expect("cases").clone()
}

#[test]
fn kept_tokens_and_logits_agree_with_float64() {
    let model = tiny_bert();
    for kind in BACKENDS {
        let mut engine = engine(&model, kind);
        let mut num_runs = 0;
        for (index, case) in ltp_cases().iter().enumerate() {
            let input = CaseInput::new(&fixture("tiny-bert"), case);
            for run in case["runs"].as_array().expect("runs") {
                let what = format!("{kind:?}, case {index}, {}", prune(run));
                let outputs = Outputs { token_scores: true, attention_maps: false, sigmoid: false, threshold: None };
                let result = classify_with(&mut engine, &[input.get()], &prune(run), &outputs).remove(0);
                let kept: Vec<Vec<u32>> = serde_json::from_value(run["kept"].clone()).expect("kept");
                assert_eq!(result.kept, kept, "{what}");
                let far = distance(&result.logits, &floats(&run["logits"]), 0.0);
                assert!(far < 1e-4, "{what}: logits are off by {far:e}");
                let scores = result.token_scores.expect("scores");
                let expected = run["scores"].as_array().expect("scores");
                // After the last layer only [CLS] counts, and it is not scored.
                assert_eq!(scores.len(), expected.len() - 1, "{what}");
                for (layer, (scores, expected)) in scores.iter().zip(expected).enumerate() {
                    let scores: Vec<f32> = kept[layer].iter().map(|&token| scores[token as usize]).collect();
                    let far = distance(&scores, &floats(expected), 0.0);
                    assert!(far < 1e-6, "{what}: scores of layer {layer} are off by {far:e}");
                }
                num_runs += 1;
            }
        }
        assert_eq!(num_runs, 36);
    }
}

/// A model whose file has the thresholds of a run.
fn with_thresholds(thresholds: &[f32]) -> Model {
    let mut files = model_files(&fixture("tiny-bert"));
    edit::edit_tensors(&mut files, |tensors| {
        for (layer, &threshold) in thresholds.iter().enumerate() {
            let name = format!("bert.encoder.layer.{layer}.ltp_threshold");
            tensors.insert(name, edit::HostTensor::f32(&[1], &[threshold]));
        }
    });
    Model::from_bytes(files).expect("a model")
}

#[test]
fn thresholds_in_the_file_are_those_given() {
    let thresholds = [0.02, 0.03, 0.035, 0.04];
    let input = [Input::Text("w51 w41 w11 w19 w70 w5 w6 w7 w8 w9 w10 w12 w13 w14 w15 w16 w17")];
    for kind in BACKENDS {
        let learned = classify(&mut engine(&with_thresholds(&thresholds), kind), &input, &Prune::Ltp(None));
        let given = "ltp:0.02,0.03,0.035,0.04".parse().expect("a rule");
        let given = classify(&mut engine(&tiny_bert(), kind), &input, &given);
        assert_eq!(learned[0].kept, given[0].kept);
        assert_eq!(learned[0].logits, given[0].logits);
        assert!(learned[0].retention < 0.9, "{}", learned[0].retention);
    }
}

/// A threshold that no score reaches leaves `[CLS]`, however large it is: 32 times 128 tokens is where a shader's words would wrap around.
#[test]
fn large_thresholds_leave_the_first_token() {
    let text: String = (0..126).map(|word| format!("w{} ", 5 + word * 7 % 90)).collect();
    for threshold in [1.0, 32.0, 1e9] {
        for kind in BACKENDS {
            let mut engine = engine(&with_thresholds(&[threshold; 4]), kind);
            let result = classify(&mut engine, &[Input::Text(&text)], &Prune::Ltp(None)).remove(0);
            assert_eq!(result.kept[1..], [vec![0], vec![0], vec![0], vec![0]], "{threshold}, {kind:?}");
        }
    }
}

#[test]
fn what_the_rule_lacks_is_named() {
    let mut engine = engine(&tiny_bert(), BACKENDS[0]);
    let rows = [
        (
            "ltp",
            "rule `ltp` needs learned thresholds (tensors encoder.layer.{i}.ltp_threshold), or given ones as in `ltp:0.01`, \
             and this model has none",
        ),
        ("ltp:0.1,0.2", "rule `ltp:0.1,0.2` needs one threshold or 4, one per layer, not 2"),
    ];
    for (rule, message) in rows {
        let rule: Prune = rule.parse().expect("a rule");
        let outcome = pollster::block_on(engine.classify(&[Input::Text("w5")], &rule, &Outputs::default()));
        assert_eq!(outcome.expect_err(message).to_string(), message);
    }
    for (rule, reason) in [
        ("ltp:", "`` is not a number"),
        ("ltp:x", "`x` is not a number"),
        ("ltp:-0.1", "threshold -0.1 is out of range, expected 0 <= threshold <= 1"),
        ("ltp:0.1,NaN", "threshold NaN is out of range, expected 0 <= threshold <= 1"),
        ("ltp:2", "threshold 2 is out of range, expected 0 <= threshold <= 1"),
    ] {
        let expected = Error::Rule { rule: rule.to_owned(), reason: reason.to_owned() };
        assert_eq!(rule.parse::<Prune>(), Err(expected));
    }
    assert_eq!("ltp:0.01,0.02".parse::<Prune>().expect("a rule").to_string(), "ltp:0.01,0.02");
    assert_eq!(Prune::parse_list("ltp:0.01,0.02,ltp,dense").expect("rules").len(), 3);
}
