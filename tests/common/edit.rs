//! Breaking a model: edits to the files of tiny-bert in memory.

use std::collections::BTreeMap;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use sttabt::{Error, Model, ModelFiles};

use super::{fixture, model_files};

pub fn tiny_files() -> ModelFiles {
    model_files(&fixture("tiny-bert"))
}

/// What is done to the files.
pub type Edit = Box<dyn Fn(&mut ModelFiles)>;

/// Tiny-bert after an edit.
pub fn edited(edit: impl Fn(&mut ModelFiles)) -> Result<Model, Error> {
    let mut files = tiny_files();
    edit(&mut files);
    Model::from_bytes(files)
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

fn edit_json(bytes: &mut Vec<u8>, edit: impl Fn(&mut Value)) {
    let mut value = serde_json::from_slice(bytes).expect("JSON");
    edit(&mut value);
    *bytes = serde_json::to_vec(&value).expect("JSON");
}

pub fn edit_config(files: &mut ModelFiles, edit: impl Fn(&mut Value)) {
    edit_json(&mut files.config, edit);
}

pub fn edit_tensors(files: &mut ModelFiles, edit: impl Fn(&mut Tensors)) {
    let mut tensors = parse_weights((*files.weights).as_ref());
    edit(&mut tensors);
    files.weights = Box::new(write_weights(&tensors));
}

/// Both networks' tensors.
pub fn edit_all_tensors(files: &mut ModelFiles, edit: impl Fn(&mut Tensors)) {
    edit_tensors(files, &edit);
    let approx = files.approx.as_mut().expect("ApproxNet");
    let mut tensors = parse_weights((*approx.weights).as_ref());
    edit(&mut tensors);
    approx.weights = Box::new(write_weights(&tensors));
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
        let approx = files.approx.as_mut().expect("ApproxNet");
        edit_json(&mut approx.config, |config| set(config, key, value.clone()));
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
    Box::new(move |files| {
        let approx = files.approx.as_mut().expect("ApproxNet");
        let mut tensors = parse_weights((*approx.weights).as_ref());
        edit(&mut tensors);
        approx.weights = Box::new(write_weights(&tensors));
    })
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
    Box::new(move |files| files.weights = Box::new(edit((*files.weights).as_ref().to_vec())))
}

pub fn tokenizer(edit: impl Fn(&mut Value) + 'static) -> Edit {
    Box::new(move |files| edit_json(files.tokenizer_json.as_mut().expect("tokenizer.json"), &edit))
}

/// `vocab.txt` and no `tokenizer.json`.
pub fn vocab(edit: impl Fn(String) -> String + 'static) -> Edit {
    Box::new(move |files| {
        files.tokenizer_json = None;
        let vocab = String::from_utf8(files.vocab_txt.take().expect("vocab.txt")).expect("UTF-8");
        files.vocab_txt = Some(edit(vocab).into_bytes());
    })
}

/// Several edits, one after another.
pub fn all(edits: Vec<Edit>) -> Edit {
    Box::new(move |files| edits.iter().for_each(|edit| edit(files)))
}

/// What is broken, how, and what the error says.
pub type Row = (&'static str, Edit, &'static str);

/// Each edit gives its error; all rows are tried.
pub fn check_edits(rows: Vec<Row>) {
    check_rows(rows.into_iter().map(|(what, edit, expected)| (what.to_owned(), outcome(edit), expected.to_owned())));
}

/// The error of reading tiny-bert after an edit, or `no error`.
pub fn outcome(edit: Edit) -> String {
    edited(edit).map_or_else(|error| error.to_string(), |_| "no error".to_owned())
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
    write("config.json", &files.config);
    write("model.safetensors", (*files.weights).as_ref());
    let texts = [
        ("tokenizer.json", &files.tokenizer_json),
        ("vocab.txt", &files.vocab_txt),
        ("tokenizer_config.json", &files.tokenizer_config),
    ];
    for (name, bytes) in texts {
        bytes.iter().for_each(|bytes| write(name, bytes));
    }
    if let Some(approx) = &files.approx {
        write("approx/config.json", &approx.config);
        write("approx/model.safetensors", (*approx.weights).as_ref());
    }
}
