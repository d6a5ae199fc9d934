//! Models with int8 weights: what is written, what is refused, and what they answer.

use crate::common::edit::*;
use crate::common::*;
use safetensors::Dtype;
use serde_json::json;
use sttabt::{BackendKind, Classification, Input, Model, ModelFiles, Prune};

const QUERY: &str = "bert.encoder.layer.2.attention.self.query.weight";
const SCALE: &str = "bert.encoder.layer.2.attention.self.query.weight_scale";

fn int8_files() -> ModelFiles {
    tiny_files().into_int8(None).expect("int8 weights")
}

fn int8_vit_files() -> ModelFiles {
    tiny_vit_files().into_int8(None).expect("int8 weights")
}

fn weights_of(files: &ModelFiles, network: &str) -> Tensors {
    parse_weights(&bytes(files, &format!("{network}model.safetensors")))
}

/// The numbers of an int8 tensor times their scales.
fn widened(tensors: &Tensors, name: &str) -> Vec<f32> {
    let (tensor, scales) = (&tensors[name], tensors[&format!("{name}_scale")].values());
    let row_len = tensor.bytes.len() / scales.len();
    tensor.bytes.iter().enumerate().map(|(place, &byte)| f32::from(byte as i8) * scales[place / row_len]).collect()
}

#[test]
fn matrices_are_int8_and_nothing_else() {
    for (source, files) in [(tiny_files(), int8_files()), (tiny_vit_files(), int8_vit_files())] {
        for network in ["", "approx/"] {
            let (before, after) = (weights_of(&source, network), weights_of(&files, network));
            let config: serde_json::Value =
                serde_json::from_slice(&bytes(&files, &format!("{network}config.json"))).expect("JSON");
            assert_eq!(config["quantization_config"], json!({"quant_method": "sttabt-int8"}));
            let mut num_matrices = 0;
            for (name, tensor) in &before {
                let found = &after[name];
                assert_eq!(found.shape, tensor.shape, "{name}");
                // Learned tokens are vectors.
                let is_matrix = tensor.shape.iter().filter(|&&size| size > 1).count() > 1;
                if !is_matrix {
                    assert_eq!((found.dtype, &found.bytes), (Dtype::F32, &tensor.bytes), "{name}");
                    continue;
                }
                num_matrices += 1;
                assert_eq!(found.dtype, Dtype::I8, "{name}");
                let scales = after[&format!("{name}_scale")].values();
                let values = tensor.values();
                let row_len = values.len() / scales.len();
                for (place, (value, back)) in values.iter().zip(widened(&after, name)).enumerate() {
                    let scale = scales[place / row_len];
                    assert!((value - back).abs() <= 0.5001 * scale, "{name}, {place}: {value} became {back}");
                }
                for (row, scale) in values.chunks_exact(row_len).zip(&scales) {
                    let largest = row.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
                    assert_eq!(*scale, largest / 127.0, "{name}");
                }
            }
            assert_eq!(after.len(), before.len() + num_matrices, "{network}: one tensor of scales for each matrix");
        }
    }
}

/// The values of an int8 model in f32 or f16, where they are 16 bits, become the same int8 model.
#[test]
fn what_is_int8_comes_back_exactly() {
    for (int8, source) in [(int8_files(), tiny_files()), (int8_vit_files(), tiny_vit_files())] {
        let mut dequantized = source;
        for network in ["", "approx/"] {
            let tensors = weights_of(&int8, network);
            edit_bytes(&mut dequantized, &format!("{network}model.safetensors"), |bytes| {
                let mut edited = parse_weights(&bytes);
                for (name, tensor) in edited.iter_mut().filter(|(name, _)| tensors[*name].dtype == Dtype::I8) {
                    *tensor = HostTensor::f32(&tensor.shape, &widened(&tensors, name));
                }
                write_weights(&edited)
            });
        }
        let again = dequantized.into_int8(None).expect("int8 weights");
        for network in ["", "approx/"] {
            let (first, second) = (weights_of(&int8, network), weights_of(&again, network));
            for name in first.keys().filter(|name| first[*name].dtype == Dtype::I8) {
                assert_eq!(widened(&first, name), widened(&second, name), "{network}{name}");
            }
        }
    }
}

