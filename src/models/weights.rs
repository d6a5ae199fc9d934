//! The tensors of a network's weights, as views into the bytes of their files.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::OnceLock;

use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use super::download::not_weights;
use super::fields::{json_object, shortened};
use super::files::{Bytes, ModelFiles, is_inside};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

/// What programs put before every name when they wrap a model: Lightning, PyTorch's data parallelism, its compiler, and checkpoints of a training.
const WRAPPERS: [&str; 5] = ["model.", "module.", "_orig_mod.", "state_dict.", "model_state_dict."];

/// How a zip archive and a pickle begin.
const PICKLES: [&[u8]; 2] = [b"PK\x03\x04", b"\x80\x02"];

struct File {
    name: String,
    bytes: Bytes,
    /// Where it would begin if all files were one.
    start: usize,
}

struct Entry {
    /// Its place in [`Weights::files`].
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Range<usize>,
    /// Known once the tensor is used.
    values: OnceLock<Values>,
}

/// What was found out about a tensor's values.
struct Values {
    /// The same in f32, if no kernel reads the format that they are stored in.
    converted: Option<Vec<u8>>,
    first_not_finite: Option<usize>,
}

/// The weights of a network: one safetensors file, or shards with an index. The headers have been checked against the files' lengths.
///
/// What wraps a model leaves `model.`, `module.` or `_orig_mod.` before its names. They are gone here.
pub struct Weights {
    /// For messages: the file, or the index.
    pub(super) file: String,
    /// Sorted by name.
    files: Vec<File>,
    tensors: HashMap<String, Entry>,
}

impl Weights {
    /// Takes a network's weights out of the files of its folder, which has this name in messages: the first of
    /// [`KnownFiles::weights`](super::KnownFiles::weights) that is there.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Config`] names the file that is missing or broken, and the way out.
    pub fn from_files(folder: &str, files: &mut ModelFiles) -> Result<Self> {
        let forms = ModelFiles::KNOWN.weights;
        let Some(form) = forms.iter().find(|form| files.get(form).is_some()) else {
            let reason = format!("missing, and there is no {} either", forms[1..].join(", "));
            return Err(Error::File { file: format!("{folder}{}", forms[0]), reason });
        };
        let bytes = files.required(folder, form)?;
        let file = format!("{folder}{form}");
        if form.ends_with(".index.json") { Self::sharded(file, folder, &bytes, files) } else { Self::new(&file, bytes) }
    }

    /// Reads the header of a single file. `file` is for messages alone.
    ///
    /// # Errors
    /// [`Error::File`] when the bytes are truncated or the header lies about them.
    pub fn new(file: &str, bytes: Bytes) -> Result<Self> {
        let mut weights = Self::of(file.to_owned(), vec![(file.to_owned(), bytes)])?;
        weights.unwrap_names()?;
        Ok(weights)
    }

    fn sharded(file: String, folder: &str, index: &Bytes, files: &mut ModelFiles) -> Result<Self> {
        let index = json_object(&file, index.as_ref())?;
        let wrong = |key: &str, found: &Value| Error::Config {
            file: file.clone(),
            key: key.to_owned(),
            found: shortened(&found.to_string()),
            expected: "the names of tensors, each with that of its file".to_owned(),
        };
        let Some(Value::Object(map)) = index.get("weight_map") else {
            return Err(wrong("weight_map", index.get("weight_map").unwrap_or(&Value::Null)));
        };
        let mut shards = BTreeMap::new();
        for (tensor, shard) in map {
            let name = shard.as_str().ok_or_else(|| wrong(&format!("weight_map.{tensor}"), shard))?;
            if !is_inside(name) {
                let reason =
                    format!("tensor `{tensor}` is said to be in `{}`, which is not in the folder", shortened(name));
                return Err(Error::File { file: file.clone(), reason });
            }
            if !shards.contains_key(name) {
                let missing =
                    || Error::File { file: format!("{folder}{name}"), reason: format!("missing, and {file} names it") };
                shards.insert(name.to_owned(), files.remove(name).ok_or_else(missing)?);
            }
        }
        let shards = shards.into_iter().map(|(name, bytes)| (format!("{folder}{name}"), bytes));
        let mut weights = Self::of(file.clone(), shards.collect())?;
        for (tensor, shard) in map {
            let shard = format!("{folder}{}", shard.as_str().unwrap_or_default());
            let found = weights.tensors.get(tensor).map(|entry| &*weights.files[entry.file].name);
            if found != Some(&*shard) {
                let reason = format!("tensor `{tensor}` is missing, and {file} says that it is here");
                return Err(Error::File { file: shard, reason });
            }
        }
        weights.unwrap_names()?;
        Ok(weights)
    }

