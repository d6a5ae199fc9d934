//! What a family says is followed: the fixtures under names and settings that no file of theirs has.
#![cfg(feature = "files")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Map, Value, json};

use super::*;
use crate::models::checkpoint::Names;
use crate::models::config::TextKind;
use crate::models::family::bert::BERT;
use crate::models::family::vit::VIT;
use crate::models::family::{FAMILIES, InputKind, IntermediateSize, Keys};
use crate::models::fields::Fields;
use crate::models::input::TextTokens;
use crate::models::{Bytes, ModelFiles};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// f32 values and shapes under their names.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn tensors(bytes: &[u8]) -> Tensors {
    let values = |view: &TensorView<'_>| bytemuck::pod_collect_to_vec::<u8, f32>(view.data());
    let parsed = SafeTensors::deserialize(bytes).unwrap();
    parsed.tensors().into_iter().map(|(name, view)| (name, (view.shape().to_vec(), values(&view)))).collect()
}

fn weights(tensors: &Tensors) -> Weights {
    let views = tensors.iter().map(|(name, (shape, values))| {
        (name, TensorView::new(Dtype::F32, shape.clone(), bytemuck::cast_slice(values)).unwrap())
    });
    Weights::new("model.safetensors", Bytes::Owned(safetensors::serialize(views, None).unwrap())).unwrap()
}

fn network(family: &'static Family, config: &Map<String, Value>, weights: Weights) -> Result<Network> {
    let config = family.config(&Fields { file: "config.json", path: "", object: config }, None)?;
    Network::checked(family, config, weights)
}

/// Every name of a table, with the endings of weights and biases.
fn all_names(names: &Names, num_layers: usize) -> Vec<String> {
    let is_layers = |name: &str| name.contains("{i}");
    let mut all = Vec::new();
    for &(part, name) in names.base.iter().chain(names.head) {
        for layer in 0..if is_layers(name) { num_layers } else { 1 } {
            let name = names.name(part, layer).unwrap();
            all.extend(["", ".weight", ".bias"].map(|ending| format!("{name}{ending}")));
        }
    }
    all
}

#[test]
fn a_table_can_be_read_both_ways() {
    for family in FAMILIES {
        for names in family.other_names.iter().map(|(_, names)| names).chain([&family.names]) {
            let parts: Vec<_> = names.base.iter().chain(names.head).map(|(part, _)| *part).collect();
            assert!(
                parts.iter().enumerate().all(|(at, part)| !parts[..at].contains(part)),
                "{}: a part twice",
                family.name
            );
            let all = all_names(names, 12);
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "{}: a name twice", family.name);
        }
        assert!([Part::PLogit, Part::LtpThreshold].iter().all(|&part| family.names.has(part)), "{}", family.name);
    }
}

#[test]
fn every_tensor_of_a_file_has_a_name() {
    let families = ["tiny-bert", "tiny-vit"].map(str::to_owned).into_iter().chain(
        ["distilbert", "roberta", "roberta-embed-cls", "electra", "deit", "deit-distilled", "dinov2-embed"]
            .map(|name| format!("families/{name}")),
    );
    for folder in families {
        let files = ModelFiles::from_dir(fixture(&folder)).unwrap();
        let (family, _) = read_config("config.json", files.get("config.json").unwrap(), Asked::default()).unwrap();
        for name in ["model.safetensors", "approx/model.safetensors"] {
            // A file of the base model alone has no prefix; DINOv2's token for hidden patches, and a pooler before no classifier, are not used.
            let mut named = all_names(&family.names, 4);
            named.extend(
                all_names(&family.names, 4)
                    .iter()
                    .filter_map(|name| name.strip_prefix(family.names.prefix).map(str::to_owned)),
            );
            named.extend(["embeddings.mask_token", "pooler.dense.weight", "pooler.dense.bias"].map(str::to_owned));
            let found: Vec<String> = tensors(files.get(name).unwrap()).into_keys().collect();
            assert!(found.len() > 60, "{} tensors", found.len());
            let unnamed: Vec<_> = found.iter().filter(|name| !named.contains(name)).collect();
            assert!(unnamed.is_empty(), "{folder}: {unnamed:?}");
        }
    }
}

/// Another set of keys and names, two rows before the first position, and no token types.
static MADE_UP: Family = Family {
    name: "MadeUp",
    keys: Keys {
        hidden_size: "dim",
        num_hidden_layers: "n_layers",
        intermediate_size: IntermediateSize::Ratio("ratio"),
        ..Keys::BERT
    },
    input: InputKind::Text(TextKind { starts_after_padding: true, has_token_types: false, embedding_size: None }),
    names: Names {
        prefix: "made_up.",
        base: &[
            (Part::Words, "embeddings.words"),
            (Part::Positions, "embeddings.positions"),
            (Part::EmbeddingNorm, "embeddings.norm"),
            (Part::Query, "layer.{i}.q"),
            (Part::Key, "layer.{i}.k"),
            (Part::Value, "layer.{i}.v"),
            (Part::AttentionOutput, "layer.{i}.out"),
            (Part::AttentionNorm, "layer.{i}.norm1"),
            (Part::Intermediate, "layer.{i}.up"),
            (Part::Output, "layer.{i}.down"),
            (Part::MlpNorm, "layer.{i}.norm2"),
            (Part::PLogit, "layer.{i}.p_logit"),
        ],
        head: &[(Part::Pooler, "pre_classifier"), (Part::Classifier, "classifier")],
    },
    ..BERT
};

