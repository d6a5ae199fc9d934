//! Breaking a model: edits to the files of tiny-bert or tiny-vit in memory.

use std::collections::BTreeMap;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use sttabt::{Error, Model, ModelFiles, Picture};

use super::{fixture, model_files};

pub fn tiny_files() -> ModelFiles {
    model_files(&fixture("tiny-bert"))
}

pub fn tiny_vit_files() -> ModelFiles {
    model_files(&fixture("tiny-vit"))
}

/// What is done to the files.
pub type Edit = Box<dyn Fn(&mut ModelFiles)>;

/// Tiny-bert after an edit.
pub fn edited(edit: impl Fn(&mut ModelFiles)) -> Result<Model, Error> {
    edited_of(tiny_files(), edit)
}

/// A model after an edit.
pub fn edited_of(mut files: ModelFiles, edit: impl Fn(&mut ModelFiles)) -> Result<Model, Error> {
    edit(&mut files);
    Model::from_bytes(files)
}

/// A model after an edit that must leave it whole.
pub fn variant_of(files: ModelFiles, what: &str, edit: impl Fn(&mut ModelFiles)) -> Model {
    edited_of(files, edit).unwrap_or_else(|error| panic!("{what}: {error}"))
}

pub struct HostTensor {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl HostTensor {
    pub fn f32(shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    pub fn values(&self) -> Vec<f32> {
        assert_eq!(self.dtype, Dtype::F32);
        self.bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("4 bytes"))).collect()
    }

    /// The numbers of any of the three formats.
    pub fn widened(&self) -> Vec<f32> {
        let pairs = self.bytes.chunks_exact(2).map(|bytes| [bytes[0], bytes[1]]);
        match self.dtype {
            Dtype::F16 => pairs.map(|bytes| half::f16::from_le_bytes(bytes).to_f32()).collect(),
            Dtype::BF16 => pairs.map(|bytes| half::bf16::from_le_bytes(bytes).to_f32()).collect(),
            _ => self.values(),
        }
    }

    /// The first `rows` rows, with zeros where there were none.
    pub fn resize_rows(&mut self, rows: usize) {
        let row_bytes = self.bytes.len() / self.shape[0];
        self.bytes.resize(rows * row_bytes, 0);
        self.shape[0] = rows;
    }

    /// The same numbers as `half::f16`.
    pub fn round_to_f16(&mut self) {
        self.bytes = self.values().iter().flat_map(|&value| half::f16::from_f32(value).to_le_bytes()).collect();
        self.dtype = Dtype::F16;
    }

    /// The same numbers as `half::bf16`.
    pub fn round_to_bf16(&mut self) {
        self.bytes = self.values().iter().flat_map(|&value| half::bf16::from_f32(value).to_le_bytes()).collect();
        self.dtype = Dtype::BF16;
    }
}

pub type Tensors = BTreeMap<String, HostTensor>;

pub fn parse_weights(bytes: &[u8]) -> Tensors {
    let parsed = SafeTensors::deserialize(bytes).expect("safetensors");
    let tensor = |view: TensorView<'_>| HostTensor {
        dtype: view.dtype(),
        shape: view.shape().to_vec(),
        bytes: view.data().to_vec(),
    };
    parsed.tensors().into_iter().map(|(name, view)| (name, tensor(view))).collect()
}

pub fn write_weights(tensors: &Tensors) -> Vec<u8> {
    let views = tensors.iter().map(|(name, tensor)| {
        (name, TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).expect("a tensor of its shape"))
    });
    safetensors::serialize(views, None).expect("safetensors")
}

/// The bytes of a file that must be there.
pub fn bytes(files: &ModelFiles, name: &str) -> Vec<u8> {
    files.get(name).unwrap_or_else(|| panic!("{name} is missing")).to_vec()
}

/// Replaces a file that must be there.
pub fn edit_bytes(files: &mut ModelFiles, name: &str, edit: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    files.insert(name, edit(bytes(files, name)));
}

pub fn edit_json(files: &mut ModelFiles, name: &str, edit: impl Fn(&mut Value)) {
    edit_bytes(files, name, |bytes| {
        let mut value = serde_json::from_slice(&bytes).expect("JSON");
        edit(&mut value);
        serde_json::to_vec(&value).expect("JSON")
    });
}

pub fn edit_config(files: &mut ModelFiles, edit: impl Fn(&mut Value)) {
    edit_json(files, "config.json", edit);
}

