//! Broken image models, and inputs of the other kind: every message is exact.

use crate::common::edit::*;
use crate::common::{BACKENDS, engine, tiny_bert, tiny_vit};
use serde_json::{Value, json};
use sttabt::{Input, ModelFiles, Outputs, Picture, Prune};

fn added(name: &'static str) -> Edit {
    tensors(move |tensors| drop(tensors.insert(name.to_owned(), HostTensor::f32(&[1, 1, 48], &[0.0; 48]))))
}

#[test]
fn what_is_not_computed() {
    let named = |architecture: &str, model_type: Value| {
        all(vec![config("architectures", json!([architecture])), config("model_type", model_type)])
    };
    let timm = |name: &str, key: &'static str, value: Value| {
        let family = all(vec![without_config("architectures"), without_config("model_type")]);
        all(vec![family, config("architecture", json!(name)), config(key, value)])
    };
    const TIMM: &str =
        "supported: vit and deit (also distilled), tiny, small, base and large, as in vit_base_patch16_224";
    let mut rows: Vec<(&str, Edit, String)> = vec![
        (
            "a model of another family",
            named("DeiTForImageClassification", json!("deit")),
            "model.safetensors: tensor `deit.embeddings.patch_embeddings.projection.weight` is missing".to_owned(),
        ),
        (
            "two families",
            named("ViTForImageClassification", json!("deit")),
            "model.safetensors: tensor `deit.embeddings.patch_embeddings.projection.weight` is missing".to_owned(),
        ),
        (
            "windows",
            named("SwinForImageClassification", json!("swin")),
            "architecture `SwinForImageClassification` is not supported: its attention stays within windows, and its head averages \
             all tokens: no [CLS] to track back from"
                .to_owned(),
        ),
        (
            "type only",
            all(vec![without_config("architectures"), config("model_type", json!("beit"))]),
            "architecture `beit` is not supported: its attention adds scores of relative positions, and its head averages all tokens"
                .to_owned(),
        ),
        (
            "timm's other models",
            timm("vit_base_patch16_clip_224", "num_classes", json!(5)),
            format!("timm's architecture `vit_base_patch16_clip_224` is not supported; {TIMM}"),
        ),
        (
            "timm's mean of all tokens",
            timm("vit_tiny_patch16_224", "global_pool", json!("avg")),
            "config.json: `global_pool` is \"avg\", expected token: a head that averages tokens needs all of them".to_owned(),
        ),
        (
            "timm's arguments",
            timm("vit_tiny_patch16_224", "model_args", json!({"depth": 3})),
            "config.json: `model_args` is {\"depth\":3}, expected none: they change what the name says".to_owned(),
        ),
    ];
    let tokens = [
        ("dist_token", timm_names()),
        ("vit.embeddings.distillation_token", all(vec![])),
        ("embeddings.distillation_token", all(vec![])),
    ];
    for (name, rest) in tokens {
        let expected = format!(
            "a second learned token in a model of class ViT: tensor `{name}` is not supported; supported: that token in \
             DeiTForImageClassification, DeiTForImageClassificationWithTeacher and timm's distilled models"
        );
        rows.push((name, all(vec![rest, added(name)]), expected));
    }
    check_rows(
        rows.into_iter().map(|(what, edit, expected)| (what.to_owned(), outcome_of(tiny_vit_files(), edit), expected)),
    );
}