#[test]
fn wrong_files_are_refused() {
    fn of(edit: impl Fn(&mut ModelFiles) + 'static) -> Edit {
        Box::new(edit)
    }
    fn scale(values: &'static [f32]) -> Edit {
        tensors(move |tensors| {
            let mut scales = tensors[SCALE].values();
            scales[7..7 + values.len()].copy_from_slice(values);
            *tensors.get_mut(SCALE).expect("scales") = HostTensor::f32(&[48], &scales);
        })
    }
    let rows: Vec<Row> = vec![
        ("whole", of(|_| ()), "no error"),
        (
            "config.json says nothing",
            without_config("quantization_config"),
            "model.safetensors: tensor `bert.embeddings.word_embeddings.weight` is I8, expected F32, F16, BF16, F64 or integers of 16 to 64 bits; I8 needs `quantization_config` with `quant_method` sttabt-int8 in config.json",
        ),
        (
            "another method",
            config("quantization_config", json!({"quant_method": "gptq", "bits": 4})),
            "`quant_method` of `quantization_config` `gptq` is not supported; supported: sttabt-int8",
        ),
        (
            "no method",
            config("quantization_config", json!({"load_in_8bit": true})),
            "`quant_method` of `quantization_config` `(none)` is not supported; supported: sttabt-int8",
        ),
        (
            "no object",
            config("quantization_config", json!("int8")),
            "config.json: `quantization_config` is \"int8\", expected an object",
        ),
        (
            "another key",
            config("quantization_config.bits", json!(4)),
            "config.json: `quantization_config.bits` is 4, expected no other key than `quant_method`",
        ),
        (
            "no scales",
            tensors(|tensors| drop(tensors.remove(SCALE))),
            "model.safetensors: tensor `bert.encoder.layer.2.attention.self.query.weight_scale` is missing",
        ),
        (
            "a scale less",
            tensors(|tensors| tensors.get_mut(SCALE).expect("scales").resize_rows(47)),
            "model.safetensors: tensor `bert.encoder.layer.2.attention.self.query.weight_scale` is [47], expected [48]",
        ),
        (
            "scales of another shape",
            tensors(|tensors| tensors.get_mut(SCALE).expect("scales").shape = vec![48, 1]),
            "model.safetensors: tensor `bert.encoder.layer.2.attention.self.query.weight_scale` is [48, 1], expected [48]",
        ),
        (
            "f16 scales",
            tensors(|tensors| tensors.get_mut(SCALE).expect("scales").round_to_f16()),
            "model.safetensors: tensor `bert.encoder.layer.2.attention.self.query.weight_scale` is F16, expected F32",
        ),
        (
            "a scale of zero",
            scale(&[0.0]),
            "model.safetensors: tensor `bert.encoder.layer.2.attention.self.query.weight_scale` holds 0 at index 7, expected positive finite numbers",
        ),
        (
            "a negative scale",
            scale(&[1.0, -0.5]),
            "model.safetensors: tensor `bert.encoder.layer.2.attention.self.query.weight_scale` holds -0.5 at index 8, expected positive finite numbers",
        ),
        (
            "NaN",
            scale(&[f32::NAN]),
            "model.safetensors: tensor `bert.encoder.layer.2.attention.self.query.weight_scale` holds NaN at index 7, expected positive finite numbers",
        ),
        (
            "infinity",
            scale(&[f32::INFINITY]),
            "model.safetensors: tensor `bert.encoder.layer.2.attention.self.query.weight_scale` holds inf at index 7, expected positive finite numbers",
        ),
        (
            "scales of what is not int8",
            tensors(|tensors| {
                let values = widened(tensors, QUERY);
                *tensors.get_mut(QUERY).expect("query") = HostTensor::f32(&[48, 48], &values);
            }),
            "model.safetensors: tensor `bert.encoder.layer.2.attention.self.query.weight` is F32, expected I8, as there is `bert.encoder.layer.2.attention.self.query.weight_scale`",
        ),
        (
            "f32 beside int8",
            tensors(|tensors| {
                let values = widened(tensors, QUERY);
                *tensors.get_mut(QUERY).expect("query") = HostTensor::f32(&[48, 48], &values);
                tensors.remove(SCALE);
            }),
            "no error",
        ),
        (
            "unsigned numbers",
            tensors(|tensors| tensors.get_mut(QUERY).expect("query").dtype = Dtype::U8),
            "model.safetensors: tensor `bert.encoder.layer.2.attention.self.query.weight` is U8, expected I8, as there is `bert.encoder.layer.2.attention.self.query.weight_scale`",
        ),
        (
            "int8 biases",
            tensors(|tensors| {
                let bias = tensors.get_mut("classifier.bias").expect("bias");
                (bias.dtype, bias.bytes) = (Dtype::I8, vec![1; bias.shape[0]]);
            }),
            "model.safetensors: tensor `classifier.bias_scale` is missing",
        ),
        (
            "another shape",
            tensors(|tensors| tensors.get_mut(QUERY).expect("query").shape = vec![96, 24]),
            "model.safetensors: tensor `bert.encoder.layer.2.attention.self.query.weight` is [96, 24], expected [48, 48]",
        ),
        (
            "f32 weights",
            of(|files| edit_bytes(files, "model.safetensors", |_| bytes(&tiny_files(), "model.safetensors"))),
            "model.safetensors: no tensor is I8, and `quantization_config` in config.json says that weights are",
        ),
        (
            "ApproxNet's config",
            of(|files| edit_bytes(files, "approx/config.json", |_| bytes(&tiny_files(), "approx/config.json"))),
            "approx/model.safetensors: tensor `bert.embeddings.word_embeddings.weight` is I8, expected F32, F16, BF16, F64 or integers of 16 to 64 bits; I8 needs `quantization_config` with `quant_method` sttabt-int8 in config.json",
        ),
    ];
    check_edits_of(int8_files, rows);
}