fn edit_weights(files: &mut ModelFiles, name: &str, edit: impl Fn(&mut Tensors)) {
    edit_bytes(files, name, |bytes| {
        let mut tensors = parse_weights(&bytes);
        edit(&mut tensors);
        write_weights(&tensors)
    });
}

pub fn edit_tensors(files: &mut ModelFiles, edit: impl Fn(&mut Tensors)) {
    edit_weights(files, "model.safetensors", edit);
}

/// Both networks' tensors.
pub fn edit_all_tensors(files: &mut ModelFiles, edit: impl Fn(&mut Tensors)) {
    edit_tensors(files, &edit);
    edit_weights(files, "approx/model.safetensors", edit);
}

/// A file less.
pub fn without(name: &'static str) -> Edit {
    Box::new(move |files| drop(files.remove(name).unwrap_or_else(|| panic!("{name} is missing"))))
}

/// Tiny-bert with one output instead of five.
pub fn scorer_files() -> ModelFiles {
    let mut files = tiny_files();
    edit_config(&mut files, |config| config["id2label"] = serde_json::json!({"0": "score"}));
    edit_tensors(&mut files, |tensors| {
        for name in ["classifier.weight", "classifier.bias"] {
            tensors.get_mut(name).expect("classifier").resize_rows(1);
        }
    });
    files
}

/// No ApproxNet.
pub fn without_approx() -> Edit {
    Box::new(|files| assert!(!files.remove_folder("approx").is_empty()))
}

/// A key of `config.json`, or with `a.b` one inside an object.
pub fn config(key: &'static str, value: Value) -> Edit {
    Box::new(move |files| edit_config(files, |config| set(config, key, value.clone())))
}

pub fn without_config(key: &'static str) -> Edit {
    Box::new(move |files| {
        edit_config(files, |config| {
            config.as_object_mut().expect("object").remove(key).expect("the key is there");
        });
    })
}

pub fn approx_config(key: &'static str, value: Value) -> Edit {
    Box::new(move |files| {
        edit_json(files, "approx/config.json", |config| set(config, key, value.clone()));
    })
}

pub fn set(object: &mut Value, key: &str, value: Value) {
    match key.split_once('.') {
        Some((outer, inner)) => object[outer][inner] = value,
        None => object[key] = value,
    }
}

pub fn tensors(edit: impl Fn(&mut Tensors) + 'static) -> Edit {
    Box::new(move |files| edit_tensors(files, &edit))
}

pub fn approx_tensors(edit: impl Fn(&mut Tensors) + 'static) -> Edit {
    Box::new(move |files| edit_weights(files, "approx/model.safetensors", &edit))
}

/// `model.safetensors` of a header and this many bytes of zeros.
pub fn header(json: &'static str, data_bytes: usize) -> Edit {
    weights(move |_| {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend(json.as_bytes());
        bytes.resize(bytes.len() + data_bytes, 0);
        bytes
    })
}

/// `model.safetensors`, made from the original.
pub fn weights(edit: impl Fn(Vec<u8>) -> Vec<u8> + 'static) -> Edit {
    Box::new(move |files| edit_bytes(files, "model.safetensors", &edit))
}

/// Both networks' `config.json`.
pub fn both_configs(key: &'static str, value: Value) -> Edit {
    all(vec![config(key, value.clone()), approx_config(key, value)])
}

/// Both networks' tensors.
pub fn all_tensors(edit: impl Fn(&mut Tensors) + 'static) -> Edit {
    Box::new(move |files| edit_all_tensors(files, &edit))
}

/// Another name for every tensor of both networks.
pub fn rename(name: fn(&str) -> String) -> Edit {
    all_tensors(move |tensors| {
        *tensors = std::mem::take(tensors).into_iter().map(|(old, tensor)| (name(&old), tensor)).collect();
    })
}

/// Hugging Face's names of a ViT, and timm's, where one tensor becomes one.
const TIMM: [(&str, &str); 12] = [
    ("vit.embeddings.cls_token", "cls_token"),
    ("vit.embeddings.position_embeddings", "pos_embed"),
    ("vit.embeddings.patch_embeddings.projection", "patch_embed.proj"),
    ("vit.encoder.layer.", "blocks."),
    ("attention.attention.query", "attn.qkv"),
    ("attention.output.dense", "attn.proj"),
    ("layernorm_before", "norm1"),
    ("layernorm_after", "norm2"),
    ("intermediate.dense", "mlp.fc1"),
    ("output.dense", "mlp.fc2"),
    ("vit.layernorm", "norm"),
    ("classifier", "head"),
];

