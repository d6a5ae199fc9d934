//! What several tests share: reading model folders and fixtures.
#![allow(dead_code, reason = "each test uses its own part")]

pub mod edit;

use std::path::{Path, PathBuf};

use serde_json::Value;
use sttabt::{
    ApproxFiles, BackendKind, BackendOptions, Classification, Engine, Input, Model, ModelFiles, Outputs, Prune,
};

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures").join(name)
}

pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files of a model folder.
pub fn model_files(folder: &Path) -> ModelFiles {
    let optional = |name: &str| std::fs::read(folder.join(name)).ok();
    ModelFiles {
        config: read(&folder.join("config.json")),
        weights: Box::new(read(&folder.join("model.safetensors"))),
        tokenizer_json: optional("tokenizer.json"),
        vocab_txt: optional("vocab.txt"),
        tokenizer_config: optional("tokenizer_config.json"),
        approx: folder.join("approx").is_dir().then(|| ApproxFiles {
            config: read(&folder.join("approx/config.json")),
            weights: Box::new(read(&folder.join("approx/model.safetensors"))),
        }),
    }
}

pub fn load(folder: &Path) -> Model {
    Model::from_bytes(model_files(folder)).unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
}

pub fn tiny_bert() -> Model {
    load(&fixture("tiny-bert"))
}

pub fn sst2_minilm() -> Model {
    load(&root().join("models/sst2-minilm"))
}

/// Both backends; no GPU adapter is a failure that lists what was found.
pub const BACKENDS: [BackendKind; 2] = [BackendKind::Cpu, BackendKind::Gpu];

pub fn engine(model: &Model, kind: BackendKind) -> Engine {
    pollster::block_on(Engine::new(model, &BackendOptions::from(kind))).unwrap_or_else(|error| panic!("{error}"))
}

pub fn classify(engine: &mut Engine, inputs: &[Input<'_>], prune: &Prune) -> Vec<Classification> {
    classify_with(engine, inputs, prune, &Outputs::default())
}

pub fn classify_with(
    engine: &mut Engine,
    inputs: &[Input<'_>],
    prune: &Prune,
    outputs: &Outputs,
) -> Vec<Classification> {
    pollster::block_on(engine.classify(inputs, prune, outputs)).unwrap_or_else(|error| panic!("{prune}: {error}"))
}

/// `cases.json` of a fixture.
pub fn cases(name: &str) -> Vec<Value> {
    let cases: Value = serde_json::from_slice(&read(&fixture(name).join("cases.json"))).expect("cases.json");
    cases["cases"].as_array().expect("cases").clone()
}

pub fn input(case: &Value) -> Input<'_> {
    let text = case["input"]["text"].as_str().expect("text");
    match case["input"]["text_pair"].as_str() {
        Some(pair) => Input::Pair(text, pair),
        None => Input::Text(text),
    }
}

/// The rule of a fixture's run.
pub fn prune(run: &Value) -> Prune {
    let rule = match run["mode"].as_str().expect("mode") {
        "oracle_topk" => "oracle",
        "forward_topk" => "forward",
        mode => mode,
    };
    let ratios: Vec<String> = match run["ratios"].as_array() {
        Some(ratios) => ratios.iter().map(Value::to_string).collect(),
        None => return rule.parse().expect("rule"),
    };
    format!("{rule}:{}", ratios.join(",")).parse().expect("rule")
}

pub fn floats(value: &Value) -> Vec<f32> {
    value.as_array().expect("numbers").iter().map(|number| number.as_f64().expect("number") as f32).collect()
}

pub fn matrix(value: &Value) -> Vec<f32> {
    value.as_array().expect("rows").iter().flat_map(floats).collect()
}

/// The largest |a − b| − relative · |b|.
pub fn distance(a: &[f32], b: &[f32], relative: f32) -> f32 {
    assert_eq!(a.len(), b.len(), "lengths differ");
    a.iter().zip(b).map(|(a, b)| (a - b).abs() - relative * b.abs()).fold(0.0, f32::max)
}
