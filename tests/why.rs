//! `Classification::why`: the parts of a score add up to what the recursions gave, and the verdict is that of the kept sets.

use crate::common::*;
use sttabt::{BackendKind, Classification, Input, Model, Outputs};

const ALL: Outputs = Outputs { token_scores: true, attention_maps: true, sigmoid: false, threshold: None };
/// The recursions sum in another order.
const TOLERANCE: f32 = 1e-5;

fn runs(model: &Model, input: Input<'_>, kind: BackendKind) -> Vec<Classification> {
    let mut engine = engine(model, kind);
    let run = |rule: &&str| classify_with(&mut engine, &[input], &rule.parse().expect("rule"), &ALL).remove(0);
    EACH_RULE.iter().filter(|rule| **rule != "dense").map(run).collect()
}

fn check(model: &Model, result: &Classification) {
    let rule = result.prune.to_string();
    let scores = result.token_scores.as_ref().expect("scores");
    let is_forward = rule.starts_with("forward") || rule.starts_with("ltp");
    for (layer, scores) in scores.iter().enumerate() {
        for (position, &score) in scores.iter().enumerate() {
            let what = format!("{rule}, layer {layer}, position {position}");
            let why = result.why(model, layer, position).unwrap_or_else(|error| panic!("{what}: {error}"));
            let is_in = |level: usize| result.kept[level].contains(&(position as u32));
            assert_eq!(why.kept, is_in(if is_forward { layer + 1 } else { layer }), "{what}: {why:?}");
            assert_eq!(why.score, score, "{what}");
            let sum: f32 = why.contributions.iter().map(|contribution| contribution.value).sum();
            let floor = if rule == "concrete" { 0.01 } else { 0.0 };
            assert!((sum + floor - score).abs() < TOLERANCE, "{what}: the parts add up to {sum}, the score is {score}");
            assert!(why.contributions.is_sorted_by(|one, other| one.value >= other.value), "{what}");
            let survives = !is_forward && is_in(layer + 1);
            let picked = why.kept && !survives && position != 0;
            assert!(!picked || score >= why.cut, "{what}: picked below the cut: {why:?}");
            assert!(why.kept || score <= why.cut, "{what}: removed above the cut: {why:?}");
            assert_eq!(why.reason.starts_with("removed"), !why.kept, "{what}: {}", why.reason);
        }
    }
}

#[test]
fn the_parts_of_a_score_add_up() {
    let text: String = (0..33).map(|word| format!("w{} ", 5 + word * 7 % 90)).collect();
    let model = tiny_bert();
    for kind in BACKENDS {
        runs(&model, Input::Text(&text), kind).iter().for_each(|result| check(&model, result));
    }
    let rgb = (0..48 * 48 * 3).map(|value| (value * value / 7) as u8).collect();
    let picture = sttabt::Picture::from_rgb(48, 48, rgb).expect("a picture");
    let model = tiny_vit();
    runs(&model, Input::Image(&picture), BackendKind::Cpu).iter().for_each(|result| check(&model, result));
}

#[test]
fn what_cannot_be_explained_is_named() {
    let model = tiny_bert();
    let mut engine = engine(&model, BackendKind::Cpu);
    let mut run = |rule: &str, outputs: &Outputs| {
        classify_with(&mut engine, &[Input::Text("w5 w6 w7")], &rule.parse().expect("rule"), outputs).remove(0)
    };
    let num_layers = model.config().num_hidden_layers;
    let last = num_layers - 1;
    let rows = [
        (run("dense", &ALL), 0, 0, "rule `dense`: all tokens are kept, nothing is chosen".to_owned()),
        (
            run("topk:0.5", &Outputs::default()),
            0,
            0,
            "rule `topk:0.5`: there are no token scores and attention maps that could tell why".to_owned(),
        ),
        (
            run("topk:0.5", &ALL),
            num_layers,
            0,
            format!("rule `topk:0.5`: layer {num_layers} chooses nothing, expected 0 … {last}"),
        ),
        (
            run("forward:0.5", &ALL),
            last,
            0,
            format!("rule `forward:0.5`: layer {last} chooses nothing, expected 0 … {}", last - 1),
        ),
        (run("concrete", &ALL), 0, 5, "rule `concrete`: position 5 is out of range, expected 0 … 4".to_owned()),
    ];
    for (result, layer, position, message) in rows {
        let error = result.why(&model, layer, position).expect_err(&message);
        assert_eq!(error.to_string(), message);
    }
    let other = run("topk:0.5", &ALL);
    let error = other.why(&sst2_minilm(), 0, 0).expect_err("another model");
    assert_eq!(error.to_string(), "rule `topk:0.5`: the run of another model");
}