/// Both networks of tiny-vit under timm's names: query, key and value are one tensor. The thresholds are ours and keep their name.
pub fn timm_names() -> Edit {
    all_tensors(|tensors| {
        let (thresholds, mut rest): (Tensors, Tensors) =
            std::mem::take(tensors).into_iter().partition(|(name, _)| name.ends_with("p_logit"));
        for query in rest.keys().filter(|name| name.contains(".query.")).cloned().collect::<Vec<_>>() {
            for part in ["key", "value"] {
                let part = rest.remove(&query.replace("query", part)).expect("key and value");
                let fused = rest.get_mut(&query).expect("query");
                fused.shape[0] += part.shape[0];
                fused.bytes.extend(part.bytes);
            }
        }
        let timm = |name: String| TIMM.iter().fold(name, |name, (old, new)| name.replace(old, new));
        *tensors = rest.into_iter().map(|(name, tensor)| (timm(name), tensor)).chain(thresholds).collect();
    })
}

/// A key whose value is written as Python writes it, such as `NaN`.
pub fn literal(file: &'static str, key: &'static str, literal: &'static str) -> Edit {
    Box::new(move |files| {
        edit_bytes(files, file, |bytes| {
            let mut value = serde_json::from_slice(&bytes).expect("JSON");
            set(&mut value, key, "a literal".into());
            value.to_string().replace("\"a literal\"", literal).into_bytes()
        });
    })
}

pub fn preprocessor(edit: impl Fn(&mut Value) + 'static) -> Edit {
    Box::new(move |files| edit_json(files, "preprocessor_config.json", &edit))
}

pub fn tokenizer(edit: impl Fn(&mut Value) + 'static) -> Edit {
    Box::new(move |files| edit_json(files, "tokenizer.json", &edit))
}

/// `vocab.txt` and no `tokenizer.json`.
pub fn vocab(edit: impl Fn(String) -> String + 'static) -> Edit {
    Box::new(move |files| {
        files.remove("tokenizer.json");
        edit_bytes(files, "vocab.txt", |vocab| edit(String::from_utf8(vocab).expect("UTF-8")).into_bytes());
    })
}

/// Several edits, one after another.
pub fn all(edits: Vec<Edit>) -> Edit {
    Box::new(move |files| edits.iter().for_each(|edit| edit(files)))
}

/// What is broken, how, and what the error says.
pub type Row = (&'static str, Edit, &'static str);

/// Each edit of tiny-bert gives its error; all rows are tried.
pub fn check_edits(rows: Vec<Row>) {
    check_edits_of(tiny_files, rows);
}

/// Each edit of a model gives its error; all rows are tried.
pub fn check_edits_of(files: fn() -> ModelFiles, rows: Vec<Row>) {
    check_rows(
        rows.into_iter()
            .map(|(what, edit, expected)| (what.to_owned(), outcome_of(files(), edit), expected.to_owned())),
    );
}

/// The error of reading tiny-bert after an edit, or `no error`.
pub fn outcome(edit: Edit) -> String {
    outcome_of(tiny_files(), edit)
}

/// The error of reading a model after an edit, or `no error`.
pub fn outcome_of(files: ModelFiles, edit: Edit) -> String {
    edited_of(files, edit).map_or_else(|error| error.to_string(), |_| "no error".to_owned())
}

/// A small generator of repeatable numbers (xorshift).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    /// A text of tiny-bert's words.
    pub fn text(&mut self, num_words: usize) -> String {
        (0..num_words).map(|_| format!("w{} ", 5 + self.below(92))).collect()
    }

    /// A picture of noise.
    pub fn picture(&mut self, width: usize, height: usize) -> Picture {
        let rgb = (0..width * height * 3).map(|_| self.below(256) as u8).collect();
        Picture::from_rgb(width, height, rgb).expect("a picture")
    }
}

/// Reports all rows whose outcome is not the expected one.
pub fn check_rows(rows: impl IntoIterator<Item = (String, String, String)>) {
    let mut num_rows = 0;
    let mut failures = Vec::new();
    for (what, found, expected) in rows {
        num_rows += 1;
        if found != expected {
            failures.push(format!("{what}\n     found: {found}\n  expected: {expected}"));
        }
    }
    assert!(num_rows > 0, "no rows");
    assert!(failures.is_empty(), "{} of {num_rows} rows:\n{}", failures.len(), failures.join("\n"));
}

/// Writes the files of a model to a folder.
pub fn save(files: &ModelFiles, folder: &std::path::Path) {
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, bytes).expect("a file");
    };
    files.names().for_each(|name| write(name, &bytes(files, name)));
}
