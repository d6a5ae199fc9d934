//! A model's files with int8 weights: matrices as whole numbers from −127 to 127, and one f32 scale for each row.

use std::borrow::Cow;

use half::f16;
use safetensors::Dtype;
use serde_json::{Value, json};

use super::checkpoint::Part;
use super::family::{Asked, INT8_METHOD};
use super::fields::json_object;
use super::files::ModelFiles;
use super::formats::{header, num_scales, place};
use super::network::Network;
use super::pooling::Pooling;
use super::preprocessor;
use crate::error::{Error, Result};

const WEIGHTS: &str = ModelFiles::KNOWN.weights[0];
/// The largest number of a row.
const MAX: u8 = 127;

impl ModelFiles {
    /// The same model with int8 weights, ApproxNet included.
    ///
    /// The weights of linear layers and the tables of embeddings become `I8` tensors. Each has an f32 tensor
    /// `<name>_scale` beside it, with one scale for each row. A row that already is whole numbers of at most 127
    /// times one scale comes back exactly. Matrices whose name contains `keep_f16` become `F16` instead. What else the
    /// model uses becomes `F32`. Each `config.json` gets
    /// `"quantization_config": {"quant_method": "sttabt-int8"}`, and all other files stay as they are.
    ///
    /// ```
    /// use sttabt::{Model, ModelFiles};
    /// let files = ModelFiles::from_dir("tests/fixtures/tiny-bert")?.into_int8(None)?;
    /// assert_eq!(Model::from_bytes(files)?.weights_dtype(), "int8");
    /// # Ok::<(), sttabt::Error>(())
    /// ```
    ///
    /// # Errors
    /// The same as of [`Model::from_bytes`](super::Model::from_bytes). [`Error::File`] for a model that has int8
    /// weights already, or when `keep_f16` is in the names of no matrix or of all.
    pub fn into_int8(mut self, keep_f16: Option<&str>) -> Result<Self> {
        self.check()?;
        let is_embedder = Pooling::from_files(&self)?.is_some();
        let mut approx = self.remove_folder("approx");
        let preprocessor_file = preprocessor::file_of(&self)?;
        let preprocessor = self.remove(preprocessor_file);
        let asked = Asked { embedding: is_embedder, preprocessor: preprocessor.as_ref().map(AsRef::as_ref) };
        let mut num_kept = quantize("", &mut self, asked, keep_f16)?;
        if !approx.is_empty() {
            num_kept += quantize("approx/", &mut approx, asked, keep_f16)?;
        }
        if let Some(pattern) = keep_f16.filter(|_| num_kept == 0) {
            let reason = format!("no matrix has `{pattern}` in its name, to be kept as f16");
            return Err(Error::File { file: WEIGHTS.to_owned(), reason });
        }
        let names: Vec<String> = approx.names().map(str::to_owned).collect();
        for name in names {
            let bytes = approx.remove(&name);
            bytes.into_iter().for_each(|bytes| self.insert(format!("approx/{name}"), bytes));
        }
        if let Some(bytes) = preprocessor {
            self.insert(preprocessor_file, bytes);
        }
        Ok(self)
    }
}

/// Replaces the weights and the config of a network. Says how many matrices are kept as f16.
fn quantize(folder: &str, files: &mut ModelFiles, asked: Asked<'_>, keep_f16: Option<&str>) -> Result<usize> {
    const CONFIG: &str = "config.json";
    let network = Network::new(folder, files, asked)?;
    let config_name = format!("{folder}{CONFIG}");
    if network.config.is_int8 {
        let reason = format!("`quantization_config` is {INT8_METHOD} already: the weights are int8");
        return Err(Error::File { file: config_name, reason });
    }
    let (weights, [num_int8, num_kept]) = int8_weights(&network, keep_f16)?;
    if num_int8 == 0 {
        let reason = format!("all matrices have `{}` in their names: none would be int8", keep_f16.unwrap_or_default());
        return Err(Error::File { file: format!("{folder}{WEIGHTS}"), reason });
    }
    let mut config = json_object(&config_name, files.get(CONFIG).unwrap_or_default())?;
    config.insert("quantization_config".to_owned(), json!({"quant_method": INT8_METHOD}));
    files.insert(CONFIG, format!("{:#}\n", Value::Object(config)).into_bytes());
    files.insert(WEIGHTS, weights);
    Ok(num_kept)
}

