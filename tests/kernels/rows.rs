//! Kernels that move or scale rows: gather_rows, layer_norm; and what all kernels over rows share.

use std::ops::Range;

use sttabt::Result;
use sttabt::backend::{Backend, Rows};
use sttabt::tensor::{DType, PackedLayerNorm, Tensor, row_stride};

use crate::data::{Chunk, Level, Random};
use crate::harness::{Case, Expected, Output, index, matrix, poisoned, read_matrix};

/// No row; one row; a prime; around one and four workgroups; ragged batches, one with many workgroups.
pub const BATCHES: &[&[usize]] =
    &[&[], &[1], &[7], &[63], &[64], &[65], &[197], &[255], &[256], &[257], &[5, 1, 12, 4], &[3, 65, 7], &[257, 5, 64]];
pub const NUM_LAYERS: usize = 3;
/// Rows of an output after those that any level can have.
const SPARE_ROWS: usize = 2;

/// The rows that the host asks for: it knows only an upper bound of the kept ones.
pub fn rows(chunk: &Chunk, level: Level) -> Rows {
    let bound = match level {
        Level::First => chunk.layout.num_samples,
        _ => chunk.layout.num_tokens,
    };
    Rows { level: chunk.level(level), bound }
}

/// An input for the rows of a level, and poison up to their bound.
pub fn level_matrix<B: Backend>(
    backend: &mut B,
    chunk: &Chunk,
    level: Level,
    width: usize,
    values: &[f32],
) -> Result<B::Matrix> {
    matrix(backend, width, values, rows(chunk, level).bound - chunk.num_rows(level))
}

pub fn output_rows(chunk: &Chunk, level: Level) -> usize {
    rows(chunk, level).bound + SPARE_ROWS
}

/// An output whose rows of the level are `row(table index)`, and whose other rows are untouched.
pub fn expected_rows(
    chunk: &Chunk,
    level: Level,
    width: usize,
    row: impl Fn(usize) -> Vec<Expected>,
) -> (Vec<Expected>, Vec<u32>) {
    let mut values: Vec<Expected> = (0..chunk.num_rows(level)).flat_map(row).collect();
    values.resize(output_rows(chunk, level) * row_stride(width), Expected::Untouched);
    (values, Vec::new())
}

pub fn part_of_rows(chunk: &Chunk, level: Level, width: usize, output: &Output, sample: usize) -> Output {
    let (rows, stride) = (chunk.rows(level, sample), row_stride(width));
    Output { values: output.values[rows.start * stride..rows.end * stride].to_vec(), words: Vec::new() }
}

#[derive(Debug, Clone)]
struct GatherRows {
    lengths: Vec<usize>,
    level: Level,
    width: usize,
    columns: Range<usize>,
    output_width: usize,
}

impl GatherRows {
    fn parent(&self) -> Level {
        match self.level {
            Level::Kept(layer) if layer > 0 => Level::Kept(layer - 1),
            _ => Level::All,
        }
    }

    fn input(&self, chunk: &Chunk) -> Vec<f32> {
        chunk.row_values(self.parent(), self.width, 1, 3.0)
    }
}

impl Case for GatherRows {
    fn kernel(&self) -> &'static str {
        "gather_rows"
    }

    async fn run<B: Backend>(&self, backend: &mut B) -> Result<Output> {
        let chunk = Chunk::new(&self.lengths, NUM_LAYERS);
        let index = index(backend, &chunk, &chunk.words())?;
        let input = level_matrix(backend, &chunk, self.parent(), self.width, &self.input(&chunk))?;
        let mut output = poisoned(backend, output_rows(&chunk, self.level), self.output_width)?;
        backend.gather_rows(&input, self.columns.clone(), &index, rows(&chunk, self.level), &mut output)?;
        read_matrix(backend, &output).await
    }

    fn expected(&self) -> Result<(Vec<Expected>, Vec<u32>), String> {
        let chunk = Chunk::new(&self.lengths, NUM_LAYERS);
        let (input, table) = (self.input(&chunk), chunk.row_table(self.level));
        Ok(expected_rows(&chunk, self.level, self.output_width, |row| {
            let source = &input[table[row].2 * self.width..][..self.width];
            let mut values: Vec<Expected> = self
                .columns
                .clone()
                .map(|column| Expected::Exactly(source.get(column).copied().unwrap_or(0.0)))
                .collect();
            values.resize(row_stride(self.output_width), Expected::Untouched);
            values
        }))
    }

    fn lengths(&self) -> Vec<usize> {
        self.lengths.clone()
    }

    fn alone(&self, sample: usize) -> Self {
        Self { lengths: vec![self.lengths[sample]], ..self.clone() }
    }

    fn part(&self, output: &Output, sample: usize) -> Output {
        part_of_rows(&Chunk::new(&self.lengths, NUM_LAYERS), self.level, self.output_width, output, sample)
    }
}