#[test]
fn what_cannot_be_quantized() {
    let error = |files: ModelFiles, keep_f16| files.into_int8(keep_f16).err().expect("an error").to_string();
    assert_eq!(
        error(int8_files(), None),
        "config.json: `quantization_config` is sttabt-int8 already: the weights are int8"
    );
    assert_eq!(
        error(tiny_files(), Some("layer.9")),
        "model.safetensors: no matrix has `layer.9` in its name, to be kept as f16"
    );
    assert_eq!(
        error(tiny_files(), Some("")),
        "model.safetensors: all matrices have `` in their names: none would be int8"
    );
    let mut files = tiny_files();
    edit_config(&mut files, |config| config["quantization_config"] = json!({"quant_method": "awq"}));
    assert_eq!(
        error(files, None),
        "`quant_method` of `quantization_config` `awq` is not supported; supported: sttabt-int8"
    );
}

#[test]
fn some_matrices_stay_f16() {
    let files = tiny_files().into_int8(Some("word_embeddings")).expect("int8 weights");
    for network in ["", "approx/"] {
        let tensors = weights_of(&files, network);
        let mut f16 = tiny_files();
        edit_bytes(&mut f16, &format!("{network}model.safetensors"), |bytes| bytes);
        for (name, tensor) in &tensors {
            assert_eq!(tensor.dtype == Dtype::F16, name.contains("word_embeddings"), "{name}");
        }
        let name = "bert.embeddings.word_embeddings.weight";
        let mut source = parse_weights(&bytes(&f16, &format!("{network}model.safetensors")));
        source.get_mut(name).expect("words").round_to_f16();
        assert_eq!(tensors[name].bytes, source[name].bytes);
    }
    let model = Model::from_bytes(files).expect("a model");
    assert_eq!(model.weights_dtype(), "f16");
    assert_eq!(model.num_parameters(), tiny_bert().num_parameters());
}

/// The largest difference between the logits of two results, on average, and the share of equal kept tokens.
fn near(a: &[Classification], b: &[Classification]) -> (f32, f64) {
    let mean = a.iter().zip(b).map(|(a, b)| distance(&a.logits, &b.logits, 0.0)).sum::<f32>() / a.len() as f32;
    let (mut both, mut all) = (0, 0);
    for (a, b) in a.iter().zip(b).flat_map(|(a, b)| a.kept.iter().zip(&b.kept)) {
        let same = a.iter().filter(|token| b.contains(token)).count();
        both += same;
        all += a.len() + b.len() - same;
    }
    (mean, both as f64 / all as f64)
}

