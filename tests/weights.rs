//! Weights in the forms in which people have them: shards, wrapped names, other number formats, tensors that nothing uses, files that
//! are not what their names say.

use crate::common::edit::*;
use crate::common::*;
use safetensors::Dtype;
use serde_json::{Value, json};
use sttabt::{BackendKind, Bytes, Classification, Engine, Input, Model, ModelFiles, Outputs, Prune};

const INPUTS: [Input<'_>; 2] = [Input::Text("w5 w6 w7 w30 w31"), Input::Pair("w9 w9", "w51")];
const INDEX: &str = "model.safetensors.index.json";

fn results(model: &Model) -> Vec<Classification> {
    under_each_rule(model, &INPUTS, BackendKind::Cpu)
}

/// Parts of a network's tensors, each a file, and what names them.
fn sharded(files: &mut ModelFiles, folder: &str, shard_of: impl Fn(usize, &str) -> usize) {
    let weights = files.remove(&format!("{folder}model.safetensors")).expect("weights");
    let (mut shards, mut map) = (vec![Tensors::new(), Tensors::new(), Tensors::new()], serde_json::Map::new());
    let name = |shard: usize| format!("model-0000{}-of-00003.safetensors", shard + 1);
    for (index, (tensor, values)) in parse_weights(weights.as_ref()).into_iter().enumerate() {
        let shard = shard_of(index, &tensor);
        map.insert(tensor.clone(), json!(name(shard)));
        shards[shard].insert(tensor, values);
    }
    for (shard, tensors) in shards.iter().enumerate() {
        files.insert(format!("{folder}{}", name(shard)), write_weights(tensors));
    }
    let index = json!({"metadata": {"total_size": 1}, "weight_map": map});
    files.insert(format!("{folder}{INDEX}"), serde_json::to_vec(&index).expect("JSON"));
}

fn in_shards() -> Edit {
    Box::new(|files| {
        // One after another, and mixed up.
        sharded(files, "", |index, _| index / 30);
        sharded(files, "approx/", |index, _| index % 3);
    })
}

/// A tensor that no network has.
fn unused(name: &str, dtype: Dtype, bytes: Vec<u8>) -> impl Fn(&mut Tensors) + use<> {
    let name = name.to_owned();
    move |tensors| {
        let shape = vec![bytes.len() * 8 / dtype.bitsize()];
        tensors.insert(name.clone(), HostTensor { dtype, shape, bytes: bytes.clone() });
    }
}

/// Nothing of this changes an answer.
#[test]
fn other_forms_of_the_same_weights() {
    let f64s = all_tensors(|tensors| {
        for tensor in tensors.values_mut() {
            tensor.bytes = tensor.values().iter().flat_map(|&value| f64::from(value).to_le_bytes()).collect();
            tensor.dtype = Dtype::F64;
        }
    });
    let extras = all_tensors(|tensors| {
        unused("bert.embeddings.position_ids", Dtype::I64, vec![1; 8 * 160])(tensors);
        unused("cls.predictions.bias", Dtype::F32, [f32::NEG_INFINITY, f32::NAN].map(f32::to_le_bytes).concat())(
            tensors,
        );
        unused("extra", Dtype::F64, f64::NAN.to_le_bytes().to_vec())(tensors);
        unused("mask", Dtype::BOOL, vec![1; 3])(tensors);
        unused("scale", Dtype::F8_E4M3, vec![0xff; 4])(tensors);
        unused("packed", Dtype::U8, vec![7; 4])(tensors);
    });
    let two_of_a_name = all_tensors(|tensors| {
        unused("model.classifier.bias", Dtype::F32, vec![0; 4])(tensors);
        unused("teacher.classifier.bias", Dtype::F32, vec![0; 4])(tensors);
    });
    let tensorflow = rename(|name| {
        let name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        name.strip_prefix("bert.").map(str::to_owned).unwrap_or(name)
    });
    let rows: Vec<(&str, Edit)> = vec![
        ("shards", in_shards()),
        ("f64", f64s),
        ("model.", rename(|name| format!("model.{name}"))),
        ("module.", rename(|name| format!("module.{name}"))),
        ("_orig_mod.", rename(|name| format!("_orig_mod.{name}"))),
        ("module._orig_mod.", rename(|name| format!("module._orig_mod.{name}"))),
        ("state_dict.", rename(|name| format!("state_dict.{name}"))),
        ("model_state_dict.module.", rename(|name| format!("model_state_dict.module.{name}"))),
        ("_orig_mod.module.model.", rename(|name| format!("_orig_mod.module.model.{name}"))),
        ("bert.module.", rename(|name| name.replace("bert.", "bert.module."))),
        ("a layer that is compiled", rename(|name| name.replace("layer.0.", "layer.0._orig_mod."))),
        (
            "layers that are checkpointed",
            rename(|name| name.replace(".output.", "._checkpoint_wrapped_module.output.")),
        ),
        (
            "module.model.bert._orig_mod.",
            rename(|name| format!("module.model.{}", name.replace("bert.", "bert._orig_mod."))),
        ),
        (
            "_fsdp_wrapped_module. on all levels",
            rename(|name| format!("_fsdp_wrapped_module.{}", name.replace("layer.", "_fsdp_wrapped_module.layer."))),
        ),
        ("NaN in an index", all(vec![in_shards(), literal(INDEX, "metadata", "{\"total_size\": NaN}")])),
        (
            "only the network is wrapped",
            rename(|name| if name.starts_with("bert.") { format!("model.{name}") } else { name.to_owned() }),
        ),
        ("wrapped, and no prefix", rename(|name| format!("model.{}", name.strip_prefix("bert.").unwrap_or(name)))),
        ("wrapped shards", all(vec![rename(|name| format!("module.{name}")), in_shards()])),
        ("a wrapped tensor beside the bare one", two_of_a_name),
        ("unused tensors of any kind", extras),
        ("gamma and beta, and no prefix", tensorflow),
    ];
    let original = Model::from_bytes(tiny_files()).expect("tiny-bert");
    let expected = results(&original);
    for (what, edit) in rows {
        let model = variant_of(tiny_files(), what, edit);
        assert_eq!(results(&model), expected, "{what}");
        assert_eq!(model.num_parameters(), original.num_parameters(), "{what}");
    }
}

/// Whole numbers are numbers; so is what f32 cannot hold exactly.
#[test]
fn other_number_formats() {
    type Write = fn(i16) -> Vec<u8>;
    let formats: [(Dtype, Write); 7] = [
        (Dtype::F64, |value| f64::from(value).to_le_bytes().to_vec()),
        (Dtype::I64, |value| i64::from(value).to_le_bytes().to_vec()),
        (Dtype::I32, |value| i32::from(value).to_le_bytes().to_vec()),
        (Dtype::I16, |value| value.to_le_bytes().to_vec()),
        (Dtype::U64, |value| (value as u64).to_le_bytes().to_vec()),
        (Dtype::U32, |value| (value as u32).to_le_bytes().to_vec()),
        (Dtype::U16, |value| (value as u16).to_le_bytes().to_vec()),
    ];
    for (dtype, write) in formats {
        let values =
            if matches!(dtype, Dtype::U64 | Dtype::U32 | Dtype::U16) { [1, 0, 9, 300, 2] } else { [1, -1, 0, 300, -2] };
        let with_bias = |dtype: Dtype, bytes: Vec<u8>| {
            let edit = move |tensors: &mut Tensors| {
                tensors
                    .insert("classifier.bias".to_owned(), HostTensor { dtype, shape: vec![5], bytes: bytes.clone() });
            };
            results(&variant_of(tiny_files(), "a bias", tensors(edit)))
        };
        let expected = with_bias(Dtype::F32, values.iter().flat_map(|&value| f32::from(value).to_le_bytes()).collect());
        assert_eq!(with_bias(dtype, values.into_iter().flat_map(write).collect()), expected, "{dtype}");
    }
}

/// What the index or a shard may lack.
#[test]
fn shards_that_do_not_fit() {
    fn index(edit: impl Fn(&mut Value) + 'static) -> Edit {
        all(vec![in_shards(), Box::new(move |files| edit_json(files, INDEX, &edit))])
    }
    fn to(shard: &'static str) -> Edit {
        index(move |json| json["weight_map"]["classifier.bias"] = json!(shard))
    }
    check_edits(vec![
        (
            "not JSON",
            all(vec![in_shards(), Box::new(|files| files.insert(INDEX, b"{".to_vec()))]),
            "model.safetensors.index.json: not JSON: EOF while parsing an object at line 1 column 1",
        ),
        (
            "no map",
            index(|json| *json = json!({})),
            "model.safetensors.index.json: `weight_map` is null, expected the names of tensors, each with that of its file",
        ),
        (
            "a map of numbers",
            index(|json| json["weight_map"]["classifier.bias"] = json!(1)),
            "model.safetensors.index.json: `weight_map.classifier.bias` is 1, expected the names of tensors, each with that of its file",
        ),
        (
            "an empty map",
            index(|json| json["weight_map"] = json!({})),
            "model.safetensors.index.json: tensor `bert.embeddings.word_embeddings.weight` is missing",
        ),
        (
            "a shard is missing",
            all(vec![in_shards(), without("model-00002-of-00003.safetensors")]),
            "model-00002-of-00003.safetensors: missing, and model.safetensors.index.json names it",
        ),
        (
            "a shard of ApproxNet is missing",
            all(vec![in_shards(), without("approx/model-00003-of-00003.safetensors")]),
            "approx/model-00003-of-00003.safetensors: missing, and approx/model.safetensors.index.json names it",
        ),
        (
            "a tensor is in another shard",
            to("model-00001-of-00003.safetensors"),
            "model-00001-of-00003.safetensors: tensor `classifier.bias` is missing, and model.safetensors.index.json says that it is here",
        ),
        (
            "a tensor is in none",
            index(|json| json["weight_map"]["more"] = json!("model-00001-of-00003.safetensors")),
            "model-00001-of-00003.safetensors: tensor `more` is missing, and model.safetensors.index.json says that it is here",
        ),
        (
            "above the folder",
            to("../model.safetensors"),
            "model.safetensors.index.json: tensor `classifier.bias` is said to be in `../model.safetensors`, which is not in the folder",
        ),
        (
            "of the whole system",
            to("/etc/passwd"),
            "model.safetensors.index.json: tensor `classifier.bias` is said to be in `/etc/passwd`, which is not in the folder",
        ),
        (
            "of another drive",
            to("C:\\x"),
            "model.safetensors.index.json: tensor `classifier.bias` is said to be in `C:\\x`, which is not in the folder",
        ),
        (
            "a tensor in two shards",
            all(vec![
                in_shards(),
                Box::new(|files| {
                    edit_bytes(files, "model-00001-of-00003.safetensors", |bytes| {
                        let mut tensors = parse_weights(&bytes);
                        unused("classifier.bias", Dtype::F32, vec![0; 20])(&mut tensors);
                        write_weights(&tensors)
                    });
                }),
            ]),
            "model-00003-of-00003.safetensors: tensor `classifier.bias` is in model-00001-of-00003.safetensors too",
        ),
        (
            "a shard is cut",
            all(vec![
                in_shards(),
                Box::new(|files| edit_bytes(files, "model-00002-of-00003.safetensors", |bytes| bytes[..4].to_vec())),
            ]),
            "model-00002-of-00003.safetensors: not a valid safetensors file of 4 bytes: header too small",
        ),
        (
            "a NaN in a shard",
            all(vec![
                tensors(|tensors| {
                    let bias = tensors.get_mut("classifier.bias").expect("bias");
                    bias.bytes[4..8].copy_from_slice(&f32::NAN.to_le_bytes());
                }),
                in_shards(),
            ]),
            "model-00003-of-00003.safetensors: tensor `classifier.bias` holds NaN at index 1, expected finite numbers",
        ),
    ]);
}

#[test]
fn tensors_that_are_refused() {
    fn bias(dtype: Dtype) -> Edit {
        tensors(move |tensors| {
            let bytes = vec![1; 5 * dtype.bitsize() / 8];
            tensors.insert("classifier.bias".to_owned(), HostTensor { dtype, shape: vec![5], bytes });
        })
    }
    let mut rows: Vec<Row> = vec![
        (
            "two wrapped tensors of one name",
            tensors(|tensors| {
                let bias = tensors.remove("classifier.bias").expect("bias");
                for wrapper in ["model", "module"] {
                    unused(&format!("{wrapper}.classifier.bias"), Dtype::F32, bias.bytes.clone())(tensors);
                }
            }),
            "model.safetensors: `model.classifier.bias` and `module.classifier.bias` are one tensor without what wraps them, `classifier.bias`",
        ),
        (
            "a name with something unknown before it",
            rename(|name| format!("net.{name}")),
            "model.safetensors: tensor `bert.embeddings.word_embeddings.weight` is missing, and there is \
             `net.bert.embeddings.word_embeddings.weight`: drop what stands before it",
        ),
        (
            "adapters beside the weights that they change",
            tensors(unused("bert.encoder.layer.0.attention.self.query.lora_A", Dtype::F32, vec![0; 4])),
            "model.safetensors: adapters such as `bert.encoder.layer.0.attention.self.query.lora_A`: merge them with PEFT's \
             `merge_and_unload`, and save the model again",
        ),
        (
            "adapters that are not merged",
            tensors(|tensors| {
                for part in ["base_layer.weight", "lora_A.default.weight", "lora_B.default.weight"] {
                    unused(&format!("bert.encoder.layer.0.attention.self.query.{part}"), Dtype::F32, vec![0; 4])(
                        tensors,
                    );
                }
                tensors.remove("bert.encoder.layer.0.attention.self.query.weight");
            }),
            "model.safetensors: adapters such as `bert.encoder.layer.0.attention.self.query.lora_A.default.weight`: merge them with PEFT's `merge_and_unload`, and save the \
             model again",
        ),
        (
            "a wrapped tensor is missing",
            all(vec![
                rename(|name| format!("model.{name}")),
                tensors(|tensors| drop(tensors.remove("model.classifier.weight"))),
            ]),
            "model.safetensors: tensor `classifier.weight` is missing; where a model embeds, modules.json or a class such as BertModel in config.json says so",
        ),
        (
            "f64 beyond f32",
            tensors(|tensors| {
                let bytes = [0.0, 1e300, 0.0, 0.0, 0.0_f64].map(f64::to_le_bytes).concat();
                tensors.insert("classifier.bias".to_owned(), HostTensor { dtype: Dtype::F64, shape: vec![5], bytes });
            }),
            "model.safetensors: tensor `classifier.bias` holds inf at index 1, expected finite numbers",
        ),
    ];
    let messages = [Dtype::I8, Dtype::U8, Dtype::BOOL, Dtype::F8_E4M3, Dtype::F8_E5M2, Dtype::C64].map(|dtype| {
        let expected = "expected F32, F16, BF16, F64 or integers of 16 to 64 bits";
        let hint = match dtype {
            Dtype::I8 => "; I8 needs `quantization_config` with `quant_method` sttabt-int8 in config.json",
            _ => "",
        };
        (dtype, format!("model.safetensors: tensor `classifier.bias` is {dtype}, {expected}{hint}"))
    });
    rows.extend(
        messages.iter().map(|(dtype, message)| ("a format of few bits", bias(*dtype), &*message.clone().leak())),
    );
    check_edits(rows);
}

/// What a failed download leaves under the names of files.
#[test]
fn files_that_are_something_else() {
    const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4e38\nsize 437967672\n";
    const PAGE: &str = "\n<!DOCTYPE html>\n<html class=\"\"><head>";
    fn is(name: &'static str, bytes: &'static [u8]) -> Edit {
        Box::new(move |files| files.insert(name, bytes.to_vec()))
    }
    let pointer = "a git-lfs pointer, not the file itself: run `git lfs pull` in its folder, or download it again";
    let page = "a web page, not the file itself: download it again";
    let named = [
        ("model.safetensors", POINTER, pointer),
        ("approx/model.safetensors", POINTER, pointer),
        ("config.json", POINTER, pointer),
        ("tokenizer.json", POINTER, pointer),
        ("model.safetensors", PAGE, page),
        ("config.json", PAGE, page),
        ("tokenizer.json", PAGE, page),
        ("model.safetensors", "", "an empty file: download it again"),
        ("config.json", "", "an empty file: download it again"),
        ("model.safetensors", "Entry not found", "the text `Entry not found`, not weights: download it again"),
        (
            "model.safetensors",
            "{\"error\":\"Repository not found\"}\n",
            "the text `{\"error\":\"Repository not found\"}`, not weights: download it again",
        ),
    ];
    let rows = named.map(|(name, bytes, reason)| {
        let expected: &'static str = format!("{name}: {reason}").leak();
        (name, is(name, bytes.as_bytes()), expected)
    });
    let mut rows = Vec::from(rows);
    let pickle = "a pickle of PyTorch's, which is not read here: `sttabt convert DIR` makes model.safetensors of it, and so does `save_pretrained` in Python";
    for (what, name, bytes) in [
        ("an archive", "pytorch_model.bin", b"PK\x03\x04\0\0".as_slice()),
        ("a pickle", "pytorch_model.bin", b"\x80\x02}q\0.".as_slice()),
        ("an archive under another name", "model.safetensors", b"PK\x03\x04\0\0".as_slice()),
    ] {
        let edit = all(vec![without("model.safetensors"), is(name, bytes)]);
        rows.push((what, edit, &*format!("{name}: {pickle}").leak()));
    }
    rows.push((
        "no weights",
        without("model.safetensors"),
        "model.safetensors: missing, and there is no model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json either",
    ));
    rows.push((
        "an index that is a pointer",
        all(vec![in_shards(), is(INDEX, POINTER.as_bytes())]),
        &*format!("{INDEX}: {pointer}").leak(),
    ));
    rows.push(("a README that is a page", is("README.md", PAGE.as_bytes()), "no error"));
    check_edits(rows);
}

/// Shards may lie anywhere: one in memory, one in a map.
#[test]
fn shards_of_several_kinds_of_bytes() {
    static WORDS: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let mut files = tiny_files();
    sharded(&mut files, "", |_, name| usize::from(!name.contains("word_embeddings")));
    let shard = "model-00001-of-00003.safetensors";
    let words = WORDS.get_or_init(|| bytes(&files, shard));
    files.insert(shard, Bytes::Shared(Box::new(words.as_slice())));
    let model = Model::from_bytes(files).expect("a model");
    assert_eq!(results(&model), results(&Model::from_bytes(tiny_files()).expect("tiny-bert")));
}

/// An engine that frees what it packs does so in every form, and what is read later stays.
#[test]
fn a_compact_engine_takes_every_form() {
    let f64s = || {
        all_tensors(|tensors| {
            for tensor in tensors.values_mut() {
                tensor.bytes = tensor.values().iter().flat_map(|&value| f64::from(value).to_le_bytes()).collect();
                tensor.dtype = Dtype::F64;
            }
        })
    };
    let embeddings_last: Edit = Box::new(|files| {
        for folder in ["", "approx/"] {
            sharded(files, folder, |_, name| 2 * usize::from(name.contains("embeddings")));
        }
    });
    let shared: Edit = Box::new(|files| {
        for name in ["model.safetensors", "approx/model.safetensors"] {
            let weights = bytes(files, name);
            files.insert(name, Bytes::Shared(Box::new(weights)));
        }
    });
    let rows: Vec<(&str, Edit, bool)> = vec![
        ("shards", in_shards(), true),
        ("embeddings in the last shard", embeddings_last, false),
        ("f64", f64s(), true),
        ("f64 in shards", all(vec![f64s(), in_shards()]), true),
        ("f64 in shared bytes", all(vec![f64s(), shared]), false),
    ];
    let prune = Prune::top_k(0.5).expect("a ratio");
    let expected = classify(&mut engine(&tiny_bert(), BackendKind::Cpu), &INPUTS, &prune);
    for (what, edit, is_freed) in rows {
        let mut model = variant_of(tiny_files(), what, edit);
        let known = (model.num_parameters(), model.weights_dtype());
        let open = |model: &mut Model| pollster::block_on(Engine::new_compact(model, &BackendKind::Cpu.into()));
        let mut engine = open(&mut model).unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = pollster::block_on(engine.classify(&INPUTS, &prune, &Outputs::default())).expect("answers");
        assert_eq!(found, expected, "{what}");
        drop(engine);
        assert_eq!((model.num_parameters(), model.weights_dtype()), known, "{what}");
        let again = pollster::block_on(Engine::new(&model, &BackendKind::Cpu.into())).map(|_| ());
        match again {
            Err(error) => assert!(is_freed && error.to_string().contains("was freed here"), "{what}: {error}"),
            Ok(()) => assert!(!is_freed, "{what}: nothing is freed"),
        }
    }
}