    /// The tensors of some files.
    fn of(file: String, files: Vec<(String, Bytes)>) -> Result<Self> {
        let mut weights = Self { file, files: Vec::new(), tensors: HashMap::new() };
        let mut start = 0;
        for (name, bytes) in files {
            let num_bytes = bytes.as_ref().len();
            for (tensor, entry) in entries(&name, weights.files.len(), bytes.as_ref())? {
                if let Some(other) = weights.tensors.insert(tensor.clone(), entry) {
                    let reason = format!("tensor `{tensor}` is in {} too", weights.files[other.file].name);
                    return Err(Error::File { file: name, reason });
                }
            }
            weights.files.push(File { name, bytes, start });
            start += num_bytes;
        }
        Ok(weights)
    }

    /// Drops [`WRAPPERS`] from the names. Where there is the bare name as well, the wrapped tensor is another one and keeps its own.
    fn unwrap_names(&mut self) -> Result<()> {
        let mut wrapped: Vec<String> = self.tensors.keys().filter(|name| bare(name) != **name).cloned().collect();
        wrapped.retain(|name| !self.tensors.contains_key(bare(name)));
        wrapped.sort();
        for name in &wrapped {
            let Some((_, entry)) = self.tensors.remove_entry(name) else { continue };
            if self.tensors.insert(bare(name).to_owned(), entry).is_some() {
                let others = wrapped.iter().filter(|other| bare(other) == bare(name));
                let names: Vec<String> = others.map(|name| format!("`{name}`")).collect();
                let reason =
                    format!("{} are one tensor without what wraps them, `{}`", names.join(" and "), bare(name));
                return Err(Error::File { file: self.file.clone(), reason });
            }
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Option<(&str, &Entry)> {
        let (name, entry) = self.tensors.get_key_value(name).or_else(|| self.tensors.get_key_value(bare(name)))?;
        Some((name.as_str(), entry))
    }

    /// Whether a tensor of this name exists.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The first of `names` that exists, with this shape, in a format that kernels read, all values finite.
    ///
    /// # Errors
    /// [`Error::MissingTensor`] names the first name, [`Error::TensorShape`] both shapes, [`Error::NotFinite`] the first NaN or
    /// infinity, [`Error::File`] a number format or a tensor that was freed.
    pub(crate) fn tensor(&self, names: &[&str], expected: &[usize]) -> Result<Tensor<'_>> {
        let Some((name, entry)) = names.iter().find_map(|name| self.get(name)) else {
            let name = names.first().copied().unwrap_or_default().to_owned();
            return Err(Error::MissingTensor { file: self.file.clone(), name });
        };
        let File { name: file, bytes, .. } = &self.files[entry.file];
        if entry.shape != expected {
            return Err(Error::TensorShape {
                file: file.clone(),
                name: name.to_owned(),
                found: entry.shape.clone(),
                expected: expected.to_vec(),
            });
        }
        let error = |reason: String| Error::File { file: file.clone(), reason: format!("tensor `{name}` is {reason}") };
        let stored = bytes.as_ref().get(entry.bytes.clone());
        let stored =
            stored.ok_or_else(|| error("in an engine by now and was freed here: read the file again".to_owned()))?;
        let Some((dtype, convert)) = readable(entry.dtype) else {
            return Err(error(format!("{}, expected F32, F16, BF16, F64 or integers of 16 to 64 bits", entry.dtype)));
        };
        let values = entry.values.get_or_init(|| {
            let converted = convert.map(|convert| convert(stored));
            let tensor = Tensor { dtype, shape: Vec::new(), bytes: converted.as_deref().unwrap_or(stored) };
            let first_not_finite = tensor.first_not_finite();
            bytes.release(entry.bytes.clone());
            Values { converted, first_not_finite }
        });
        let tensor = Tensor { dtype, shape: entry.shape.clone(), bytes: values.converted.as_deref().unwrap_or(stored) };
        match values.first_not_finite {
            None => Ok(tensor),
            Some(index) => {
                let value = tensor.values_in(index, 1).next().unwrap_or(f32::NAN);
                Err(Error::NotFinite { file: file.clone(), name: name.to_owned(), index, value })
            }
        }
    }

    /// Where a tensor of these files ends if they were one. For values that are in none of them, 0.
    pub(crate) fn end_of(&self, tensor: &Tensor<'_>) -> usize {
        let range = tensor.bytes.as_ptr_range();
        let end_in = |bytes: &[u8]| {
            let whole = bytes.as_ptr_range();
            (whole.start <= range.start && range.end <= whole.end).then(|| range.end as usize - whole.start as usize)
        };
        if let Some(end) = self.files.iter().find_map(|file| Some(file.start + end_in(file.bytes.as_ref())?)) {
            return end;
        }
        let of_entry = |entry: &Entry| {
            end_in(entry.values.get()?.converted.as_deref()?)?;
            Some(self.files[entry.file].start + entry.bytes.end)
        };
        self.tensors.values().find_map(of_entry).unwrap_or(0)
    }

    /// Gives back the memory of what is read from mapped files, which happens anew where it is needed.
    pub(crate) fn release(&self) {
        self.files.iter().for_each(|file| file.bytes.release(0..file.bytes.as_ref().len()));
    }

    /// Frees all bytes from this one on, as [`Weights::end_of`] counts them, if they are the files' own.
    pub(crate) fn truncate(&mut self, num_bytes: usize) {
        for file in &mut self.files {
            if let Bytes::Owned(bytes) = &mut file.bytes {
                bytes.truncate(num_bytes.saturating_sub(file.start));
                bytes.shrink_to_fit();
            }
        }
        for entry in self.tensors.values_mut() {
            let is_freed = entry.bytes.end > self.files[entry.file].bytes.as_ref().len();
            if let Some(values) = entry.values.get_mut().filter(|_| is_freed) {
                values.converted = None;
            }
        }
    }

    /// Number of values in all tensors that were used.
    pub(crate) fn num_values(&self) -> u64 {
        let used = self.tensors.values().filter(|entry| entry.values.get().is_some());
        used.map(|entry| entry.shape.iter().product::<usize>() as u64).sum()
    }

    /// All tensors as one safetensors file: its header, and what follows, piece by piece.
    pub fn to_safetensors(&self) -> (Vec<u8>, Vec<&[u8]>) {
        let bytes = |entry: &Entry| self.files[entry.file].bytes.as_ref().get(entry.bytes.clone()).unwrap_or_default();
        let tensors = self.tensors.iter().map(|(name, entry)| (&**name, entry.dtype, &*entry.shape, bytes(entry)));
        let mut tensors: Vec<_> = tensors.collect();
        tensors.sort_by_key(|&(name, dtype, ..)| place(name, dtype));
        let header = header(tensors.iter().map(|&(name, dtype, shape, bytes)| (name, dtype, shape, bytes.len())));
        (header, tensors.into_iter().map(|(.., bytes)| bytes).collect())
    }
}

/// A name without [`WRAPPERS`].
fn bare(mut name: &str) -> &str {
    while let Some(rest) = WRAPPERS.iter().find_map(|wrapper| name.strip_prefix(wrapper)) {
        name = rest;
    }
    name
}

/// The tensors that a file's header names. `file` is its place among all.
fn entries(name: &str, file: usize, bytes: &[u8]) -> Result<Vec<(String, Entry)>> {
    let parsed = SafeTensors::deserialize(bytes).map_err(|error| {
        let reason = if let Some(found) = not_weights(bytes) {
            found
        } else if PICKLES.iter().any(|start| bytes.starts_with(start)) {
            "a pickle of PyTorch's, which is not read here: `sttabt convert DIR` makes model.safetensors of it, and so does \
             `save_pretrained` in Python"
                .to_owned()
        } else {
            format!("not a valid safetensors file of {} bytes: {error}", bytes.len())
        };
        Error::File { file: name.to_owned(), reason }
    })?;
    let start = bytes.as_ptr() as usize;
    let entry = |(name, view): (&str, safetensors::tensor::TensorView<'_>)| {
        let at = view.data().as_ptr() as usize - start;
        let bytes = at..at + view.data().len();
        let entry = Entry { file, dtype: view.dtype(), shape: view.shape().to_vec(), bytes, values: OnceLock::new() };
        (name.to_owned(), entry)
    };
    Ok(parsed.iter().map(entry).collect())
}

/// Makes the bytes of one format out of those of another.
type Convert = fn(&[u8]) -> Vec<u8>;

/// The format in which kernels read tensors that are stored in another, and what makes it of the bytes. Numbers of 8 bits and less are
/// those of quantized weights, which mean nothing without their scales.
fn readable(stored: Dtype) -> Option<(DType, Option<Convert>)> {
    let convert: Convert = match stored {
        Dtype::F32 => return Some((DType::F32, None)),
        Dtype::F16 => return Some((DType::F16, None)),
        Dtype::BF16 => return Some((DType::Bf16, None)),
        Dtype::F64 => |bytes| converted(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
        Dtype::I64 => |bytes| converted(bytes, |bytes| i64::from_le_bytes(bytes) as f32),
        Dtype::I32 => |bytes| converted(bytes, |bytes| i32::from_le_bytes(bytes) as f32),
        Dtype::I16 => |bytes| converted(bytes, |bytes| f32::from(i16::from_le_bytes(bytes))),
        Dtype::U64 => |bytes| converted(bytes, |bytes| u64::from_le_bytes(bytes) as f32),
        Dtype::U32 => |bytes| converted(bytes, |bytes| u32::from_le_bytes(bytes) as f32),
        Dtype::U16 => |bytes| converted(bytes, |bytes| f32::from(u16::from_le_bytes(bytes))),
        _ => return None,
    };
    Some((DType::F32, Some(convert)))
}

fn converted<const SIZE: usize>(bytes: &[u8], value: impl Fn([u8; SIZE]) -> f32) -> Vec<u8> {
    let (stored, _) = bytes.as_chunks::<SIZE>();
    let mut converted = Vec::with_capacity(4 * stored.len());
    stored.iter().for_each(|&stored| converted.extend_from_slice(&value(stored).to_le_bytes()));
    converted
}

/// The order of tensors in a file: larger numbers come first, so that all stand at a multiple of their size.
pub(super) fn place(name: &str, dtype: Dtype) -> (std::cmp::Reverse<usize>, String) {
    (std::cmp::Reverse(dtype.bitsize()), name.to_owned())
}

/// The header of a safetensors file with these tensors, of so many bytes each, in this order.
pub(super) fn header<'a>(tensors: impl Iterator<Item = (&'a str, Dtype, &'a [usize], usize)>) -> Vec<u8> {
    // Some readers ask who wrote it.
    let mut header = serde_json::Map::from_iter([("__metadata__".to_owned(), json!({"format": "pt"}))]);
    let mut start = 0;
    for (name, dtype, shape, num_bytes) in tensors {
        let tensor = json!({"dtype": dtype.to_string(), "shape": shape, "data_offsets": [start, start + num_bytes]});
        header.insert(name.to_owned(), tensor);
        start += num_bytes;
    }
    let mut json = Value::Object(header).to_string().into_bytes();
    json.resize(json.len().next_multiple_of(8), b' ');
    [&(json.len() as u64).to_le_bytes()[..], &json].concat()
}