/// The weights as a safetensors file, and how many matrices are int8 and f16.
fn int8_weights(network: &Network, keep_f16: Option<&str>) -> Result<(Vec<u8>, [usize; 2])> {
    // Nothing else asks for these tensors.
    for threshold in [Part::PLogit, Part::LtpThreshold] {
        network.thresholds(threshold, f32::NEG_INFINITY)?;
    }
    let parts = network.parts()?;
    let matrices = parts.matrices(network.config.num_hidden_layers)?;
    let (mut tensors, mut counts) = (Vec::new(), [0; 2]);
    for stored in parts.weights.stored() {
        let name = stored.name.to_owned();
        let is_matrix = matrices.contains(stored.name) && stored.shape.len() > 1;
        let mut add = |name, dtype, shape: &[usize], bytes| tensors.push((name, dtype, shape.to_vec(), bytes));
        if !stored.is_used {
            add(name, stored.dtype, stored.shape, Cow::Borrowed(stored.bytes));
            continue;
        }
        let values: Vec<f32> = parts.weights.tensor(&[stored.name], stored.shape)?.values().collect();
        if !is_matrix {
            add(name, Dtype::F32, stored.shape, f32_bytes(&values).into());
        } else if keep_f16.is_some_and(|pattern| name.contains(pattern)) {
            let bytes: Vec<u8> = values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect();
            add(name, Dtype::F16, stored.shape, bytes.into());
            counts[1] += 1;
        } else {
            let num_rows = num_scales(stored.shape);
            let rows = values.chunks_exact((values.len() / num_rows).max(1));
            let (mut numbers, mut scales) = (Vec::with_capacity(values.len()), Vec::with_capacity(num_rows));
            for row in rows {
                let scale = scale_of(row);
                numbers.extend(row.iter().map(|&value| number(value, scale) as i8 as u8));
                scales.push(scale);
            }
            add(format!("{name}_scale"), Dtype::F32, &[num_rows], f32_bytes(&scales).into());
            add(name, Dtype::I8, stored.shape, numbers.into());
            counts[0] += 1;
        }
    }
    tensors.sort_by_cached_key(|(name, dtype, ..)| place(name, *dtype));
    let mut file = header(tensors.iter().map(|(name, dtype, shape, bytes)| (&**name, *dtype, &**shape, bytes.len())));
    tensors.iter().for_each(|(.., bytes)| file.extend_from_slice(bytes));
    Ok((file, counts))
}

fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// A value in units of the scale, as the nearest whole number.
fn number(value: f32, scale: f32) -> f32 {
    let max = f32::from(MAX);
    (value / scale).round_ties_even().clamp(-max, max)
}

/// The scale of a row: the largest absolute value is 127 times it, or a smaller number of times if all values are multiples then.
fn scale_of(row: &[f32]) -> f32 {
    let largest = row.iter().fold(0.0, |largest: f32, value| largest.max(value.abs()));
    if largest == 0.0 {
        return 1.0;
    }
    let is_exact = |scale: f32| scale.is_normal() && row.iter().all(|&value| number(value, scale) * scale == value);
    // A quotient is rounded, and the scale that the row was made with may be beside it.
    let near = |scale: f32| [scale, scale.next_down(), scale.next_up()];
    let mut scales = (1..=MAX).rev().flat_map(|times| near(largest / f32::from(times)));
    let exact = scales.find(|&scale| is_exact(scale));
    exact.unwrap_or_else(|| {
        let scale = (largest / f32::from(MAX)).max(f32::MIN_POSITIVE);
        // Of the largest numbers, rounding up would make infinity.
        if (scale * f32::from(MAX)).is_finite() { scale } else { scale.next_down() }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes back of a row.
    fn back(row: &[f32]) -> Vec<f32> {
        let scale = scale_of(row);
        row.iter().map(|&value| number(value, scale) * scale).collect()
    }

    #[test]
    fn multiples_of_a_scale_come_back_exactly() {
        let mut scale = 1.234_567_8e-3;
        for seed in 0..2000u32 {
            let largest = 1 + seed % 127;
            let numbers =
                (0..50u32).map(|place| (place.wrapping_mul(seed + 7) % (2 * largest + 1)) as f32 - largest as f32);
            let row: Vec<f32> = numbers.chain([largest as f32]).map(|number| number * scale).collect();
            assert_eq!(back(&row), row, "{largest} times {scale}");
            scale *= 1.013;
        }
    }

    #[test]
    fn other_rows_come_back_to_half_a_scale() {
        let row: Vec<f32> = (0..100).map(|place| (place as f32 * 0.7).sin() * 0.3).collect();
        let scale = scale_of(&row);
        for (value, back) in row.iter().zip(back(&row)) {
            assert!((value - back).abs() <= 0.5001 * scale, "{value} became {back}");
        }
    }

    #[test]
    fn rows_without_a_scale_of_their_own() {
        assert_eq!((scale_of(&[0.0, -0.0]), scale_of(&[])), (1.0, 1.0));
        assert_eq!(back(&[0.0, -0.0]), [0.0, 0.0]);
        // Too small for a scale: less than the smallest normal number away.
        let tiny = [1e-40, -3e-41];
        assert!(scale_of(&tiny).is_normal());
        assert!(tiny.iter().zip(back(&tiny)).all(|(value, back)| (value - back).abs() < f32::MIN_POSITIVE));
        assert_eq!(back(&[f32::MAX, 1.0])[1], 0.0);
        assert!(back(&[f32::MAX, 1.0])[0].is_finite());
    }
}
