//! The core in WebAssembly: one fixture on the CPU twin, under Node.
#![cfg(target_arch = "wasm32")]

use sttabt::{BackendKind, Bytes, EncoderSize, Engine, Input, Model, ModelFiles, Outputs, Prune};
use wasm_bindgen_test::wasm_bindgen_test;

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("fixtures/tiny-bert/", $name))
    };
}

#[wasm_bindgen_test]
async fn tiny_bert_agrees_in_webassembly() {
    let mut files = ModelFiles::new();
    files.insert("config.json", fixture!("config.json").to_vec());
    files.insert("model.safetensors", Bytes::Shared(Box::new(fixture!("model.safetensors").as_slice())));
    files.insert("tokenizer.json", fixture!("tokenizer.json").to_vec());
    files.insert("approx/config.json", fixture!("approx/config.json").to_vec());
    let weights = fixture!("approx/model.safetensors").as_slice();
    files.insert("approx/model.safetensors", Bytes::Shared(Box::new(weights)));
    let model = Model::from_bytes(files).expect("model");
    let mut engine = Engine::new(&model, &BackendKind::Cpu.into()).await.expect("engine");
    let cases: serde_json::Value = serde_json::from_slice(fixture!("cases.json")).expect("cases.json");
    let case = &cases["cases"][5];
    let input = Input::Text(case["input"]["text"].as_str().expect("text"));
    let mut num_runs = 0;
    for run in case["runs"].as_array().expect("runs") {
        let ratios: Vec<String> = run["ratios"].as_array().into_iter().flatten().map(ToString::to_string).collect();
        let rule = match run["mode"].as_str().expect("mode") {
            "oracle_topk" => format!("oracle:{}", ratios.join(",")),
            "forward_topk" => format!("forward:{}", ratios.join(",")),
            "topk" => format!("topk:{}", ratios.join(",")),
            rule => rule.to_owned(),
        };
        let prune: Prune = rule.parse().expect("rule");
        let result = engine.classify(&[input], &prune, &Outputs::default()).await.expect("result").remove(0);
        let kept: Vec<Vec<u32>> = serde_json::from_value(run["kept"].clone()).expect("kept");
        assert_eq!(result.kept, kept, "{prune}");
        let tolerance = if prune == Prune::Concrete { 2e-3 } else { 2e-4 };
        for (logit, expected) in result.logits.iter().zip(run["logits"].as_array().expect("logits")) {
            let expected = expected.as_f64().expect("logit") as f32;
            assert!((logit - expected).abs() < tolerance, "{prune}: {logit}, expected {expected}");
        }
        num_runs += 1;
    }
    assert!(num_runs >= 5, "only {num_runs} runs");
}

/// FLOPs are counted in 64 bits where `usize` has 32: BERT-large over 512 tokens.
#[wasm_bindgen_test]
fn flops_of_a_large_model_do_not_overflow() {
    let (h, i, n, layers) = (1024u64, 4096u64, 512u64, 24u64);
    let size = EncoderSize {
        num_hidden_layers: layers as usize,
        hidden_size: h as usize,
        intermediate_size: i as usize,
        embedding: 0,
        head: 0,
    };
    assert_eq!(size.dense(512), 2 * layers * (n * (4 * h * h + 2 * h * i) + 2 * n * n * h));
    assert!(size.dense(512) > u64::from(u32::MAX));
}

/// A page sees the pixels that the command sees.
#[cfg(feature = "jpeg")]
#[wasm_bindgen_test]
fn pictures_decode_to_the_same_pixels() {
    let files = [
        ("edges-420.jpg", include_bytes!("fixtures/preprocessing/edges-420.jpg").as_slice()),
        ("odd.png", include_bytes!("fixtures/preprocessing/odd.png")),
        ("lossy.webp", include_bytes!("fixtures/preprocessing/lossy.webp")),
    ];
    let cases: serde_json::Value =
        serde_json::from_slice(include_bytes!("fixtures/preprocessing/cases.json")).expect("cases.json");
    for (name, bytes) in files {
        let picture = sttabt::Picture::decode(name, bytes).expect("a picture");
        let fnv1a = picture
            .rgb()
            .iter()
            .fold(0xcbf2_9ce4_8422_2325, |value: u64, &byte| (value ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
        let images = cases["images"].as_array().expect("images");
        let expected = images.iter().find(|image| image["file"] == name).expect("a case");
        assert_eq!(format!("{fnv1a:016x}"), expected["fnv1a"].as_str().expect("fnv1a"), "{name}");
    }
}
