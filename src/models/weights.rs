//! The tensors of a network's weights, as views into the bytes of their files.

use std::collections::{BTreeMap, HashMap};

use safetensors::Dtype;
use serde_json::Value;

use super::fields::{json_object, shortened};
use super::files::{Bytes, ModelFiles, is_inside};
use super::formats::{Entry, Values, entries, header, num_scales, place, readable};
use super::wrappers::{bare, check_merged, missing};
use crate::error::{Error, Result};
use crate::tensor::{DType, Tensor};

struct File {
    name: String,
    bytes: Bytes,
    /// Where it would begin if all files were one.
    start: usize,
}

/// A tensor as it stands in a file.
pub(super) struct Stored<'a> {
    pub name: &'a str,
    pub dtype: Dtype,
    pub shape: &'a [usize],
    pub bytes: &'a [u8],
    /// Whether it was asked for.
    pub is_used: bool,
}

/// The weights of a network: one safetensors file, or shards with an index. The headers have been checked against the files' lengths.
///
/// What wraps a model leaves `model.`, `module.` or `_orig_mod.` in its names. They are gone here.
pub struct Weights {
    /// For messages: the file, or the index.
    pub(super) file: String,
    /// Sorted by name.
    files: Vec<File>,
    tensors: HashMap<String, Entry>,
    /// See [`Weights::expect_int8`].
    is_int8: bool,
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
        let mut weights = Self { file, files: Vec::new(), tensors: HashMap::new(), is_int8: false };
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

