//! Models as the world writes them: number formats, names, tokenizers and labels that must work.

use crate::common::edit::*;
use crate::common::{
    BACKENDS, EACH_RULE, classify, distance, engine, fixture, load, model_files, tiny_bert, under_each_rule,
};
use safetensors::Dtype;
use serde_json::json;
use sttabt::{BackendKind, Bytes, Classification, Engine, Input, Model, ModelFiles, Picture, Prune, Task};

const INPUTS: [Input<'static>; 4] = [
    Input::Text("w51 w41 w11 w19 w70 w88 w12 w13 w14 w15"),
    Input::Pair("w7 unknown w8", "W9 w10, w11"),
    Input::Text("w96"),
    Input::Text("w5 ẃ6 片w7 W8! ##w9"),
];

fn results(model: &Model, kind: BackendKind) -> Vec<Classification> {
    under_each_rule(model, &INPUTS, kind)
}

fn variant(what: &str, edit: impl Fn(&mut ModelFiles)) -> Model {
    variant_of(tiny_files(), what, edit)
}

#[test]
fn variants_that_change_nothing() {
    let original = results(&tiny_bert(), BackendKind::Cpu);
    let limits = |json: &mut serde_json::Value| {
        json["truncation"] = json!({"direction": "Left", "max_length": 4, "strategy": "OnlyFirst", "stride": 0});
        json["padding"] = json!({"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]"});
    };
    let rows: Vec<(&str, Edit)> = vec![
        ("names without bert.", rename(|name| name.trim_start_matches("bert.").to_owned())),
        (
            "gamma and beta",
            rename(|name| {
                name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
            }),
        ),
        (
            "tensors that are not used",
            tensors(|tensors| {
                let position_ids = HostTensor { dtype: Dtype::I64, shape: vec![1, 160], bytes: vec![0xff; 8 * 160] };
                tensors.insert("bert.embeddings.position_ids".to_owned(), position_ids);
                tensors.insert("cls.predictions.bias".to_owned(), HostTensor::f32(&[97], &[0.5; 97]));
                tensors.insert("empty".to_owned(), HostTensor::f32(&[0, 4], &[]));
            }),
        ),
        ("vocab.txt alone", vocab(|vocab| vocab)),
        ("vocab.txt with CRLF", vocab(|vocab| vocab.replace('\n', "\r\n"))),
        ("vocab.txt without settings", all(vec![vocab(|vocab| vocab), without("tokenizer_config.json")])),
        ("tokenizer.json alone", all(vec![without("vocab.txt"), without("tokenizer_config.json")])),
        ("truncation and padding in tokenizer.json", tokenizer(limits)),
        ("no post_processor", tokenizer(|json| json["post_processor"] = json!(null))),
        (
            "BertProcessing",
            tokenizer(|json| {
                json["post_processor"] = json!({"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]});
            }),
        ),
        ("a decoder that cannot be read", tokenizer(|json| json["decoder"] = json!(7))),
        ("no activation named", without_config("hidden_act")),
        ("no model_type", without_config("model_type")),
        ("no architectures", without_config("architectures")),
        ("another family's class", config("architectures", json!(["RobertaForSequenceClassification"]))),
        ("no labels named", all(vec![without_config("id2label"), config("num_labels", json!(5))])),
        ("no constants", without_config("sttabt")),
        ("null for constants", config("sttabt", json!(null))),
        ("keys of other tools", config("torch_dtype", json!("float32"))),
        ("NaN that nothing reads", literal("config.json", "initializer_range", "NaN")),
        (
            "numbers that are none, and texts like them",
            all(vec![
                config("note", json!("a \"NaN\", -Infinity and \\")),
                literal("config.json", "initializer_range", "[-Infinity, -1e999, 0.5, 1e999, \"NaN\\\\\"]"),
            ]),
        ),
        ("no limit", literal("tokenizer_config.json", "model_max_length", "Infinity")),
        ("no limit in digits", literal("tokenizer_config.json", "model_max_length", "1000000000000000019884624838656")),
    ];
    for (what, edit) in rows {
        let found = results(&variant(what, edit), BackendKind::Cpu);
        for (index, (found, original)) in found.iter().zip(&original).enumerate() {
            assert_eq!(found, original, "{what}: {}, input {}", EACH_RULE[index / INPUTS.len()], index % INPUTS.len());
        }
    }
}

/// `vocab.txt` builds the tokenizer that `tokenizer.json` describes, settings included.
#[test]
fn settings_of_the_tokenizer_are_read() {
    let cased = all(vec![
        vocab(|vocab| vocab),
        Box::new(|files| files.insert("tokenizer_config.json", br#"{"do_lower_case": false}"#.to_vec())),
    ]);
    let mut engine = engine(&variant("cased", cased), BackendKind::Cpu);
    let result = classify(&mut engine, &[Input::Text("w7 W7")], &Prune::Dense).remove(0);
    assert_eq!(result.tokens, ["[CLS]", "w7", "[UNK]", "[SEP]"]);
}

/// A vocabulary without `[MASK]`: the token is not made up, its text is a text like any other.
#[test]
fn special_tokens_that_the_vocabulary_lacks() {
    let model = variant("no [MASK]", vocab(|vocab| vocab.replace("[MASK]", "[mask]")));
    let result = classify(&mut engine(&model, BackendKind::Cpu), &[Input::Text("w7 [MASK]")], &Prune::Dense).remove(0);
    assert_eq!(result.tokens, ["[CLS]", "w7", "[UNK]", "[UNK]", "[UNK]", "[SEP]"]);
}

/// Weights of 16 bits give what the same numbers in 32 bits give.
#[test]
fn half_precision_weights() {
    type Round = fn(&mut HostTensor);
    type Family<'a> = (fn() -> ModelFiles, &'a [Input<'a>]);
    let formats: [(&str, Round); 2] = [("f16", HostTensor::round_to_f16), ("bf16", HostTensor::round_to_bf16)];
    let picture = Random(7).picture(48, 48);
    let families: [Family<'_>; 2] = [(tiny_files, &INPUTS), (tiny_vit_files, &[Input::Image(&picture)])];
    for ((files, inputs), (name, round)) in families.iter().flat_map(|family| formats.map(|format| (family, format))) {
        let rounded = |finish: fn(&mut HostTensor)| {
            let edit = all_tensors(move |tensors| {
                for (_, tensor) in tensors.iter_mut().filter(|(name, _)| !name.ends_with("p_logit")) {
                    round(tensor);
                    finish(tensor);
                }
            });
            variant_of(files(), name, edit)
        };
        let half = rounded(|_| {});
        let widened = rounded(|tensor| *tensor = HostTensor::f32(&tensor.shape, &tensor.widened()));
        assert_eq!((half.weights_dtype(), widened.weights_dtype()), (name, "f32"));
        for kind in BACKENDS {
            let (half, widened) = [&half, &widened].map(|model| under_each_rule(model, inputs, kind)).into();
            for (half, widened) in half.iter().zip(&widened) {
                assert_eq!(half.kept, widened.kept, "{name} on {kind:?}");
                let far = distance(&half.logits, &widened.logits, 0.0);
                assert!(far < 1e-5, "{name} on {kind:?}: {far:e}");
            }
        }
        // And near the original: the formats round to 11 and 8 bits.
        let original = Model::from_bytes(files()).expect("a model");
        let (half, original) =
            [&half, &original].map(|model| under_each_rule(model, inputs, BackendKind::Cpu).remove(0)).into();
        let far = distance(&half.logits, &original.logits, 0.0);
        assert!(far > 0.0 && far < if name == "f16" { 0.02 } else { 0.2 }, "{name}: {far:e}");
    }
}

fn with_labels(count: usize, names: serde_json::Value) -> Edit {
    all(vec![
        config("id2label", names),
        tensors(move |tensors| {
            for name in ["classifier.weight", "classifier.bias"] {
                tensors.get_mut(name).expect("classifier").resize_rows(count);
            }
        }),
    ])
}

#[test]
fn other_numbers_of_labels() {
    let original = results(&tiny_bert(), BackendKind::Cpu);
    for kind in BACKENDS {
        let model = variant("regression", with_labels(1, json!({"0": "score"})));
        assert_eq!(model.config().task, Task::Regression);
        for (result, original) in results(&model, kind).iter().zip(&original) {
            assert_eq!(
                (result.label.as_deref(), result.label_index, &result.probs),
                (Some("score"), Some(0), &Vec::new())
            );
            assert!(distance(&result.logits, &original.logits[..1], 0.0) < 1e-5, "{kind:?}");
        }
        // transformers shows whole numbers as they are.
        let model = variant("numbers for names", with_labels(2, json!({"0": 0, "1": 10})));
        assert_eq!(model.config().labels, ["0", "10"]);
        let model = variant("3 labels", with_labels(3, json!({"2": "entails", "0": "contradicts", "1": "neither"})));
        assert_eq!(model.config().labels, ["contradicts", "neither", "entails"]);
        for (result, original) in results(&model, kind).iter().zip(&original) {
            assert!(distance(&result.logits, &original.logits[..3], 0.0) < 1e-5, "{kind:?}");
            let best = (0..3).max_by(|&a, &b| result.logits[a].total_cmp(&result.logits[b])).expect("a label");
            assert_eq!((result.label_index, result.label.as_ref()), (Some(best), Some(&model.config().labels[best])));
            assert!((result.probs.iter().sum::<f32>() - 1.0).abs() < 1e-6 && result.probs.len() == 3);
        }
    }
}

/// Bytes that start at an odd address, as a memory map of a larger file could.
struct Shifted(Vec<u8>, usize);

impl Shifted {
    fn new(bytes: &[u8]) -> Self {
        let mut shifted = vec![0; bytes.len() + 1];
        let start = 1 - shifted.as_ptr() as usize % 2;
        shifted[start..start + bytes.len()].copy_from_slice(bytes);
        shifted.truncate(start + bytes.len());
        Self(shifted, start)
    }
}

impl AsRef<[u8]> for Shifted {
    fn as_ref(&self) -> &[u8] {
        &self.0[self.1..]
    }
}

#[test]
fn bytes_at_an_odd_address() {
    for (name, round) in [("f32", None), ("f16", Some(HostTensor::round_to_f16 as fn(&mut HostTensor)))] {
        let prepare = |files: &mut ModelFiles| {
            edit_all_tensors(files, |tensors| {
                tensors.values_mut().for_each(|tensor| round.iter().for_each(|round| round(tensor)));
            });
        };
        let shifted = variant(name, |files| {
            prepare(files);
            let weights = Shifted::new(&bytes(files, "model.safetensors"));
            files.insert("model.safetensors", Bytes::Shared(Box::new(weights)));
            assert_eq!(files.get("model.safetensors").expect("weights").as_ptr() as usize % 2, 1);
        });
        for kind in BACKENDS {
            assert_eq!(results(&shifted, kind), results(&variant(name, prepare), kind), "{name} on {kind:?}");
        }
    }
}

/// The file with its tensors the other way round: no writer sorts so.
fn reversed(weights: &[u8]) -> Vec<u8> {
    let (length, rest) = weights.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().expect("8 bytes")) as usize);
    let mut header: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(header).expect("a header");
    header.remove("__metadata__");
    let offsets = |tensor: &serde_json::Value| -> [usize; 2] {
        serde_json::from_value(tensor["data_offsets"].clone()).expect("offsets")
    };
    let mut tensors: Vec<&mut serde_json::Value> = header.values_mut().collect();
    tensors.sort_by_key(|tensor| std::cmp::Reverse(offsets(tensor)));
    let mut bytes = Vec::new();
    for tensor in tensors {
        let [begin, end] = offsets(tensor);
        let start = bytes.len();
        bytes.extend(&data[begin..end]);
        tensor["data_offsets"] = json!([start, bytes.len()]);
    }
    let header = serde_json::to_vec(&header).expect("JSON");
    [&(header.len() as u64).to_le_bytes()[..], &header, &bytes].concat()
}

/// Embeddings that stand last, some of which are packed and some read at every run, are not cut off.
#[test]
fn a_compact_engine_takes_files_in_any_order() {
    let picture = Picture::from_rgb(48, 48, vec![77; 48 * 48 * 3]).expect("pixels");
    for (name, input) in [("tiny-bert", INPUTS[0]), ("tiny-vit", Input::Image(&picture))] {
        let mut files = model_files(&fixture(name));
        for name in ["model.safetensors", "approx/model.safetensors"] {
            edit_bytes(&mut files, name, |bytes| reversed(&bytes));
        }
        let mut model = Model::from_bytes(files).expect("a model");
        let mut compact =
            pollster::block_on(Engine::new_compact(&mut model, &BackendKind::Cpu.into())).expect("an engine");
        let prune = Prune::top_k(0.5).expect("a ratio");
        let expected = classify(&mut engine(&load(&fixture(name)), BackendKind::Cpu), &[input], &prune);
        assert_eq!(classify(&mut compact, &[input], &prune), expected, "{name}");
        assert_ne!(model.weights_dtype(), "unknown");
    }
}

/// The answers are the same, and the file's bytes are gone, unless someone else needs them.
#[test]
fn a_compact_engine_frees_what_it_packs() {
    let picture =
        Picture::from_rgb(48, 48, (0..48 * 48 * 3).map(|value| (value % 251) as u8).collect()).expect("pixels");
    for (name, input) in [("tiny-bert", INPUTS[0]), ("tiny-vit", Input::Image(&picture))] {
        let answer = |engine: &mut Engine| classify(engine, &[input], &Prune::top_k(0.5).expect("a ratio"));
        let compact = |model: &mut Model| pollster::block_on(Engine::new_compact(model, &BackendKind::Cpu.into()));
        let mut shared = load(&fixture(name));
        let mut model = shared.clone();
        let expected = answer(&mut engine(&model, BackendKind::Cpu));
        assert_eq!(answer(&mut compact(&mut shared).expect("an engine")), expected, "{name}");
        assert_eq!(answer(&mut engine(&model, BackendKind::Cpu)), expected, "{name}: another engine");
        drop(shared);

        let known = (model.num_parameters(), model.weights_dtype());
        assert_eq!(answer(&mut compact(&mut model).expect("an engine")), expected, "{name}: freed");
        assert_eq!((model.num_parameters(), model.weights_dtype()), known);
        let error = pollster::block_on(Engine::new(&model, &BackendKind::Cpu.into())).err().expect("freed").to_string();
        assert!(error.starts_with("model.safetensors: tensor `") && error.contains("was freed here"), "{error}");
    }
}

/// RoBERTa's own tokenizers give no types; with one that does, a file with rows for them uses them, as transformers does.
#[test]
fn a_roberta_with_token_types() {
    let pair = [Input::Pair("ab cd", "e f"), Input::Text("ab cd")];
    let logits = |second: f32| {
        let mut files = model_files(&fixture("families/roberta"));
        drop(files.remove_folder("approx"));
        let model = variant_of(files, "token types", |files| {
            config("type_vocab_size", json!(2))(files);
            edit_json(files, "tokenizer_config.json", |it| *it = json!({"tokenizer_class": "BertTokenizer"}));
            for name in ["tokenizer.json", "vocab.json", "merges.txt", "special_tokens_map.json"] {
                drop(files.remove(name));
            }
            files.insert("vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nab\ncd\ne\nf\n".to_vec());
            edit_tensors(files, |tensors| {
                let table = tensors.get_mut("roberta.embeddings.token_type_embeddings.weight").expect("a table");
                let width = table.shape[1];
                let mut values = table.values();
                values.truncate(width);
                // Not the same for all features: a norm follows.
                values.extend((0..width).map(|column| second * (column % 2) as f32));
                *table = HostTensor::f32(&[2, width], &values);
            });
        });
        classify(&mut engine(&model, BackendKind::Cpu), &pair, &Prune::Dense)
    };
    let (one, other) = (logits(0.0), logits(0.5));
    assert!(distance(&one[0].logits, &other[0].logits, 0.0) > 1e-3, "the second text has the second row");
    assert_eq!(one[1].logits, other[1].logits);
}

/// DistilBERT's norms have the epsilon of its code, whatever the configuration says; BERT's have the configuration's.
#[test]
fn an_epsilon_that_the_family_fixes() {
    for (name, is_read) in [("families/distilbert", false), ("tiny-bert", true)] {
        let files = model_files(&fixture(name));
        let other = variant_of(files, name, config("layer_norm_eps", json!(0.05)));
        let logits = |model: &Model| classify(&mut engine(model, BackendKind::Cpu), &INPUTS[..1], &Prune::Dense);
        let (of_file, of_other) = (logits(&load(&fixture(name))), logits(&other));
        let deviation = distance(&of_file[0].logits, &of_other[0].logits, 0.0);
        assert_eq!(deviation > 1e-3, is_read, "{name}: {deviation}");
        assert!(is_read || deviation == 0.0, "{name}: {deviation}");
    }
}

/// Names of one activation, as transformers computes them: with the error function, or by tanh.
#[test]
fn activations_have_several_names() {
    let logits = |name: &'static str| {
        let model = variant_of(tiny_files(), name, both_configs("hidden_act", json!(name)));
        classify(&mut engine(&model, BackendKind::Cpu), &INPUTS[..1], &Prune::Dense).remove(0).logits
    };
    let [exact, by_tanh] = ["gelu", "gelu_new"].map(logits);
    assert_ne!(exact, by_tanh);
    assert_eq!(logits("gelu_python"), exact);
    for name in ["gelu_pytorch_tanh", "gelu_python_tanh", "gelu_fast", "gelu_accurate"] {
        assert_eq!(logits(name), by_tanh, "{name}");
    }
    // transformers in float64.
    let expected = [1.961_498_1, -0.672_011_5, -1.193_706_4, 2.340_192_4, 1.087_891_5];
    assert!(distance(&logits("tanh"), &expected, 0.0) < 1e-4);
}