#[test]
fn answers_are_near_those_of_f32() {
    let mut random = Random(3);
    let texts: Vec<String> = (0..24).map(|place| random.text(1 + 2 * place)).collect();
    let inputs: Vec<Input<'_>> = texts.iter().map(|text| Input::Text(text)).collect();
    let pictures: Vec<_> = (0..6).map(|_| random.picture(40, 52)).collect();
    let images: Vec<Input<'_>> = pictures.iter().map(Input::Image).collect();
    let int8 = [int8_files(), int8_vit_files()].map(|files| Model::from_bytes(files).expect("a model"));
    for ((source, int8), inputs) in [tiny_bert(), tiny_vit()].iter().zip(&int8).zip([&inputs, &images]) {
        assert_eq!(int8.num_parameters(), source.num_parameters());
        assert_eq!(int8.weights_dtype(), "int8");
        for rule in EACH_RULE {
            let prune: Prune = rule.parse().expect("a rule");
            if source.lacks(&prune).is_some() {
                continue;
            }
            let [before, after] =
                [source, int8].map(|model| classify(&mut engine(model, BackendKind::Cpu), inputs, &prune));
            let (mean, equal) = near(&before, &after);
            println!("{rule}: logits differ by {mean}, {equal:.3} of kept tokens are equal");
            assert!(before.iter().zip(&after).any(|(a, b)| a.logits != b.logits), "{rule}: nothing was rounded");
            assert!(equal > 0.8, "{rule}: {equal}");
            if rule == "dense" {
                // Logits of tiny-bert, whose weights are random, are from -2 to 2.
                assert!(mean < 0.15, "{rule}: {mean}");
            }
        }
        // An input that lies between two whole numbers may become either: what came before was rounded in another order.
        let [cpu, gpu] = BACKENDS.map(|kind| classify(&mut engine(int8, kind), inputs, &Prune::Dense));
        let (mean, _) = near(&cpu, &gpu);
        assert!(mean < 0.01, "{mean}");
    }
}

#[test]
fn batches_give_what_single_inputs_give() {
    let model = Model::from_bytes(int8_files()).expect("a model");
    let mut random = Random(5);
    let texts: Vec<String> = (0..9).map(|place| random.text(1 + 7 * place)).collect();
    let inputs: Vec<Input<'_>> = texts.iter().map(|text| Input::Text(text)).collect();
    for backend in BACKENDS {
        let mut engine = engine(&model, backend);
        for rule in EACH_RULE {
            let prune: Prune = rule.parse().expect("a rule");
            let batch = classify(&mut engine, &inputs, &prune);
            for (input, expected) in inputs.iter().zip(batch) {
                let single = classify(&mut engine, &[*input], &prune).remove(0);
                let bits =
                    |result: &Classification| result.logits.iter().map(|logit| logit.to_bits()).collect::<Vec<_>>();
                let found = (bits(&single), &single.kept);
                assert_eq!(found, (bits(&expected), &expected.kept), "{backend:?}, {rule}");
            }
        }
    }
}

/// Other names, other families, other ways to lay out a file.
#[test]
fn variants_become_int8_too() {
    type Variant = (&'static str, fn() -> ModelFiles, Edit);
    let rows: Vec<Variant> = vec![
        ("wrapped names", tiny_files, rename(|name| format!("module.{name}"))),
        ("timm's names", tiny_vit_files, timm_names()),
        ("f16", tiny_files, all_tensors(|tensors| tensors.values_mut().for_each(HostTensor::round_to_f16))),
    ];
    for (what, files, edit) in rows {
        let mut edited = files();
        edit(&mut edited);
        let int8 = edited.into_int8(None).unwrap_or_else(|error| panic!("{what}: {error}"));
        let model = Model::from_bytes(int8).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(model.weights_dtype(), "int8", "{what}");
        let mut random = Random(8);
        let (text, picture) = (random.text(20), random.picture(30, 30));
        let input = if model.preprocessor().is_some() { Input::Image(&picture) } else { Input::Text(&text) };
        let source = variant_of(files(), what, |_| ());
        let [a, b] =
            [&source, &model].map(|model| classify(&mut engine(model, BackendKind::Cpu), &[input], &Prune::Dense));
        assert!(near(&a, &b).0 < 0.3, "{what}: {:?} and {:?}", a[0].logits, b[0].logits);
    }
}