#[test]
fn a_text_family_of_other_names() {
    let files = ModelFiles::from_dir(fixture("tiny-bert")).unwrap();
    let mut config: Map<String, Value> = serde_json::from_slice(files.get("config.json").unwrap()).unwrap();
    let mut original = tensors(files.get("model.safetensors").unwrap());
    let types = original.get_mut("bert.embeddings.token_type_embeddings.weight").unwrap();
    types.1.fill(0.0);
    let bert = network(&BERT, &config, weights(&original)).unwrap();

    let mut renamed = Tensors::new();
    for &(part, _) in MADE_UP.names.base.iter().chain(MADE_UP.names.head) {
        for (layer, ending) in (0..4).flat_map(|layer| ["", ".weight", ".bias"].map(|ending| (layer, ending))) {
            let [old, new] =
                [&BERT, &MADE_UP].map(|family| format!("{}{ending}", family.names.name(part, layer).unwrap()));
            original.get(&old).into_iter().for_each(|tensor| drop(renamed.insert(new.clone(), tensor.clone())));
        }
    }
    let (shape, values) = renamed.get_mut("made_up.embeddings.positions").unwrap();
    values.splice(..0, vec![9.0; 2 * 48]);
    shape[0] += 2;
    config.insert("max_position_embeddings".to_owned(), json!(162));
    config.insert("ratio".to_owned(), json!(2.0));
    config.insert("pad_token_id".to_owned(), json!(1));
    for (old, new) in [("hidden_size", "dim"), ("num_hidden_layers", "n_layers")] {
        let value = config.remove(old).unwrap();
        config.insert(new.to_owned(), value);
    }
    let made_up = network(&MADE_UP, &config, weights(&renamed)).unwrap();

    let InputConfig::Text(text) = made_up.config.input else { panic!("a text model") };
    assert_eq!((text.max_position_embeddings, text.position_offset, text.type_vocab_size), (160, 2, 0));
    assert_eq!(made_up.thresholds(Part::PLogit, -9.0).unwrap(), bert.thresholds(Part::PLogit, -9.0).unwrap());
    assert_eq!(made_up.embeddings().unwrap().all().len() + 1, bert.embeddings().unwrap().all().len());
    let tokens = Tokens::Text(TextTokens {
        input_ids: vec![5, 96, 7],
        token_type_ids: vec![0, 1, 1],
        tokens: Vec::new(),
        truncated: false,
    });
    let rows = [&bert, &made_up].map(|network| {
        let mut rows = vec![f32::NAN; 3 * 48];
        network.embedder().unwrap()(&tokens, &mut rows);
        rows
    });
    assert_eq!(rows[0], rows[1]);
    for layer in 0..4 {
        let [bert, made_up] = [&bert, &made_up].map(|network| network.layer(layer).unwrap());
        assert!(bert.all().map(|tensor| tensor.bytes).eq(made_up.all().map(|tensor| tensor.bytes)), "layer {layer}");
    }

    let error = |config: &_, tensors: &_| network(&MADE_UP, config, weights(tensors)).err().unwrap().to_string();
    renamed.remove("made_up.layer.3.norm1.bias");
    assert_eq!(error(&config, &renamed), "model.safetensors: tensor `made_up.layer.3.norm1.bias` is missing");
    config.remove("dim");
    assert_eq!(error(&config, &renamed), "config.json: `dim` is missing, expected an integer from 1 to 65536");
}

/// A second learned token.
static TWO_LEARNED_TOKENS: Family = Family {
    input: InputKind::Image { num_prefix_tokens: 2, resizes_positions: false, processor: "" },
    refused: &[],
    ..VIT
};

#[test]
fn an_image_family_of_two_learned_tokens() {
    let files = ModelFiles::from_dir(fixture("tiny-vit")).unwrap();
    let config: Map<String, Value> = serde_json::from_slice(files.get("config.json").unwrap()).unwrap();
    let mut tensors = tensors(files.get("model.safetensors").unwrap());
    tensors.insert("vit.embeddings.distillation_token".to_owned(), (vec![1, 1, 48], vec![7.0; 48]));
    let (shape, positions) = tensors.get_mut("vit.embeddings.position_embeddings").unwrap();
    positions.extend([0.5; 48]);
    shape[1] += 1;
    let positions = positions.clone();
    let network = network(&TWO_LEARNED_TOKENS, &config, weights(&tensors)).unwrap();
    let InputConfig::Image(image) = network.config.input else { panic!("an image model") };
    assert_eq!((image.grid(), image.num_tokens()), ([6, 6], 38));

    let cls = &tensors["vit.embeddings.cls_token"].1;
    let bias = &tensors["vit.embeddings.patch_embeddings.projection.bias"].1;
    for (at, value) in network.image_embeddings.iter().enumerate() {
        let (row, column) = (at / 48, at % 48);
        let first = [cls[column], 7.0].get(row).copied().unwrap_or(bias[column]);
        assert_eq!(*value, first + positions[at], "row {row}, column {column}");
    }
    let picture = crate::models::Picture::from_rgb(48, 48, vec![200; 48 * 48 * 3]).unwrap();
    let rows = embedding::patch_rows(&image, &picture, &[[1.0; 256]; 3]);
    assert!(rows[..2 * 192].iter().all(|&value| value == 0.0) && rows[2 * 192..].iter().all(|&value| value == 1.0));
    assert_eq!(rows.len(), 38 * 192);
}
