//! Learned thresholds in a file: one per layer or none, whatever the rest is named.

use crate::common::edit::*;
use crate::common::tiny_bert;
use sttabt::ModelFiles;

/// Thresholds of both kinds, in any family, whatever names the rest of the file has.
#[test]
fn thresholds_are_read() {
    const THRESHOLDS: [f32; 4] = [0.5, 0.0, 0.0625, 3.0];
    let with = |prefix: &'static str| {
        tensors(move |tensors| {
            for (layer, threshold) in THRESHOLDS.iter().enumerate() {
                let name = format!("{prefix}encoder.layer.{layer}.ltp_threshold");
                tensors.insert(name, HostTensor::f32(&[1], &[*threshold]));
            }
        })
    };
    let rows: [(fn() -> ModelFiles, Edit); 5] = [
        (tiny_files, with("bert.")),
        (tiny_files, with("")),
        (tiny_vit_files, with("vit.")),
        (tiny_vit_files, all(vec![timm_names(), with("vit.")])),
        (tiny_vit_files, all(vec![timm_names(), with("")])),
    ];
    for (row, (files, edit)) in rows.into_iter().enumerate() {
        let model = variant_of(files(), "thresholds", edit);
        assert_eq!(model.ltp_thresholds(), Some(THRESHOLDS.as_slice()), "row {row}");
        assert_eq!(model.p_logits().map(<[f32]>::len), Some(4), "row {row}");
    }
    assert_eq!(tiny_bert().ltp_thresholds(), None);
    let no_p_logits = tensors(|tensors| tensors.retain(|name, _| !name.ends_with("p_logit")));
    let model = variant_of(tiny_files(), "thresholds of one kind", all(vec![no_p_logits, with("bert.")]));
    assert_eq!((model.p_logits(), model.ltp_thresholds()), (None, Some(THRESHOLDS.as_slice())));
}

/// The thresholds of Learned Token Pruning: none, or one for every layer.
#[test]
fn ltp_thresholds() {
    const SECOND: &str = "bert.encoder.layer.1.ltp_threshold";
    fn all_with(shape: &'static [usize], values: &'static [f32]) -> Edit {
        tensors(move |tensors| {
            for layer in 0..4 {
                let name = format!("bert.encoder.layer.{layer}.ltp_threshold");
                tensors.insert(name, HostTensor::f32(&[1], &[0.01]));
            }
            tensors.insert(SECOND.to_owned(), HostTensor::f32(shape, values));
        })
    }
    check_edits(vec![
        ("zero", all_with(&[1], &[0.0]), "no error"),
        (
            "below zero",
            all_with(&[1], &[-0.25]),
            "model.safetensors: tensor `bert.encoder.layer.1.ltp_threshold` holds -0.25, expected a number of at least 0",
        ),
        (
            "below zero in a file without bert.",
            all(vec![
                all_with(&[1], &[-1e-9]),
                tensors(|tensors| {
                    let threshold = tensors.remove(SECOND).expect("the threshold");
                    tensors.insert(SECOND.trim_start_matches("bert.").to_owned(), threshold);
                }),
            ]),
            "model.safetensors: tensor `encoder.layer.1.ltp_threshold` holds -0.000000001, expected a number of at least 0",
        ),
        (
            "NaN",
            all_with(&[1], &[f32::NAN]),
            "model.safetensors: tensor `bert.encoder.layer.1.ltp_threshold` holds NaN at index 0, expected finite numbers",
        ),
        (
            "infinity",
            all_with(&[1], &[f32::INFINITY]),
            "model.safetensors: tensor `bert.encoder.layer.1.ltp_threshold` holds inf at index 0, expected finite numbers",
        ),
        (
            "one of four missing",
            all(vec![all_with(&[1], &[0.0]), tensors(|tensors| drop(tensors.remove(SECOND)))]),
            "model.safetensors: tensor `bert.encoder.layer.1.ltp_threshold` is missing",
        ),
        (
            "two in one layer",
            all_with(&[2], &[0.0, 0.0]),
            "model.safetensors: tensor `bert.encoder.layer.1.ltp_threshold` is [2], expected [1]",
        ),
        (
            "a byte",
            all(vec![
                all_with(&[1], &[0.0]),
                tensors(|tensors| {
                    let threshold = tensors.get_mut(SECOND).expect("the threshold");
                    threshold.bytes.truncate(1);
                    threshold.dtype = safetensors::Dtype::I8;
                }),
            ]),
            "model.safetensors: tensor `bert.encoder.layer.1.ltp_threshold` is I8, expected F32, F16, BF16, F64 or integers of 16 to 64 bits; I8 needs `quantization_config` with `quant_method` sttabt-int8 in config.json",
        ),
    ]);
}
