//! `pytorch_model.bin`: every form that PyTorch and Python write, and what is broken.
#![cfg(feature = "bin")]

use crate::common::edit::*;
use crate::common::torch::*;
use crate::common::*;
use crate::folders::{BIN, bin, in_place, results, saved, scratch};
use safetensors::Dtype;
use sttabt::ModelFiles;

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
