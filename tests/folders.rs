//! Model folders on disk as people download them: which files are read, and what else lies there.
#![cfg(feature = "bin")]

use std::path::{Path, PathBuf};

use crate::common::edit::*;
use crate::common::torch::*;
use crate::common::*;
use serde_json::json;
use sttabt::{BackendKind, Classification, Input, Model, ModelFiles};

pub const BIN: &str = "pytorch_model.bin";
const INPUTS: [Input<'_>; 2] = [Input::Text("w5 w6 w7 w30 w31"), Input::Pair("w9 w9", "w51")];

pub fn results(model: &Model) -> Vec<Classification> {
    under_each_rule(model, &INPUTS, BackendKind::Cpu)
}

/// An empty folder for one test.
pub fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("folders_{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// Writes tiny-bert after an edit, and reads it back.
pub fn saved(name: &str, edit: &Edit) -> Result<Model, String> {
    let folder = scratch(name);
    let mut files = tiny_files();
    edit(&mut files);
    save(&files, &folder);
    let outcome = ModelFiles::from_dir(&folder).and_then(Model::from_bytes);
    outcome.map_err(|error| error.to_string().replace(&format!("{}/", folder.display()), "FOLDER/"))
}

/// Another form of a network's weights.
pub fn in_place(folder: &'static str, name: &'static str, write: fn(&Tensors) -> Vec<u8>) -> Edit {
    Box::new(move |files| {
        let weights = files.remove(&format!("{folder}model.safetensors")).expect("weights");
        files.insert(format!("{folder}{name}"), write(&parse_weights(weights.as_ref())));
    })
}

pub fn bin(bytes: Vec<u8>) -> Edit {
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