#[test]
fn config_json() {
    check_edits_of(
        tiny_vit_files,
        vec![
            (
                "grey images",
                config("num_channels", json!(1)),
                "config.json: `num_channels` is 1, expected 3 (red, green, blue)",
            ),
            (
                "four channels",
                config("num_channels", json!(4)),
                "config.json: `num_channels` is 4, expected 3 (red, green, blue)",
            ),
            (
                "no channels",
                config("num_channels", json!(0)),
                "config.json: `num_channels` is 0, expected an integer from 1 to 1024",
            ),
            ("no bias", config("qkv_bias", json!(false)), "config.json: `qkv_bias` is false, expected true"),
            (
                "a gated MLP",
                config("use_swiglu_ffn", json!(true)),
                "config.json: `use_swiglu_ffn` is true, expected false",
            ),
            (
                "no factor",
                literal("preprocessor_config.json", "rescale_factor", "Infinity"),
                "preprocessor_config.json: `rescale_factor` is \"Infinity\", expected a number from 1e-12 to 1e12",
            ),
            (
                "patches that do not divide",
                config("patch_size", json!(7)),
                "config.json: `patch_size` is 7, expected a divisor of `image_size`, 48 x 48",
            ),
            (
                "patches that divide one side",
                all(vec![config("image_size", json!([48, 44]))]),
                "config.json: `patch_size` is 8, expected a divisor of `image_size`, 48 x 44",
            ),
            (
                "no patches",
                config("patch_size", json!(0)),
                "config.json: `patch_size` is 0, expected an integer from 1 to 1024",
            ),
            (
                "no size",
                without_config("image_size"),
                "config.json: `image_size` is missing, expected an integer from 1 to 16384",
            ),
            (
                "three sizes",
                config("image_size", json!([48, 48, 3])),
                "config.json: `image_size` is [48,48,3], expected a size, or [height, width]",
            ),
            (
                "a side that is no number",
                config("image_size", json!([48, "48"])),
                "config.json: `image_size` is \"48\", expected an integer from 1 to 16384",
            ),
            (
                "an enormous image",
                config("image_size", json!(1 << 15)),
                "config.json: `image_size` is 32768, expected an integer from 1 to 16384",
            ),
            (
                "another size than the positions",
                config("image_size", json!(64)),
                "model.safetensors: tensor `vit.embeddings.position_embeddings` is [1, 37, 48], expected [1, 65, 48]",
            ),
        ],
    );
}

#[test]
fn tensors_in_the_file() {
    const POSITIONS: &str = "vit.embeddings.position_embeddings";
    const PROJECTION: &str = "vit.embeddings.patch_embeddings.projection.weight";
    fn shape(name: &'static str, shape: &'static [usize]) -> Edit {
        tensors(move |tensors| {
            let tensor = tensors.get_mut(name).expect("the tensor");
            tensor.shape = shape.to_vec();
            tensor.bytes.resize(4 * shape.iter().product::<usize>(), 0);
        })
    }
    fn without(name: &'static str) -> Edit {
        tensors(move |tensors| drop(tensors.remove(name).expect("the tensor")))
    }
    check_edits_of(
        tiny_vit_files,
        vec![
            (
                "a position too few",
                shape(POSITIONS, &[1, 36, 48]),
                "model.safetensors: tensor `vit.embeddings.position_embeddings` is [1, 36, 48], expected [1, 37, 48]",
            ),
            (
                "positions without a batch",
                shape(POSITIONS, &[37, 48]),
                "model.safetensors: tensor `vit.embeddings.position_embeddings` is [37, 48], expected [1, 37, 48]",
            ),
            (
                "flat patches",
                shape(PROJECTION, &[48, 192]),
                "model.safetensors: tensor `vit.embeddings.patch_embeddings.projection.weight` is [48, 192], expected [48, 3, 8, 8]",
            ),
            (
                "one channel",
                shape(PROJECTION, &[48, 1, 8, 8]),
                "model.safetensors: tensor `vit.embeddings.patch_embeddings.projection.weight` is [48, 1, 8, 8], expected [48, 3, 8, 8]",
            ),
            (
                "no [CLS]",
                without("vit.embeddings.cls_token"),
                "model.safetensors: tensor `vit.embeddings.cls_token` is missing",
            ),
            (
                "no final norm",
                without("vit.layernorm.weight"),
                "model.safetensors: tensor `vit.layernorm.weight` is missing",
            ),
            (
                "no head",
                without("classifier.weight"),
                "model.safetensors: tensor `classifier.weight` is missing; where a model embeds, modules.json or a class such as BertModel in config.json says so",
            ),
            (
                "no timm projection",
                all(vec![timm_names(), without("patch_embed.proj.weight")]),
                "model.safetensors: tensor `patch_embed.proj.weight` is missing",
            ),
            (
                "query, key and value apart under timm's names",
                all(vec![timm_names(), without("blocks.2.attn.qkv.weight")]),
                "model.safetensors: tensor `blocks.2.attn.qkv.weight` is missing",
            ),
            (
                "a threshold of four missing",
                without("vit.encoder.layer.2.p_logit"),
                "model.safetensors: tensor `vit.encoder.layer.2.p_logit` is missing",
            ),
            (
                "a threshold alone",
                tensors(|tensors| tensors.retain(|name, _| !name.ends_with("p_logit") || name.contains("layer.3."))),
                "model.safetensors: tensor `vit.encoder.layer.0.p_logit` is missing",
            ),
        ],
    );
}