    /// Makes all names [`bare`]. Where there is the bare name as well, the wrapped tensor is another one and keeps its own.
    fn unwrap_names(&mut self) -> Result<()> {
        check_merged(&self.file, self.tensors.keys())?;
        let mut wrapped: Vec<String> = self.tensors.keys().filter(|name| bare(name) != **name).cloned().collect();
        wrapped.retain(|name| !self.tensors.contains_key(&*bare(name)));
        wrapped.sort();
        for name in &wrapped {
            let Some((_, entry)) = self.tensors.remove_entry(name) else { continue };
            if self.tensors.insert(bare(name).into_owned(), entry).is_some() {
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
        let (name, entry) = self.tensors.get_key_value(name).or_else(|| self.tensors.get_key_value(&*bare(name)))?;
        Some((name.as_str(), entry))
    }

    /// Reads I8 tensors with their scales, because `config.json` says that this is what they are.
    ///
    /// # Errors
    /// [`Error::File`] when there is no such tensor.
    pub(super) fn expect_int8(mut self) -> Result<Self> {
        if !self.tensors.values().any(|entry| entry.dtype == Dtype::I8) {
            let reason = "no tensor is I8, and `quantization_config` in config.json says that weights are".to_owned();
            return Err(Error::File { file: self.file, reason });
        }
        self.is_int8 = true;
        Ok(self)
    }

    /// The scales of an int8 tensor, one f32 for each row; of other tensors nothing.
    fn scales(&self, name: &str, entry: &Entry) -> Result<&[u8]> {
        let scale = format!("{name}_scale");
        let found = self.tensors.get(&scale).filter(|_| self.is_int8);
        let Some(found) = found else {
            return match entry.dtype {
                Dtype::I8 if self.is_int8 => Err(Error::MissingTensor { file: self.file.clone(), name: scale }),
                _ => Ok(&[]),
            };
        };
        let File { name: file, bytes, .. } = &self.files[found.file];
        let error = |reason: String| Error::File { file: file.clone(), reason };
        let expected = [num_scales(&entry.shape)];
        match (entry.dtype, found.dtype) {
            (Dtype::I8, Dtype::F32) if found.shape == expected => bytes
                .as_ref()
                .get(found.bytes.clone())
                .ok_or_else(|| error(format!("tensor `{scale}` was freed: read the file again"))),
            (Dtype::I8, Dtype::F32) => Err(Error::TensorShape {
                file: file.clone(),
                name: scale,
                found: found.shape.clone(),
                expected: expected.to_vec(),
            }),
            (Dtype::I8, other) => Err(error(format!("tensor `{scale}` is {other}, expected F32"))),
            (other, _) => Err(error(format!("tensor `{name}` is {other}, expected I8, as there is `{scale}`"))),
        }
    }

    /// Whether a tensor of this name exists.
    pub fn contains(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The first of `names` that exists, with this shape, in a format that kernels read, all values finite.
    ///
    /// # Errors
    /// - [`Error::MissingTensor`], or [`Error::File`] with the reason, names the first name.
    /// - [`Error::TensorShape`] names both shapes, and [`Error::NotFinite`] the first NaN or infinity.
    /// - [`Error::File`] names a number format, a scale that is not positive, or a tensor that was freed.
    pub(crate) fn tensor(&self, names: &[&str], expected: &[usize]) -> Result<Tensor<'_>> {
        let Some((name, entry)) = names.iter().find_map(|name| self.get(name)) else {
            return Err(missing(&self.file, names.first().copied().unwrap_or_default(), self.tensors.keys()));
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
        let scales = self.scales(name, entry)?;
        let (dtype, convert) = match (readable(entry.dtype), entry.dtype) {
            (Some(format), _) => format,
            (None, Dtype::I8) if self.is_int8 => (DType::I8, None),
            (None, other) => {
                let hint = if other == Dtype::I8 {
                    "; I8 needs `quantization_config` with `quant_method` sttabt-int8 in config.json"
                } else {
                    ""
                };
                return Err(error(format!("{other}, expected F32, F16, BF16, F64 or integers of 16 to 64 bits{hint}")));
            }
        };
        let values = entry.values.get_or_init(|| {
            let converted = convert.map(|convert| convert(stored));
            let tensor = Tensor { dtype, shape: Vec::new(), bytes: converted.as_deref().unwrap_or(stored), scales };
            let first_not_finite = tensor.first_not_finite();
            bytes.release(entry.bytes.clone());
            Values { converted, first_not_finite, first_bad_scale: first_bad(scales) }
        });
        if let Some(row) = values.first_bad_scale {
            let scale = scales[4 * row..].first_chunk().map_or(f32::NAN, |bytes| f32::from_le_bytes(*bytes));
            let reason =
                format!("tensor `{name}_scale` holds {scale} at index {row}, expected positive finite numbers");
            return Err(Error::File { file: file.clone(), reason });
        }
        let bytes = values.converted.as_deref().unwrap_or(stored);
        let tensor = Tensor { dtype, shape: entry.shape.clone(), bytes, scales };
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
        self.end_of_bytes(tensor.bytes).max(if tensor.scales.is_empty() { 0 } else { self.end_of_bytes(tensor.scales) })
    }

    fn end_of_bytes(&self, bytes: &[u8]) -> usize {
        let range = bytes.as_ptr_range();
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

    /// All tensors, in no order.
    pub(super) fn stored(&self) -> impl Iterator<Item = Stored<'_>> {
        self.tensors.iter().map(|(name, Entry { file, dtype, shape, bytes, values })| Stored {
            name,
            dtype: *dtype,
            shape,
            bytes: self.files[*file].bytes.as_ref().get(bytes.clone()).unwrap_or_default(),
            is_used: values.get().is_some(),
        })
    }

    /// All tensors as one safetensors file: its header, and what follows, piece by piece.
    pub fn to_safetensors(&self) -> (Vec<u8>, Vec<&[u8]>) {
        let mut tensors: Vec<Stored<'_>> = self.stored().collect();
        tensors.sort_by_key(|tensor| place(tensor.name, tensor.dtype));
        let header = header(tensors.iter().map(|tensor| (tensor.name, tensor.dtype, tensor.shape, tensor.bytes.len())));
        (header, tensors.into_iter().map(|tensor| tensor.bytes).collect())
    }
}

/// The place of the first f32 that is no positive finite number.
fn first_bad(scales: &[u8]) -> Option<usize> {
    let (scales, _) = scales.as_chunks();
    scales.iter().position(|&scale| !(f32::from_le_bytes(scale) > 0.0 && f32::from_le_bytes(scale).is_finite()))
}
