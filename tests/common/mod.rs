//! What several tests share: reading model folders and fixtures.
#![allow(dead_code, reason = "each test uses its own part")]

pub mod counting;
pub mod edit;
pub mod fuzz;
pub mod torch;

use std::path::{Path, PathBuf};

use serde_json::Value;
use sttabt::{
    BackendKind, BackendOptions, Classification, Engine, Input, InputConfig, Model, ModelFiles, Outputs, Picture, Prune,
};

/// The repository's folder: that of the workspace, whichever of its packages is tested.
pub fn root() -> PathBuf {
    let is_root = |folder: &&Path| folder.join("Cargo.lock").is_file();
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.ancestors().find(is_root).expect("a folder with Cargo.lock").to_owned()
}

pub fn fixture(name: &str) -> PathBuf {
    root().join("tests/fixtures").join(name)
}

pub fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The files of a model folder, the weights in memory of their own: an engine can free them.
pub fn model_files(folder: &Path) -> ModelFiles {
    let mut files = ModelFiles::from_dir(folder).unwrap_or_else(|error| panic!("{error}"));
    for name in files.names().map(str::to_owned).collect::<Vec<_>>() {
        edit::edit_bytes(&mut files, &name, |bytes| bytes);
    }
    files
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

pub fn tiny_vit() -> Model {
    load(&fixture("tiny-vit"))
}

/// The weights of `models/deit-tiny`, with the fixture's preprocessor: its images have the model's size already.
pub fn deit_tiny() -> Model {
    let mut files = model_files(&root().join("models/deit-tiny"));
    files.insert("preprocessor_config.json", read(&fixture("deit-tiny").join("preprocessor_config.json")));
    Model::from_bytes(files).unwrap_or_else(|error| panic!("deit-tiny: {error}"))
}

/// A rule of each kind.
pub const EACH_RULE: [&str; 6] = ["dense", "topk:0.5", "concrete", "oracle:0.4", "forward:0.6", "ltp:0.03"];

/// The inputs under all of [`EACH_RULE`], one rule after another.
pub fn under_each_rule(model: &Model, inputs: &[Input<'_>], kind: BackendKind) -> Vec<Classification> {
    let mut engine = engine(model, kind);
    EACH_RULE.iter().flat_map(|rule| classify(&mut engine, inputs, &rule.parse().expect("rule"))).collect()
}

/// T
pub fn num_tokens(result: &Classification) -> usize {
    result.grid.map_or(result.tokens.len(), |[rows, columns]| 1 + rows * columns)
}

/// The longest input of a text model.
pub fn max_tokens(model: &Model) -> usize {
    match &model.config().input {
        InputConfig::Text(text) => text.max_position_embeddings,
        InputConfig::Image(_) => panic!("an image model"),
    }
}

pub fn picture(path: &Path) -> Picture {
    Picture::decode(&path.display().to_string(), &read(path)).unwrap_or_else(|error| panic!("{error}"))
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
    let results = match engine.model().pooling() {
        Some(_) => pollster::block_on(engine.embed(inputs, prune, outputs)),
        None => pollster::block_on(engine.classify(inputs, prune, outputs)),
    };
    results.unwrap_or_else(|error| panic!("{prune}: {error}"))
}

/// `cases.json` of a fixture's folder.
pub fn cases(folder: &Path) -> Vec<Value> {
    let cases: Value = serde_json::from_slice(&read(&folder.join("cases.json"))).expect("cases.json");
    cases["cases"].as_array().expect("cases").clone()
}

/// The input of a fixture's case.
pub enum CaseInput<'a> {
    Text(&'a str),
    Pair(&'a str, &'a str),
    Image(Picture),
}

impl<'a> CaseInput<'a> {
    /// Images are files in `folder`.
    pub fn new(folder: &Path, case: &'a Value) -> Self {
        let input = &case["input"];
        match (input["text"].as_str(), input["text_pair"].as_str(), input["image"].as_str()) {
            (Some(text), None, None) => Self::Text(text),
            (Some(text), Some(pair), None) => Self::Pair(text, pair),
            (None, None, Some(image)) => Self::Image(picture(&folder.join(image))),
            _ => panic!("input {input}"),
        }
    }

    pub fn get(&self) -> Input<'_> {
        match self {
            Self::Text(text) => Input::Text(text),
            Self::Pair(text, pair) => Input::Pair(text, pair),
            Self::Image(picture) => Input::Image(picture),
        }
    }
}

/// The rule of a fixture's run.
pub fn prune(run: &Value) -> Prune {
    let rule = match run["mode"].as_str().expect("mode") {
        "oracle_topk" => "oracle",
        "forward_topk" => "forward",
        mode => mode,
    };
    let ratios: Vec<String> = match run["ratios"].as_array().or(run["thetas"].as_array()) {
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