/// Edits that make ApproxNet whole in itself, and yet another network than the main one expects.
#[test]
fn another_approx_net() {
    fn sized(image_size: usize, patch_size: usize) -> Edit {
        let num_tokens = 1 + (image_size / patch_size) * (image_size / patch_size);
        all(vec![
            approx_config("image_size", json!(image_size)),
            approx_config("patch_size", json!(patch_size)),
            approx_tensors(move |tensors| {
                for (name, shape) in [
                    ("vit.embeddings.position_embeddings", vec![1, num_tokens, 24]),
                    ("vit.embeddings.patch_embeddings.projection.weight", vec![24, 3, patch_size, patch_size]),
                ] {
                    let values = vec![0.0; shape.iter().product()];
                    tensors.insert(name.to_owned(), HostTensor::f32(&shape, &values));
                }
            }),
        ])
    }
    let of_the_other: fn(fn() -> ModelFiles) -> Edit = |other| {
        Box::new(move |files| {
            let mut others = other();
            for name in ["approx/config.json", "approx/model.safetensors"] {
                files.insert(name, others.remove(name).expect("ApproxNet"));
            }
        })
    };
    check_edits_of(
        tiny_vit_files,
        vec![
            ("the same", sized(48, 8), "no error"),
            (
                "larger patches",
                sized(48, 16),
                "approx/config.json: `patch_size` is 16, expected 8 as in the main model",
            ),
            (
                "smaller images",
                sized(32, 8),
                "approx/config.json: `image_size` is 32, expected 48 as in the main model",
            ),
            (
                "a text model's",
                of_the_other(tiny_files),
                "approx/config.json: `architectures` is Bert, expected Vit as in the main model",
            ),
        ],
    );
    check_edits(vec![(
        "an image model's for texts",
        of_the_other(tiny_vit_files),
        "approx/config.json: `architectures` is Vit, expected Bert as in the main model",
    )]);
}

#[test]
fn inputs_of_the_other_kind() {
    let picture = Picture::from_rgb(2, 1, vec![0; 6]).expect("a picture");
    let (text, pair, image) = (Input::Text("w7"), Input::Pair("w7", "w8"), Input::Image(&picture));
    let rows = [
        (tiny_vit(), vec![image, text], "input 2: a text, but the model classifies images"),
        (tiny_vit(), vec![pair], "input 1: a text, but the model classifies images"),
        (tiny_bert(), vec![text, pair, image], "input 3: an image, but the model classifies texts"),
    ];
    check_rows(rows.iter().flat_map(|(model, inputs, expected)| {
        BACKENDS.map(|kind| {
            let result = pollster::block_on(engine(model, kind).classify(inputs, &Prune::Dense, &Outputs::default()));
            let found = result.map_or_else(|error| error.to_string(), |_| "no error".to_owned());
            (format!("{kind:?}, {expected}"), found, (*expected).to_owned())
        })
    }));
}
