//! Model folders on disk as people download them: which files are read, `pytorch_model.bin`, and what else lies there.
#![cfg(feature = "bin")]

use std::path::{Path, PathBuf};

use crate::common::edit::*;
use crate::common::torch::*;
use crate::common::*;
use safetensors::Dtype;
use serde_json::json;
use sttabt::{BackendKind, Classification, Input, Model, ModelFiles};

const BIN: &str = "pytorch_model.bin";
const INPUTS: [Input<'_>; 2] = [Input::Text("w5 w6 w7 w30 w31"), Input::Pair("w9 w9", "w51")];

fn results(model: &Model) -> Vec<Classification> {
    under_each_rule(model, &INPUTS, BackendKind::Cpu)
}

/// An empty folder for one test.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("folders_{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Writes tiny-bert after an edit, and reads it back.
fn saved(name: &str, edit: &Edit) -> Result<Model, String> {
    let folder = scratch(name);
    let mut files = tiny_files();
    edit(&mut files);
    save(&files, &folder);
    let outcome = ModelFiles::from_dir(&folder).and_then(Model::from_bytes);
    outcome.map_err(|error| error.to_string().replace(&format!("{}/", folder.display()), "FOLDER/"))
}

/// Another form of a network's weights.
fn in_place(folder: &'static str, name: &'static str, write: fn(&Tensors) -> Vec<u8>) -> Edit {
    Box::new(move |files| {
        let weights = files.remove(&format!("{folder}model.safetensors")).expect("weights");
        files.insert(format!("{folder}{name}"), write(&parse_weights(weights.as_ref())));
    })
}

fn bin(bytes: Vec<u8>) -> Edit {
    all(vec![without("model.safetensors"), Box::new(move |files| files.insert(BIN, bytes.clone()))])
}

fn bin_shards() -> Edit {
    Box::new(|files| {
        let tensors = parse_weights(files.remove("model.safetensors").expect("weights").as_ref());
        let (mut map, mut shards) = (serde_json::Map::new(), [Tensors::new(), Tensors::new()]);
        for (index, (name, tensor)) in tensors.into_iter().enumerate() {
            map.insert(name.clone(), json!(format!("shards/pytorch_model-{}.bin", index % 2)));
            shards[index % 2].insert(name, tensor);
        }
        for (index, shard) in shards.iter().enumerate() {
            files.insert(format!("shards/pytorch_model-{index}.bin"), torch_file(shard));
        }
        files.insert("pytorch_model.bin.index.json", serde_json::to_vec(&json!({"weight_map": map})).expect("JSON"));
    })
}

fn index() -> Edit {
    Box::new(|files| {
        let weights = files.remove("model.safetensors").expect("weights");
        let names: Vec<String> = parse_weights(weights.as_ref()).into_keys().collect();
        files.insert("part.safetensors", weights);
        let map: serde_json::Map<_, _> = names.into_iter().map(|name| (name, json!("part.safetensors"))).collect();
        files.insert("model.safetensors.index.json", serde_json::to_vec(&json!({"weight_map": map})).expect("JSON"));
    })
}

#[test]
fn folders_with_other_weights() {
    let wrapped = rename(|name| format!("module.{name}"));
    let rows: Vec<(&str, Edit)> = vec![
        ("as it is", Box::new(|_| {})),
        ("bin", in_place("", BIN, torch_file)),
        ("legacy", in_place("", BIN, legacy_torch_file)),
        ("approx", in_place("approx/", BIN, torch_file)),
        ("both", all(vec![in_place("", BIN, torch_file), in_place("approx/", BIN, legacy_torch_file)])),
        ("wrapped", all(vec![wrapped, in_place("", BIN, torch_file), in_place("approx/", BIN, torch_file)])),
        ("bin_shards", bin_shards()),
        ("index", index()),
        ("broken_bin_beside", Box::new(|files| files.insert(BIN, b"PK\x03\x04".to_vec()))),
        (
            "hub",
            Box::new(|files| {
                for name in [
                    "README.md",
                    ".gitattributes",
                    "tf_model.h5",
                    "training_args.bin",
                    "onnx/model.onnx",
                    "rust_model.ot",
                ] {
                    files.insert(name, b"\xff other things".to_vec());
                }
            }),
        ),
    ];
    let expected = results(&tiny_bert());
    for (what, edit) in rows {
        let model = saved(what, &edit).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(results(&model), expected, "{what}");
    }
}

/// Pickles of tensors that are views, share their bytes, or stand beside other things.
#[test]
fn views_and_other_things_in_a_pickle() {
    let tensors = parse_weights(&bytes(&tiny_files(), "model.safetensors"));
    let mut views = views(&tensors);
    let mut storages: Vec<Vec<u8>> = tensors.values().map(|tensor| tensor.bytes.clone()).collect();
    let place = |name: &str| tensors.keys().position(|key| key == name).expect("a tensor");
    // Stored by columns.
    let output = place("bert.encoder.layer.3.output.dense.weight");
    let values = tensors["bert.encoder.layer.3.output.dense.weight"].values();
    let columns = (0..96).flat_map(|column| (0..48).map(move |row| row * 96 + column));
    storages[output] = columns.flat_map(|at| values[at].to_le_bytes()).collect();
    views[output].stride = vec![1, 48];
    // Two in one storage.
    let [weight, bias] = [place("classifier.weight"), place("classifier.bias")];
    let bias_bytes = storages[bias].clone();
    storages[weight].extend(bias_bytes);
    views[weight].storage_len += 5;
    views[bias].key = weight.to_string();
    (views[bias].storage_len, views[bias].offset) = (245, 240);
    let trace = std::env::temp_dir().join("sttabt_a_pickle_was_run");
    let command = format!("touch {}", trace.display());
    let mut pickle = Pickle::new();
    pickle.state_dict(&views, |pickle| {
        pickle.text("_metadata").op("}").text("epoch").int(3).text("rate").op("G").op(0.5_f64.to_be_bytes());
        // It would be a call, if anything here were run.
        pickle.text("danger").global("os", "system").text(&command).op([0x85, b'R']);
    });
    let file = archive(&archived(pickle.0, storages), 0);
    let model = saved("views", &bin(file)).expect("a model");
    assert_eq!(results(&model), results(&tiny_bert()));
    assert!(!trace.exists());
}

#[test]
fn broken_pytorch_files() {
    let tensors = parse_weights(&bytes(&tiny_files(), "model.safetensors"));
    let good = torch_file(&tensors);
    let one = || views(&Tensors::from([("x".to_owned(), HostTensor::f32(&[2, 2], &[1.0; 4]))])).remove(0);
    let of = |view: View, storage: usize| {
        let mut pickle = Pickle::new();
        pickle.state_dict(&[view], |_| {});
        archive(&archived(pickle.0, [vec![0; storage]]), 0)
    };
    // Behind one that can be read, whose texts and classes are remembered.
    let of_two = |more: &dyn Fn(&mut Pickle)| {
        let mut pickle = Pickle::new();
        pickle.state_dict(&[one()], more);
        archive(&archived(pickle.0, [vec![0; 16], vec![0; 16]]), 0)
    };
    let pickled = |write: &dyn Fn(&mut Pickle)| {
        let mut pickle = Pickle::new();
        write(&mut pickle);
        archive(&archived(pickle.0, []), 0)
    };
    let legacy = legacy_torch_file(&Tensors::from([("x".to_owned(), HostTensor::f32(&[2, 2], &[1.0; 4]))]));
    let at = legacy.windows(12).position(|bytes| bytes == b"FloatStorage").expect("its class");
    let complex = [&legacy[..at], b"Complex", &legacy[at..]].concat();
    let mut big_endian = archived(Pickle::new().op("}.").0.clone(), []);
    big_endian[1].1 = b"big".to_vec();
    let rows: Vec<(&str, Vec<u8>, &str)> = vec![
        ("cut", good[..good.len() / 2].to_vec(), "pytorch_model.bin: not a valid archive of PyTorch: "),
        (
            "deflated",
            archive(&archived(Pickle::new().op("}.").0.clone(), []), 8),
            "pytorch_model.bin: `archive/data.pkl` in it is compressed, ",
        ),
        ("no pickle", archive(&[("x".to_owned(), vec![0])], 0), "pytorch_model.bin: not a readable PyTorch file: "),
        ("big endian", archive(&big_endian, 0), "pytorch_model.bin: not a readable PyTorch file: "),
        (
            "a large pickle",
            archive(&archived(vec![b'N'; 5 << 20], []), 0),
            "pytorch_model.bin: `archive/data.pkl` in it has 5242880 bytes, expected at most 4194304",
        ),
        (
            "a list",
            pickled(&|pickle| {
                pickle.op("].");
            }),
            "pytorch_model.bin: not a readable PyTorch file: ",
        ),
        ("beyond its storage", of(View { offset: 1, ..one() }, 16), "pytorch_model.bin: not a readable PyTorch file: "),
        ("a short storage", of(one(), 12), "pytorch_model.bin: not a readable PyTorch file: "),
        (
            "repeated without end",
            of(View { shape: vec![1 << 30, 2], stride: vec![0, 1], ..one() }, 16),
            "pytorch_model.bin: its tensors have 8589934592 bytes, and the file ",
        ),
        (
            "quantized",
            of(View { class: "QInt8Storage", ..one() }, 16),
            "pytorch_model.bin: tensor `x` needs torch.QInt8Storage, which is not read; expected a dense tensor of f16, bf16, f32, f64 or whole numbers: convert it in \
             PyTorch, or leave it out if the model does not use it",
        ),
        (
            "complex",
            of_two(&|pickle| {
                pickle.text("y.weight").tensor(&View { class: "ComplexFloatStorage", key: "1".to_owned(), ..one() });
            }),
            "pytorch_model.bin: tensor `y.weight` needs torch.ComplexFloatStorage, which is not read; ",
        ),
        (
            "complex before 1.6",
            complex,
            "pytorch_model.bin: tensor `x` needs torch.ComplexFloatStorage, which is not read; ",
        ),
        (
            "sparse",
            of_two(&|pickle| {
                pickle.text("y.weight").global("torch._utils", "_rebuild_sparse_tensor").op("(");
                pickle.global("torch.serialization", "_get_layout").text("torch.sparse_coo").op([0x85, b'R']);
                pickle.op("(").tensor(&View { key: "1".to_owned(), ..one() }).op("ttR");
            }),
            "pytorch_model.bin: tensor `y.weight` needs torch._utils._rebuild_sparse_tensor, which is not read; ",
        ),
        (
            "other tensors",
            of(one(), 16),
            "pytorch_model.bin: tensor `bert.embeddings.word_embeddings.weight` is missing",
        ),
        ("nothing", Vec::new(), "pytorch_model.bin: an empty file: download it again"),
        (
            "a pointer",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n".to_vec(),
            "pytorch_model.bin: a git-lfs pointer, ",
        ),
        (
            "a bare pickle",
            Pickle::new().op("}.").0.clone(),
            "pytorch_model.bin: a pickle of PyTorch's, which is not read here: ",
        ),
    ];
    for (what, bytes, expected) in rows {
        let error = saved("broken", &bin(bytes)).err().unwrap_or_else(|| panic!("{what}: no error"));
        assert!(error.starts_with(expected), "{what}\n     found: {error}\n  expected: {expected}");
        println!("{what}: {error}");
    }
}

#[test]
fn folders_that_lack_something() {
    let foreign: Edit =
        all(vec![without("model.safetensors"), Box::new(|files| files.insert("tf_model.h5", b"x".to_vec()))]);
    let neither =
        "it is not there, and neither is model.safetensors.index.json, pytorch_model.bin, pytorch_model.bin.index.json";
    let rows: Vec<(&str, Edit, String)> = vec![
        (
            "no config",
            without("config.json"),
            "cannot read FOLDER/config.json: No such file or directory (os error 2)".to_owned(),
        ),
        (
            "no config of ApproxNet",
            without("approx/config.json"),
            "cannot read FOLDER/approx/config.json: No such file or directory (os error 2)".to_owned(),
        ),
        (
            "adapters alone",
            all(vec![
                without("config.json"),
                without("model.safetensors"),
                Box::new(|files| files.insert("adapter_config.json", b"{}".to_vec())),
            ]),
            "cannot read FOLDER/config.json: No such file or directory (os error 2); the folder holds adapters alone, without their model: \
             load both with PEFT, and save what `merge_and_unload` gives"
                .to_owned(),
        ),
        ("no weights", without("model.safetensors"), format!("cannot read FOLDER/model.safetensors: {neither}")),
        (
            "no weights of ApproxNet",
            without("approx/model.safetensors"),
            format!("cannot read FOLDER/approx/model.safetensors: {neither}"),
        ),
        (
            "TensorFlow's weights",
            foreign,
            format!(
                "cannot read FOLDER/model.safetensors: {neither}; tf_model.h5 is of another program: save the model with PyTorch's `save_pretrained`"
            ),
        ),
        (
            "what is refused whatever its weights",
            all(vec![
                without("model.safetensors"),
                config("architectures", json!(["AlbertForSequenceClassification"])),
                config("model_type", json!("albert")),
            ]),
            "architecture `AlbertForSequenceClassification` is not supported: all its layers share one set of weights, \
             which an ApproxNet of as many layers does not fit"
                .to_owned(),
        ),
        (
            "no shard",
            all(vec![index(), without("part.safetensors")]),
            "part.safetensors: missing, and model.safetensors.index.json names it".to_owned(),
        ),
    ];
    check_rows(rows.into_iter().map(|(what, edit, expected)| {
        let outcome = saved("lacking", &edit).map_or_else(|error| error, |_| "no error".to_owned());
        (what.to_owned(), outcome, expected)
    }));
    let folder = scratch("folder_as_file");
    save(&tiny_files(), &folder);
    let weights = folder.join("model.safetensors");
    std::fs::remove_file(&weights).and_then(|()| std::fs::create_dir(&weights)).expect("a folder");
    let error = ModelFiles::from_dir(&folder).err().expect("a folder").to_string();
    assert_eq!(error, format!("cannot read {}: it is a folder, expected a file", weights.display()));
    #[cfg(unix)]
    for name in ["config.json", "tokenizer_config.json", "model.safetensors", BIN] {
        let folder = scratch("link_to_nothing");
        let mut files = tiny_files();
        drop(files.remove(if name == BIN { "model.safetensors" } else { name }));
        save(&files, &folder);
        std::os::unix::fs::symlink("../../blobs/1", folder.join(name)).expect("a link");
        let error = ModelFiles::from_dir(&folder).err().unwrap_or_else(|| panic!("{name}: no error")).to_string();
        let reason = "it is a link, and the file that it names is gone: download it again";
        assert_eq!(error, format!("cannot read {}: {reason}", folder.join(name).display()));
    }
    let error = ModelFiles::from_dir("/nonexistent").err().expect("no folder").to_string();
    assert_eq!(error, "cannot read /nonexistent/config.json: No such file or directory (os error 2)");
}

#[test]
fn every_file_that_can_be_of_use_is_read() {
    let names = [
        "added_tokens.json",
        "approx/config.json",
        "approx/model.safetensors",
        "config.json",
        "merges.txt",
        "model.safetensors",
        "modules.json",
        "preprocessor_config.json",
        "processor_config.json",
        "sentence_bert_config.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.json",
        "vocab.txt",
    ];
    let folder = scratch("all");
    let mut files = tiny_files();
    for name in
        names.iter().chain(&["README.md", "1_Pooling/config.json", "2_Normalize/other.json", "secret/config.json"])
    {
        if files.get(name).is_none() {
            files.insert(*name, b"{}".to_vec());
        }
    }
    let modules = json!([
        {"idx": 0, "path": ""},
        {"idx": 1, "path": "1_Pooling"},
        {"idx": 2, "path": "2_Normalize"},
        {"idx": 3, "path": "../folders_all/secret"},
        {"idx": 4},
    ]);
    files.insert("modules.json", serde_json::to_vec(&modules).expect("JSON"));
    save(&files, &folder);
    let found = ModelFiles::from_dir(&folder).expect("files");
    let mut expected = Vec::from(names);
    expected.push("1_Pooling/config.json");
    expected.sort_unstable();
    assert_eq!(found.names().collect::<Vec<_>>(), expected);
}

#[test]
fn names_that_are_known() {
    for (name, known) in [
        ("config.json", true),
        ("approx/pytorch_model.bin.index.json", true),
        ("merges.txt", true),
        ("approx/tokenizer.json", false),
        ("README.md", false),
        ("training_args.bin", false),
        ("onnx/model.safetensors", false),
        ("../config.json", false),
        ("", false),
    ] {
        assert_eq!(ModelFiles::is_known(name), known, "{name}");
    }
    let rows: [(&[&str], &[&str]); 4] = [
        (&["model.safetensors", "pytorch_model.bin", "config.json", "x"], &["model.safetensors", "config.json"]),
        (
            &["pytorch_model.bin", "approx/model.safetensors", "approx/pytorch_model.bin"],
            &["pytorch_model.bin", "approx/model.safetensors"],
        ),
        (&["pytorch_model.bin", "model.safetensors.index.json"], &["model.safetensors.index.json"]),
        (
            &["vocab.txt", "merges.txt", "tokenizer.json", "tokenizer_config.json"],
            &["tokenizer.json", "tokenizer_config.json"],
        ),
    ];
    for (names, wanted) in rows {
        assert_eq!(ModelFiles::wanted(names), wanted, "{names:?}");
    }
    let named = |name: &str, json: serde_json::Value| ModelFiles::named_by(name, json.to_string().as_bytes());
    let map = json!({"weight_map": {"a": "1.safetensors", "b": "../2", "c": "1.safetensors", "d": "/3", "e": 4, "f": "x/0.bin"}});
    assert_eq!(named("model.safetensors.index.json", map.clone()), ["1.safetensors", "x/0.bin"]);
    assert_eq!(named("approx/model.safetensors.index.json", map.clone()), ["approx/1.safetensors", "approx/x/0.bin"]);
    assert_eq!(named("config.json", map.clone()), [""; 0]);
    assert_eq!(named("modules.json", map), [""; 0]);
    assert_eq!(ModelFiles::named_by("modules.json", b"\xff"), [""; 0]);
}

/// bf16 and integers keep their formats on the way out of a pickle.
#[test]
fn formats_in_a_pickle() {
    let half = |files: &mut ModelFiles| {
        edit_tensors(files, |tensors| {
            tensors.values_mut().for_each(HostTensor::round_to_bf16);
            let ids = HostTensor { dtype: Dtype::I64, shape: vec![2], bytes: vec![1; 16] };
            tensors.insert("bert.embeddings.position_ids".to_owned(), ids);
            tensors.insert("mask".to_owned(), HostTensor { dtype: Dtype::BOOL, shape: vec![2], bytes: vec![1; 2] });
        });
    };
    let expected = variant_of(tiny_files(), "bf16", half);
    let model = saved("formats", &all(vec![Box::new(half), in_place("", BIN, torch_file)])).expect("a model");
    assert_eq!((model.weights_dtype(), results(&model)), ("bf16", results(&expected)));
}

/// Both forms as Python's pickler writes them: shared storages, views, a parameter, a dictionary with attributes.
#[test]
fn what_pythons_pickler_writes() {
    let expected: [(&str, Dtype, &[usize], &[f32]); 4] = [
        ("a.last", Dtype::F32, &[2], &[5.0, 6.0]),
        ("a.transposed", Dtype::F32, &[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]),
        ("a.weight", Dtype::F32, &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
        ("b.bias", Dtype::F16, &[4], &[0.5, -0.5, 8.0, 9.0]),
    ];
    for name in ["zip.bin", "legacy.bin"] {
        let folder = scratch("python");
        std::fs::write(folder.join("config.json"), "{}").expect("a file");
        std::fs::copy(fixture("torch").join(name), folder.join(BIN)).expect("a file");
        let files = ModelFiles::from_dir(&folder).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut tensors = parse_weights(&bytes(&files, BIN));
        let ids = tensors.remove("position_ids").expect("ids");
        assert_eq!((ids.dtype, &*ids.shape, ids.bytes[16]), (Dtype::I64, &[1, 3][..], 2), "{name}");
        let found = tensors.iter().map(|(name, tensor)| (&**name, tensor.dtype, &*tensor.shape, tensor.widened()));
        let expected = expected.map(|(name, dtype, shape, values)| (name, dtype, shape, values.to_vec()));
        assert_eq!(found.collect::<Vec<_>>(), expected, "{name}");
    }
}

/// A mapped file takes memory only while it is read: once the weights are packed, all but a few of its pages are given back.
#[cfg(target_os = "linux")]
#[test]
fn the_pages_of_a_loaded_file_are_given_back() {
    let folder = scratch("mapped");
    save(&model_files(&root().join("models/sst2-minilm")), &folder);
    let path = folder.join("model.safetensors");
    let num_bytes = std::fs::metadata(&path).expect("a file").len();
    let check = |when: &str| {
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("this process's maps");
        let (mut is_ours, mut is_mapped, mut resident) = (false, false, 0);
        for line in maps.lines() {
            // A map's addresses, then what is known of it.
            if !line.starts_with(|first: char| first.is_ascii_uppercase()) {
                is_ours = line.ends_with(path.to_str().expect("UTF-8"));
                is_mapped |= is_ours;
            } else if is_ours && let Some(size) = line.strip_prefix("Rss:") {
                resident += 1024 * size.trim().trim_end_matches(" kB").parse::<u64>().expect("a size");
            }
        }
        assert!(is_mapped, "{when}: {} is not mapped", path.display());
        assert!(resident < num_bytes / 10, "{when}: {resident} of {num_bytes} bytes are resident");
    };
    let model = ModelFiles::from_dir(&folder).and_then(Model::from_bytes).expect("a model");
    check("once it is checked");
    let engine = engine(&model, BackendKind::Cpu);
    check("once it is packed");
    drop(engine);
    drop(model);
}
