//! Image models as the world writes them: timm's names, other shapes, and more tokens.

use crate::common::edit::*;
use crate::common::*;
use serde_json::json;
use sttabt::backend::Backend;
use sttabt::{
    BackendKind, BackendOptions, Classification, Engine, Input, Model, ModelFiles, Outputs, Picture, Policy,
    Preprocessor, Prune,
};

fn pictures() -> Vec<Picture> {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    [(48, 48), (31, 77), (96, 5)].map(|(width, height)| random.picture(width, height)).to_vec()
}

fn results(model: &Model, kind: BackendKind) -> Vec<Classification> {
    under_each_rule(model, &pictures().iter().map(Input::Image).collect::<Vec<_>>(), kind)
}

fn variant(what: &str, edit: impl Fn(&mut ModelFiles)) -> Model {
    variant_of(tiny_vit_files(), what, edit)
}

/// Its settings in a `processor_config.json`, beside a `preprocessor_config.json` that says something else.
fn processor(edit: fn(&mut serde_json::Value)) -> Edit {
    Box::new(move |files| {
        let own = bytes(files, "preprocessor_config.json");
        let mut own = serde_json::from_slice(&own).expect("JSON");
        edit(&mut own);
        let whole = json!({"processor_class": "X", "image_processor": own});
        files.insert("processor_config.json", whole.to_string().into_bytes());
        files.insert("preprocessor_config.json", br#"{"do_rescale": false}"#.to_vec());
    })
}

#[test]
fn variants_that_change_nothing() {
    let rows: Vec<(&str, Edit)> = vec![
        ("timm's names", timm_names()),
        ("names without vit.", rename(|name| name.trim_start_matches("vit.").to_owned())),
        (
            "a pooler that is not used",
            tensors(|tensors| drop(tensors.insert("vit.pooler.dense.bias".into(), HostTensor::f32(&[48], &[9.0; 48])))),
        ),
        ("no model_type", without_config("model_type")),
        ("no architectures", without_config("architectures")),
        ("no channels named", without_config("num_channels")),
        ("no qkv_bias", without_config("qkv_bias")),
        ("image_size as a list", both_configs("image_size", json!([48, 48]))),
        ("the preprocessor's defaults", Box::new(|files| files.insert("preprocessor_config.json", b"{}".to_vec()))),
        ("no preprocessor", without("preprocessor_config.json")),
        ("a processor's settings, before the others", processor(|_| {})),
        (
            "a processor for texts",
            Box::new(|files| files.insert("processor_config.json", br#"{"processor_class": "X"}"#.to_vec())),
        ),
    ];
    let models: Vec<(&str, Model)> = rows.into_iter().map(|(what, edit)| (what, variant(what, edit))).collect();
    for kind in BACKENDS {
        let original = results(&tiny_vit(), kind);
        for (what, model) in &models {
            let is_default = model.preprocessor().is_some_and(Preprocessor::is_default);
            assert_eq!(is_default, *what == "no preprocessor", "{what}");
            assert!(results(model, kind) == original, "{what} on {kind:?}");
        }
    }
}

/// A file that names no class has the defaults of the class that goes with the model.
#[test]
fn a_file_without_a_class_is_made_by_that_of_the_model() {
    for (name, class) in
        [("deit", "DeiTImageProcessor"), ("dinov2-embed", "BitImageProcessor"), ("vit-gelu-tanh", "ViTImageProcessor")]
    {
        let files = || model_files(&fixture(&format!("families/{name}")));
        let side = bytes(&files(), "config.json");
        let side = serde_json::from_slice::<serde_json::Value>(&side).expect("JSON")["image_size"].clone();
        let of = |class: Option<&str>| {
            let mut json = json!({"crop_size": side});
            class.into_iter().for_each(|class| json["image_processor_type"] = json!(class));
            let model = variant_of(files(), name, preprocessor(move |value| *value = json.clone()));
            model.preprocessor().expect("a preprocessor").clone()
        };
        assert_eq!(of(None), of(Some(class)), "{name}");
        let is_vit = class == "ViTImageProcessor";
        assert_eq!(of(None) == of(Some("ViTImageProcessor")), is_vit, "{name}");
    }
}

#[test]
fn a_processor_s_settings_are_named_as_such() {
    let outcome = outcome_of(tiny_vit_files(), processor(|json| json["do_resize"] = json!("yes")));
    let expected = "processor_config.json: `image_processor.do_resize` is \"yes\", expected true or false";
    assert_eq!(outcome, expected);
    let broken = outcome_of(tiny_vit_files(), Box::new(|files| files.insert("processor_config.json", b"{".to_vec())));
    assert!(broken.starts_with("processor_config.json: not JSON: "), "{broken}");
}

/// Every result has its own picture, as the preprocessor resizes it, whatever the rule, and however the batch is split.
#[test]
fn results_carry_the_picture_that_the_model_saw() {
    let crop = preprocessor(|json| {
        json["size"] = json!({"shortest_edge": 56});
        json["do_center_crop"] = json!(true);
        json["crop_size"] = json!({"height": 48, "width": 48});
    });
    let pictures: Vec<Picture> = pictures().into_iter().cycle().take(24).collect();
    let inputs: Vec<Input<'_>> = pictures.iter().map(Input::Image).collect();
    for model in [tiny_vit(), variant("a crop", crop)] {
        let preprocessor = model.preprocessor().expect("a preprocessor");
        let expected: Vec<Option<Picture>> =
            pictures.iter().map(|picture| preprocessor.resized(picture).ok()).collect();
        assert!(expected[1].as_ref().is_some_and(|seen| *seen != pictures[1]), "nothing was resized");
        for (kind, rule) in
            [(BackendKind::Cpu, "topk:0.5"), (BackendKind::Cpu, "dense"), (BackendKind::Gpu, "concrete")]
        {
            let results = classify(&mut engine(&model, kind), &inputs, &rule.parse().expect("rule"));
            for (index, (result, expected)) in results.into_iter().zip(&expected).enumerate() {
                assert!(result.picture == *expected, "{rule} on {kind:?}, input {}", index + 1);
            }
        }
    }
    let text = classify(&mut engine(&tiny_bert(), BackendKind::Cpu), &[Input::Text("w7")], &Prune::Dense);
    assert_eq!(text[0].picture, None);
}

/// Tiny-vit on images of another shape with 32 patches.
fn reshaped(height: usize, width: usize) -> Model {
    variant(
        "another shape",
        all(vec![
            both_configs("image_size", json!([height, width])),
            preprocessor(move |json| json["size"] = json!({"height": height, "width": width})),
            all_tensors(|tensors| {
                let positions = tensors.get_mut("vit.embeddings.position_embeddings").expect("positions");
                positions.bytes.truncate(positions.bytes.len() / 37 * 33);
                positions.shape[1] = 33;
            }),
        ]),
    )
}

/// Patches of 8 x 8 pixels from a strip, laid out row by row.
fn laid_out(strip: &Picture, height: usize, width: usize) -> Picture {
    let mut rgb = Vec::with_capacity(height * width * 3);
    for (y, x) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        let patch = y / 8 * (width / 8) + x / 8;
        let pixel = 3 * (y % 8 * strip.width() + patch * 8 + x % 8);
        rgb.extend(&strip.rgb()[pixel..pixel + 3]);
    }
    Picture::from_rgb(width, height, rgb).expect("a picture")
}

/// `[height, width]`, and patches in rows from left to right: the same 32 patches in any shape are the same tokens.
#[test]
fn rectangular_images() {
    let strip = Random(99).picture(256, 8);
    for kind in BACKENDS {
        let expected = under_each_rule(&reshaped(8, 256), &[Input::Image(&strip)], kind);
        for (height, width) in [(32, 64), (64, 32), (16, 128), (256, 8)] {
            let picture = laid_out(&strip, height, width);
            let found = under_each_rule(&reshaped(height, width), &[Input::Image(&picture)], kind);
            for (found, expected) in found.iter().zip(&expected) {
                assert_eq!(found.grid, Some([height / 8, width / 8]));
                assert_eq!((&found.logits, &found.kept), (&expected.logits, &expected.kept), "{height} x {width}");
            }
        }
        // A square picture is stretched to the shape of the model.
        let square = under_each_rule(&reshaped(32, 64), &[Input::Image(&pictures()[0])], kind);
        assert!(square.iter().all(|result| result.grid == Some([4, 8]) && num_tokens(result) == 33));
    }
}

/// A network of two narrow layers on square images, with weights of noise.
fn noise_network(image_size: usize, hidden_size: usize, random: &mut Random) -> (Vec<u8>, Vec<u8>) {
    let (patch_size, hidden, num_tokens) = (16, hidden_size, 1 + (image_size / 16) * (image_size / 16));
    let config = json!({
        "model_type": "vit", "hidden_size": hidden, "intermediate_size": 2 * hidden, "num_hidden_layers": 2,
        "num_attention_heads": 2, "image_size": image_size, "patch_size": patch_size, "num_labels": 3,
    });
    let mut tensors = Tensors::new();
    let mut add = |name: String, shape: &[usize], middle: f32, spread: f32| {
        let values: Vec<f32> = (0..shape.iter().product())
            .map(|_| middle + spread * (random.below(20001) as f32 / 10000.0 - 1.0))
            .collect();
        tensors.insert(name, HostTensor::f32(shape, &values));
    };
    add("vit.embeddings.cls_token".into(), &[1, 1, hidden], 0.0, 1.0);
    add("vit.embeddings.position_embeddings".into(), &[1, num_tokens, hidden], 0.0, 1.0);
    let mut linear = |name: &str, shape: &[usize]| {
        let inputs: usize = shape[1..].iter().product();
        add(format!("{name}.weight"), shape, 0.0, 2.0 / (inputs as f32).sqrt());
        add(format!("{name}.bias"), &shape[..1], 0.0, 0.1);
    };
    linear("vit.embeddings.patch_embeddings.projection", &[hidden, 3, patch_size, patch_size]);
    linear("classifier", &[3, hidden]);
    for layer in 0..2 {
        for part in ["attention.attention.query", "attention.attention.key", "attention.attention.value"] {
            linear(&format!("vit.encoder.layer.{layer}.{part}"), &[hidden, hidden]);
        }
        linear(&format!("vit.encoder.layer.{layer}.attention.output.dense"), &[hidden, hidden]);
        linear(&format!("vit.encoder.layer.{layer}.intermediate.dense"), &[2 * hidden, hidden]);
        linear(&format!("vit.encoder.layer.{layer}.output.dense"), &[hidden, 2 * hidden]);
    }
    let norms =
        (0..2).flat_map(|layer| ["before", "after"].map(|at| format!("vit.encoder.layer.{layer}.layernorm_{at}")));
    for name in norms.chain(["vit.layernorm".to_owned()]) {
        add(format!("{name}.weight"), &[hidden], 1.0, 0.1);
        add(format!("{name}.bias"), &[hidden], 0.0, 0.1);
    }
    (serde_json::to_vec(&config).expect("JSON"), write_weights(&tensors))
}

fn noise_model(image_size: usize) -> Model {
    let mut random = Random(image_size as u64);
    let (config, weights) = noise_network(image_size, 16, &mut random);
    let (approx_config, approx_weights) = noise_network(image_size, 8, &mut random);
    let mut files = tiny_vit_files();
    files.insert("config.json", config);
    files.insert("model.safetensors", weights);
    files.remove("preprocessor_config.json");
    files.insert("approx/config.json", approx_config);
    files.insert("approx/model.safetensors", approx_weights);
    Model::from_bytes(files).expect("a model")
}

/// Longer than the sequences that most kernels meet: 384 and 512 pixels in patches of 16.
#[test]
fn many_tokens() {
    for (image_size, expected) in [(384, 577), (512, 1025)] {
        let model = noise_model(image_size);
        let picture = Random(3).picture(image_size, image_size);
        let [mut cpu, mut gpu] = BACKENDS.map(|kind| engine(&model, kind));
        for rule in ["dense", "topk:0.5"] {
            let [on_cpu, on_gpu] = [&mut cpu, &mut gpu]
                .map(|engine| classify(engine, &[Input::Image(&picture)], &rule.parse().expect("rule")).remove(0));
            assert_eq!(num_tokens(&on_cpu), expected);
            assert_eq!(on_cpu.kept, on_gpu.kept, "{rule}, {expected} tokens");
            let far = distance(&on_cpu.logits, &on_gpu.logits, 0.0);
            assert!(far < 1e-4, "{rule}, {expected} tokens: {far:e}");
            let spread = on_cpu.logits.iter().map(|logit| logit.abs()).fold(0.0, f32::max);
            assert!(spread > 0.1, "{:?} would agree with anything", on_cpu.logits);
        }
    }
}

/// A policy that has measured small images only, and takes `rule` for any.
fn hopeful(rule: &Prune) -> Policy {
    let clock = std::cell::Cell::new((0, 0.0));
    // Every second look ends a run: two dense ones, then two faster ones.
    let now_ms = || {
        let (looks, now) = clock.get();
        clock.set((looks + 1, now + [0.0, 9.0, 0.0, 20.0, 0.0, 1.0, 0.0, 2.0][looks % 8]));
        clock.get().1
    };
    let mut small = engine(&noise_model(32), BackendKind::Cpu);
    let policy = pollster::block_on(small.measure_policy(rule, &now_ms)).expect("a policy");
    assert_eq!(policy.decide(1 << 30).prune, *rule);
    policy
}

/// A device's workgroup memory holds the scores of so many tokens and no more. 1024 pixels make 4097, which the CPU takes.
#[test]
fn too_many_tokens_to_prune() {
    let model = noise_model(1024);
    let picture = Random(3).picture(1024, 1024);
    let inputs = [Input::Image(&picture)];
    let [mut cpu, mut gpu] = BACKENDS.map(|kind| engine(&model, kind));
    let most = gpu.gpu().expect("a GPU").max_pruned_tokens();
    for rule in ["topk:0.5", "oracle:0.5", "forward:0.5"] {
        let prune = rule.parse().expect("rule");
        let error = pollster::block_on(gpu.classify(&inputs, &prune, &Outputs::default())).expect_err("too many");
        assert_eq!(
            error.to_string(),
            format!(
                "rule `{rule}` needs inputs of at most {most} tokens, input 1 has 4097; \
                 the backend `cpu` takes up to 16384, and `dense` has no such limit"
            )
        );
    }
    let [on_cpu, on_gpu] = [&mut cpu, &mut gpu].map(|engine| classify(engine, &inputs, &Prune::Dense).remove(0));
    assert_eq!(num_tokens(&on_cpu), 4097);
    assert!(distance(&on_cpu.logits, &on_gpu.logits, 0.0) < 1e-4);
    let rule = Prune::top_k(0.5).expect("a ratio");
    let pruned = classify(&mut cpu, &inputs, &rule).remove(0);
    assert_eq!(num_tokens(&pruned), 4097);
    assert!((2049..4097).contains(&pruned.kept[0].len()), "{} kept", pruned.kept[0].len());
    // `auto` need not be told.
    let outcome = pollster::block_on(gpu.classify_by(&hopeful(&rule), &inputs, &Outputs::default()));
    let (decision, results) = outcome.expect("results");
    assert_eq!((decision.prune, decision.pruned_ms), (Prune::Dense, f64::INFINITY));
    assert_eq!(results[0], on_gpu);
}

/// Nor where it is the attention maps that a binding does not hold.
#[test]
fn maps_that_fit_no_binding() {
    let model = noise_model(384);
    let picture = Random(3).picture(384, 384);
    let inputs = [Input::Image(&picture)];
    let rule = Prune::top_k(0.5).expect("a ratio");
    for kind in BACKENDS {
        let needed = 2 * 577 * 577 * 4;
        for (bytes, expected) in [(needed - 4, Prune::Dense), (needed, rule.clone())] {
            let options = BackendOptions { kind, max_buffer_bytes: Some(bytes), ..Default::default() };
            let mut engine = pollster::block_on(Engine::new(&model, &options)).expect("an engine");
            let outcome = pollster::block_on(engine.classify(&inputs, &rule, &Outputs::default()));
            assert_eq!(outcome.is_ok(), expected == rule, "{kind:?}, {bytes} bytes");
            let outcome = pollster::block_on(engine.classify_by(&hopeful(&rule), &inputs, &Outputs::default()));
            let (decision, _) = outcome.expect("results");
            assert_eq!(decision.prune, expected, "{kind:?}, {bytes} bytes");
            let clock = std::cell::Cell::new(0.0);
            let now_ms = || clock.replace(clock.get() + 1.0);
            let own = pollster::block_on(engine.measure_policy(&rule, &now_ms)).expect("a policy");
            assert_eq!(own.decide(1 << 30).pruned_ms.is_finite(), expected == rule, "{kind:?}, {bytes} bytes");
        }
    }
}