table_test!(gather_rows, gather_rows_cases());

fn gather_rows_cases() -> Vec<GatherRows> {
    let mut cases = Vec::new();
    for lengths in BATCHES {
        for level in [Level::All, Level::Kept(0), Level::Kept(1), Level::Kept(NUM_LAYERS), Level::First] {
            for (width, columns, output_width) in
                [(8, 0..8, 8), (13, 0..16, 13), (24, 4..16, 12), (31, 8..32, 29), (260, 0..260, 264)]
            {
                cases.push(GatherRows { lengths: lengths.to_vec(), level, width, columns, output_width });
            }
        }
    }
    cases
}

#[derive(Debug, Clone)]
struct LayerNorm {
    lengths: Vec<usize>,
    level: Level,
    width: usize,
    eps: f32,
    /// Added to every input: a large mean cancels.
    mean: f32,
}

impl LayerNorm {
    fn input(&self, chunk: &Chunk) -> Vec<f32> {
        chunk.row_values(self.level, self.width, 2, 2.0).iter().map(|value| value + self.mean).collect()
    }

    /// Weight, then bias.
    fn parameters(&self) -> (Vec<f32>, Vec<f32>) {
        let mut random = Random::new(self.width as u64);
        (random.values(self.width, 1.5), random.values(self.width, 0.5))
    }
}

impl Case for LayerNorm {
    fn kernel(&self) -> &'static str {
        "layer_norm"
    }

    async fn run<B: Backend>(&self, backend: &mut B) -> Result<Output> {
        let chunk = Chunk::new(&self.lengths, NUM_LAYERS);
        let index = index(backend, &chunk, &chunk.words())?;
        let (weight, bias) = self.parameters();
        let packed = PackedLayerNorm::new(
            &Tensor { dtype: DType::F32, shape: vec![self.width], bytes: bytemuck::cast_slice(&weight), scales: &[] },
            &Tensor { dtype: DType::F32, shape: vec![self.width], bytes: bytemuck::cast_slice(&bias), scales: &[] },
            self.eps,
        );
        let layer_norm = backend.create_layer_norm("layer_norm", &packed)?;
        let input = level_matrix(backend, &chunk, self.level, self.width, &self.input(&chunk))?;
        let mut output = poisoned(backend, output_rows(&chunk, self.level), self.width)?;
        backend.layer_norm(&input, &layer_norm, &index, rows(&chunk, self.level), &mut output)?;
        read_matrix(backend, &output).await
    }

    fn expected(&self) -> Result<(Vec<Expected>, Vec<u32>), String> {
        let chunk = Chunk::new(&self.lengths, NUM_LAYERS);
        let (input, (weight, bias)) = (self.input(&chunk), self.parameters());
        Ok(expected_rows(&chunk, self.level, self.width, |row| {
            let input: Vec<f64> = input[row * self.width..][..self.width].iter().map(|&value| value.into()).collect();
            let mean = input.iter().sum::<f64>() / self.width as f64;
            let variance = input.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / self.width as f64;
            let deviation = (variance + f64::from(self.eps)).sqrt();
            let mut values: Vec<Expected> = (0..self.width)
                .map(|column| {
                    let (weight, bias) = (f64::from(weight[column]), f64::from(bias[column]));
                    let value = (input[column] - mean) / deviation * weight + bias;
                    let scale = (input[column].abs() + mean.abs()) / deviation * weight.abs() + bias.abs();
                    Expected::Near(value, scale)
                })
                .collect();
            values.resize(row_stride(self.width), Expected::Exactly(0.0));
            values
        }))
    }

    fn lengths(&self) -> Vec<usize> {
        self.lengths.clone()
    }

    fn alone(&self, sample: usize) -> Self {
        Self { lengths: vec![self.lengths[sample]], ..self.clone() }
    }

    fn part(&self, output: &Output, sample: usize) -> Output {
        part_of_rows(&Chunk::new(&self.lengths, NUM_LAYERS), self.level, self.width, output, sample)
    }
}

table_test!(layer_norm, layer_norm_cases());

fn layer_norm_cases() -> Vec<LayerNorm> {
    let mut cases = Vec::new();
    let mut push = |lengths: &[usize], level, width, eps, mean| {
        cases.push(LayerNorm { lengths: lengths.to_vec(), level, width, eps, mean });
    };
    for lengths in BATCHES {
        for level in [Level::All, Level::Kept(1), Level::First] {
            push(lengths, level, 13, 1e-12, 0.0);
        }
    }
    for width in [1, 2, 7, 8, 9, 24, 63, 64, 65, 197, 312, 768] {
        for (eps, mean) in [(1e-12, 0.0), (1e-5, 5.0), (0.5, -1.0)] {
            push(&[3, 65, 7], Level::Kept(0), width, eps, mean);
        }
    }
    cases
}
