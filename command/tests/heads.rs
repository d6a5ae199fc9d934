//! `sttabt embed`, and what `sttabt classify` prints of several labels and of a score.

use crate::command::*;
use crate::common::{engine, fixture, load};
use serde_json::Value;
use sttabt::{BackendKind, Input, Outputs, Prune};

const EMBEDDER: &str = "tests/fixtures/families/bert-embed-cls";
const MULTI_LABEL: &str = "tests/fixtures/families/bert-multilabel";
const SCORE: &str = "tests/fixtures/families/camembert-score";

#[test]
fn embed_prints_the_vectors_that_the_library_gives() {
    let texts = ["a gripping film", "w"];
    let model = load(&fixture("families/bert-embed-cls"));
    for rule in ["dense", "topk:0.5", "oracle:0.4"] {
        let report = run(with_model(EMBEDDER, "embed", &[&["--json", "--prune", rule], &texts[..]].concat())).json();
        let prune: Prune = rule.parse().expect("a rule");
        let mut engine = engine(&model, BackendKind::Cpu);
        let expected = pollster::block_on(engine.embed(&texts.map(Input::Text), &prune, &Outputs::default()));
        let results = report["results"].as_array().expect("results");
        for ((result, expected), text) in results.iter().zip(expected.expect("embeddings")).zip(texts) {
            assert_eq!(result["text"], text);
            let found: Vec<f32> = serde_json::from_value(result["embedding"].clone()).expect("numbers");
            assert_eq!(Some(found), expected.embedding);
            for key in ["tokens", "kept", "retention", "flops", "ms"] {
                assert!(!result[key].is_null(), "{key}: {result}");
            }
            for key in ["logits", "label", "label_index", "labels"] {
                assert!(result.get(key).is_none(), "{key}: {result}");
            }
        }
    }
}

#[test]
fn embed_reads_images_and_files_too() {
    let folder = "tests/fixtures/families/dinov2-embed";
    let image = format!("{folder}/image0.png");
    let report = run(with_model(folder, "embed", &["--json", "--image", &image])).json();
    assert_eq!(report["results"][0]["embedding"].as_array().map(Vec::len), Some(48));
    let texts = path(&scratch("embed").join("texts.txt"));
    std::fs::write(&texts, "one film\nanother film\n\n").expect("a file");
    let report = run(with_model(EMBEDDER, "embed", &["--json", "--file", &texts])).json();
    assert_eq!(report["results"].as_array().map(Vec::len), Some(2));
    let stdout = run(with_model(EMBEDDER, "embed", &["--prune", "dense", "a film"])).quiet();
    assert!(stdout.contains("48 numbers: "), "{stdout}");
}

fn labels(report: &Value) -> Vec<&str> {
    let labels = report["results"][0]["labels"].as_array().expect("labels");
    labels.iter().map(|label| label.as_str().expect("a label")).collect()
}

#[test]
fn labels_above_the_threshold() {
    let given = |args: &[&'static str]| {
        run(with_model(MULTI_LABEL, "classify", &[&["--json", "--prune", "dense"], args].concat())).json()
    };
    let report = given(&["a gripping film"]);
    let probs: Vec<f64> = serde_json::from_value(report["results"][0]["probs"].clone()).expect("numbers");
    let names = ["bad", "fine", "good"];
    let above = |threshold: f64| -> Vec<&str> {
        names.iter().zip(&probs).filter(|(_, prob)| **prob >= threshold).map(|(name, _)| *name).collect()
    };
    assert_eq!(labels(&report), above(0.5));
    assert_eq!(labels(&given(&["--threshold", "0", "a gripping film"])), names);
    assert_eq!(labels(&given(&["--threshold", "0.3", "a gripping film"])), above(0.3));
    assert_eq!(labels(&given(&["--threshold", "1", "a gripping film"])), Vec::<&str>::new());
    let stdout =
        run(with_model(MULTI_LABEL, "classify", &["--prune", "dense", "--threshold", "1", "a gripping film"])).quiet();
    assert!(stdout.contains("none; most likely "), "{stdout}");
}

#[test]
fn a_score_and_its_sigmoid() {
    let report = run(with_model(SCORE, "classify", &["--json", "--prune", "dense", "--sigmoid", "un bon film"])).json();
    let result = &report["results"][0];
    let (logit, prob) =
        (result["logits"][0].as_f64().expect("a logit"), result["probs"][0].as_f64().expect("a sigmoid"));
    assert!((1.0 / (1.0 + (-logit).exp()) - prob).abs() < 1e-6);
    let report = run(with_model(SCORE, "classify", &["--json", "--prune", "dense", "un bon film"])).json();
    assert_eq!(report["results"][0]["probs"], serde_json::json!([]));
}

#[test]
fn what_a_head_does_not_give_is_refused() {
    for (verb, model, args, expected) in [
        (
            "embed",
            MULTI_LABEL,
            &["x"][..],
            "`embed` needs an embedder (`classify` gives labels), and this model is a multi-label classifier",
        ),
        (
            "classify",
            EMBEDDER,
            &["x"],
            "`classify` needs labels or a score (`embed` gives vectors), and this model is an embedder",
        ),
        (
            "classify",
            MULTI_LABEL,
            &["--sigmoid", "x"],
            "`sigmoid` needs a single output, and this model is a multi-label classifier",
        ),
        (
            "classify",
            SCORE,
            &["--threshold", "0.5", "x"],
            "`threshold` needs several labels at once (`problem_type` in config.json), and this model is one with a single output",
        ),
        ("eval", EMBEDDER, &["Cargo.toml"], "this model is an embedder: there are no labels to measure it by"),
        (
            "eval",
            MULTI_LABEL,
            &["Cargo.toml"],
            "this model gives any number of labels, and `eval` measures models that give one: `sttabt classify --json --file TEXTS` gives \
             `labels` and `probs` of each text, to be measured by a program of yours",
        ),
    ] {
        assert_eq!(run(with_model(model, verb, args)).failure(), format!("1 error: {expected}"), "{verb} {model}");
    }
}
