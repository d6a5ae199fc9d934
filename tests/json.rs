//! Results and models serialise themselves: what the command, the package and every other host print is one thing.

use crate::common::*;
use serde_json::{Value, json};
use sttabt::{BackendKind, Flops, Input, Model, Outputs, Prune, RULES};

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn a_result_holds_what_was_asked_for() {
    let mut engine = engine(&tiny_bert(), BackendKind::Cpu);
    let mut run = |rule: &str, token_scores, attention_maps| {
        let outputs = Outputs { token_scores, attention_maps, sigmoid: false, threshold: None };
        let rule = rule.parse().expect("rule");
        let result = classify_with(&mut engine, &[Input::Text("w51 w41 w11")], &rule, &outputs).remove(0);
        let value = json!(result);
        (result, value)
    };
    let always = "flops input_ids kept label label_index layer_by_layer logits num_tokens probs prune retention tokens truncated";
    let always: Vec<&str> = always.split(' ').collect();
    for (rule, layer_by_layer) in [("topk:0.5,0.4,0.3,0.2", false), ("concrete", false), ("ltp:0.01", true)] {
        let (result, bare) = run(rule, false, false);
        assert_eq!(keys(&bare), always, "{rule}");
        assert_eq!((&bare["prune"], &bare["layer_by_layer"]), (&json!(rule), &json!(layer_by_layer)));
        assert_eq!((&bare["kept"], &bare["num_tokens"]), (&json!(result.kept), &json!(5)));
        let (result, whole) = run(rule, true, true);
        assert_eq!(keys(&whole).len(), always.len() + 2, "{rule}");
        assert_eq!(whole["token_scores"], json!(result.token_scores), "{rule}");
        assert_eq!(whole["attention_maps"], json!(result.attention_maps), "{rule}");
    }
    // Nothing is chosen, so that there is nothing to give.
    assert_eq!(keys(&run("dense", true, true).1), always);
    let photo = picture(&root().join("demo/photos/chelsea.png"));
    let mut engine = self::engine(&tiny_vit(), BackendKind::Cpu);
    let image = json!(classify(&mut engine, &[Input::Image(&photo)], &Prune::Dense)[0]);
    assert_eq!((&image["grid"], &image["num_tokens"], &image["tokens"]), (&json!([6, 6]), &json!(37), &Value::Null));
}

#[test]
fn flops_come_with_their_total() {
    let flops = Flops { dense: 10, pruned: 3, approx: 4 };
    assert_eq!(json!(flops), json!({ "dense": 10, "pruned": 3, "approx": 4, "total": 7 }));
}

#[test]
fn a_model_lists_all_rules_and_what_it_lacks() {
    let whole = json!(tiny_bert().info());
    let rules = whole["rules"].as_array().expect("rules");
    assert_eq!(rules.len(), RULES.len());
    assert_eq!(
        (&whole["input"], &whole["default_prune"], &whole["num_layers"]),
        (&json!("text"), &json!("topk:0.5"), &json!(4))
    );
    let mut files = model_files(&fixture("tiny-bert"));
    files.remove_folder("approx");
    let is_learned = |name: &str| name.ends_with("p_logit") || name.ends_with("ltp_threshold");
    edit::edit_tensors(&mut files, |tensors| tensors.retain(|name, _| !is_learned(name)));
    let bare = Model::from_bytes(files).expect("a model").info();
    for ((rule, whole), bare) in RULES.iter().zip(rules).zip(&bare.rules) {
        assert_eq!((&whole["name"], &whole["about"]), (&json!(rule.name), &json!(rule.about)));
        assert_eq!(bare.lacks, rule.needs.first().copied(), "{}", rule.name);
    }
    let argument = |name: &str| rules.iter().find(|rule| rule["name"] == name).map(|rule| rule["argument"].clone());
    let arguments = ["dense", "topk", "ltp"].map(argument);
    assert_eq!(arguments, ["none", "ratios", "thresholds"].map(|kind| Some(json!(kind))));
    assert!(rules.iter().all(|rule| rule["name"] != "concrete" || rule.get("lacks").is_none()), "{whole}");
    let bare = json!(bare);
    assert_eq!(bare["rules"][1]["lacks"], "an ApproxNet (folder approx/)");
}
