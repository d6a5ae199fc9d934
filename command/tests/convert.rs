//! `sttabt convert`: one file of any weights, whole or not at all, and never over another.

use std::path::Path;

use crate::command::*;
use crate::common::edit::*;
use crate::common::torch::torch_file;
use crate::common::{fixture, read};
use sttabt::ModelFiles;

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let mut names: Vec<_> =
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

/// tiny-bert with wrapped names in PyTorch's file, and ApproxNet as it is.
fn torch_folder(name: &str) -> std::path::PathBuf {
    let folder = scratch(name);
    let mut files = tiny_files();
    let weights = files.remove("model.safetensors").expect("weights");
    let wrapped = parse_weights(weights.as_ref()).into_iter().map(|(name, tensor)| (format!("module.{name}"), tensor));
    files.insert("pytorch_model.bin", torch_file(&wrapped.collect()));
    files.insert("README.md", b"# A model".to_vec());
    save(&files, &folder);
    folder
}

/// The answers, which hold the folder's name and times otherwise.
fn answers(folder: &Path) -> Vec<(serde_json::Value, serde_json::Value)> {
    let report = run(with_model(&path(folder), "classify", &["--json", "w5 w6 w7", "w9"])).json();
    let results = report["results"].as_array().expect("results").iter();
    results.map(|result| (result["logits"].clone(), result["kept"].clone())).collect()
}

#[test]
fn a_pickle_becomes_safetensors() {
    let folder = torch_folder("convert_pickle");
    let expected = answers(&fixture("tiny-bert"));
    assert_eq!(answers(&folder), expected, "the pickle itself");
    let before = names(&folder);
    let stdout = run(sttabt(["convert", &path(&folder)])).quiet();
    let converted = folder.join("model.safetensors");
    assert_eq!(stdout, format!("{}: 77 tensors, 0.4 MB, from pytorch_model.bin\n", converted.display()));
    let mut after = [before, vec!["model.safetensors".to_owned()]].concat();
    after.sort();
    assert_eq!(names(&folder), after);
    let [found, original] =
        [&converted, &fixture("tiny-bert").join("model.safetensors")].map(|path| parse_weights(&read(path)));
    assert!(found.keys().eq(original.keys()), "{:?}", found.keys());
    assert!(found.values().zip(original.values()).all(|(a, b)| a.shape == b.shape && a.bytes == b.bytes));
    std::fs::remove_file(folder.join("pytorch_model.bin")).expect("removed");
    assert_eq!(answers(&folder), expected);
    // Transformers asks for this.
    let header = String::from_utf8_lossy(&read(&converted)[8..200]).into_owned();
    assert!(header.contains(r#""__metadata__":{"format":"pt"}"#), "{header}");
}

#[test]
fn another_folder_gets_a_whole_model() {
    let folder = torch_folder("convert_from");
    let out = scratch("convert_out").join("new/model");
    let stdout = run(sttabt(["convert", &path(&folder), "--out", &path(&out)])).quiet();
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(lines[0].ends_with("new/model/model.safetensors: 77 tensors, 0.4 MB, from pytorch_model.bin"), "{stdout}");
    assert!(
        lines[1].ends_with("approx/model.safetensors: 73 tensors, 0.1 MB, from approx/model.safetensors"),
        "{stdout}"
    );
    assert_eq!(
        lines[2],
        "copied: config.json, special_tokens_map.json, tokenizer.json, tokenizer_config.json, vocab.txt, approx/config.json"
    );
    assert_eq!(answers(&out), answers(&fixture("tiny-bert")));
    assert!(ModelFiles::from_dir(&out).expect("files").get("README.md").is_none());
}

#[test]
fn nothing_is_written_over_or_by_halves() {
    let whole = path(&fixture("tiny-bert"));
    let there = run(sttabt(["convert", &whole])).failure();
    assert_eq!(there, format!("1 error: {whole}/model.safetensors is there already: nothing to convert"));
    assert!(run(sttabt(["convert", &whole, "--out", &whole])).failure().ends_with("nothing to convert"));
    let none = run(sttabt(["convert", "/nonexistent"])).failure();
    assert_eq!(none, "1 error: no model folder at /nonexistent");

    let folder = torch_folder("convert_over");
    let out = scratch("convert_taken");
    file(&out, "tokenizer.json", "mine");
    let taken = run(sttabt(["convert", &path(&folder), "--out", &path(&out)])).failure();
    let expected = "tokenizer.json is there already, and is not written over: name a new folder with --out";
    assert!(taken.ends_with(expected), "{taken}");
    assert!(names(&out).iter().all(|name| ["tokenizer.json", "approx"].contains(&&**name)), "{:?}", names(&out));
    assert_eq!(read(&out.join("tokenizer.json")), b"mine");

    let bytes = read(&folder.join("pytorch_model.bin"));
    file(&folder, "pytorch_model.bin", &bytes[..bytes.len() / 2]);
    let before = names(&folder);
    let cut = run(sttabt(["convert", &path(&folder)])).failure();
    assert!(cut.starts_with("1 error: pytorch_model.bin: not a valid archive of PyTorch: "), "{cut}");
    assert_eq!(names(&folder), before);
    assert_eq!(run(sttabt(["convert"])).code, 2);
}
