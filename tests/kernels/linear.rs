//! linear: every activation, with and without a residual, f16 and f32 weights, and any part of a stack of layers.

use std::f64::consts::PI;
use std::ops::Range;

use half::f16;
use sttabt::Result;
use sttabt::backend::{Activation, Backend, Linear};
use sttabt::tensor::{DType, HeadSide, PackedLinear, Tensor, row_stride};

use crate::data::{Chunk, Level, Random};
use crate::harness::{Case, Expected, Output, index, poisoned, read_matrix};
use crate::rows::{BATCHES, NUM_LAYERS, expected_rows, level_matrix, output_rows, part_of_rows, rows};

#[derive(Debug, Clone)]
struct LinearCase {
    lengths: Vec<usize>,
    level: Level,
    in_features: usize,
    out_features: usize,
    /// Layers of `out_features` each, stacked.
    num_parts: usize,
    f16: bool,
    activation: Activation,
    residual: bool,
    /// Inputs are smaller than this.
    size: f32,
    /// One input with weight 1 and no bias, of [`argument`]: what comes out is the activation.
    arguments: bool,
    /// None: all.
    features: Option<Range<usize>>,
    output_column: usize,
    output_width: usize,
}

/// Around 0, where exponentials over- and underflow, and up to the largest numbers; then a grid.
fn argument(position: usize) -> f32 {
    let extremes = [0.0, 1e-30, 1e-3, 0.5, 1.0, 5.0, 20.0, 50.0, 87.0, 1e4, 1e15, 1e30, f32::MAX];
    match extremes.get(position / 2) {
        Some(&value) => {
            if position.is_multiple_of(2) {
                value
            } else {
                -value
            }
        }
        None => (position as f32 - 140.0) * 0.1,
    }
}

/// Weight and bias of the parts, as the f32 that the kernel computes with.
type Part = (Vec<f32>, Vec<f32>);

impl LinearCase {
    fn new(lengths: &[usize], in_features: usize, out_features: usize) -> Self {
        Self {
            lengths: lengths.to_vec(),
            level: Level::All,
            in_features,
            out_features,
            num_parts: 1,
            f16: false,
            activation: Activation::Identity,
            residual: false,
            size: 1.0,
            arguments: false,
            features: None,
            output_column: 0,
            output_width: out_features,
        }
    }

    fn input(&self, chunk: &Chunk) -> Vec<f32> {
        if self.arguments {
            return chunk.row_table(self.level).iter().map(|&(_, position, _)| argument(position)).collect();
        }
        chunk.row_values(self.level, self.in_features, 3, self.size)
    }

    fn residual_width(&self) -> usize {
        self.features().len().min(self.output_width)
    }

    fn residual(&self, chunk: &Chunk) -> Vec<f32> {
        chunk.row_values(self.level, self.residual_width(), 4, 1.0)
    }

    fn features(&self) -> Range<usize> {
        self.features.clone().unwrap_or(0..self.num_parts * row_stride(self.out_features))
    }

    fn parts(&self) -> Vec<Part> {
        if self.arguments {
            return vec![(vec![1.0; self.out_features], vec![0.0; self.out_features])];
        }
        let mut random = Random::new((self.in_features * self.out_features) as u64);
        let size = (self.in_features as f32).sqrt().recip() * 2.0;
        let round = |value: f32| if self.f16 { f16::from_f32(value).to_f32() } else { value };
        let mut part = || -> Part {
            let weight = random.values(self.in_features * self.out_features, size).into_iter().map(round).collect();
            (weight, random.values(self.out_features, 0.5))
        };
        (0..self.num_parts).map(|_| part()).collect()
    }

    fn packed(&self) -> Result<PackedLinear> {
        let parts = self.parts();
        let weight_bytes = |weight: &[f32]| -> Vec<u8> {
            if self.f16 {
                weight.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect()
            } else {
                weight.iter().flat_map(|value| value.to_le_bytes()).collect()
            }
        };
        let bytes: Vec<(Vec<u8>, &[u8])> =
            parts.iter().map(|(weight, bias)| (weight_bytes(weight), bytemuck::cast_slice(bias))).collect();
        let weight_shape = [self.out_features, self.in_features];
        let dtype = if self.f16 { DType::F16 } else { DType::F32 };
        let tensors: Vec<(Tensor<'_>, Tensor<'_>)> = bytes
            .iter()
            .map(|(weight, bias)| {
                let weight = Tensor { dtype, shape: weight_shape.to_vec(), bytes: weight, scales: &[] };
                (weight, Tensor { dtype: DType::F32, shape: weight_shape[..1].to_vec(), bytes: bias, scales: &[] })
            })
            .collect();
        PackedLinear::stack(&tensors, HeadSide::None)
    }
}

impl Case for LinearCase {
    fn kernel(&self) -> &'static str {
        "linear"
    }

    async fn run<B: Backend>(&self, backend: &mut B) -> Result<Output> {
        let chunk = Chunk::new(&self.lengths, NUM_LAYERS);
        let index = index(backend, &chunk, &chunk.words())?;
        let linear = backend.create_linear("linear", &self.packed()?)?;
        let input = level_matrix(backend, &chunk, self.level, self.in_features, &self.input(&chunk))?;
        let residual = self.residual(&chunk);
        let residual = if self.residual {
            Some(level_matrix(backend, &chunk, self.level, self.residual_width(), &residual)?)
        } else {
            None
        };
        let mut output = poisoned(backend, output_rows(&chunk, self.level), self.output_width)?;
        let call = Linear {
            input: &input,
            linear: &linear,
            features: self.features(),
            activation: self.activation,
            residual: residual.as_ref(),
            rows: rows(&chunk, self.level),
            output_column: self.output_column,
        };
        backend.linear(call, &index, &mut output)?;
        read_matrix(backend, &output).await
    }

    fn expected(&self) -> Result<(Vec<Expected>, Vec<u32>), String> {
        let chunk = Chunk::new(&self.lengths, NUM_LAYERS);
        let (input, residual, parts) = (self.input(&chunk), self.residual(&chunk), self.parts());
        let residual_width = self.residual_width();
        Ok(expected_rows(&chunk, self.level, self.output_width, |row| {
            let input = &input[row * self.in_features..][..self.in_features];
            let mut values = vec![Expected::Untouched; row_stride(self.output_width)];
            for (place, feature) in self.features().enumerate() {
                let (part, column) = (feature / row_stride(self.out_features), feature % row_stride(self.out_features));
                values[self.output_column + place] = if column < self.out_features {
                    let (weight, bias) = &parts[part];
                    let weight = &weight[column * self.in_features..][..self.in_features];
                    let products = input.iter().zip(weight).map(|(&i, &w)| f64::from(i) * f64::from(w));
                    let bias = f64::from(bias[column]);
                    let size = products.clone().map(f64::abs).sum::<f64>() + bias.abs();
                    let sum = products.sum::<f64>() + bias;
                    let (active, size) = match self.activation {
                        Activation::Identity => (sum, size),
                        // Far out on the left nothing is left of the sum, nor of its error.
                        Activation::Gelu if sum < -6.0 => (0.0, size.min(0.1)),
                        Activation::Gelu => (sum * 0.5 * libm::erfc(-sum / 2f64.sqrt()), size),
                        // x · 0.5 · (1 + tanh(u)) without what cancels.
                        Activation::GeluTanh if sum < -6.0 => (0.0, size.min(0.1)),
                        Activation::GeluTanh => {
                            let u = (2.0 / PI).sqrt() * (sum + 0.044715 * sum.powi(3));
                            (sum / (1.0 + (-2.0 * u).exp()), size)
                        }
                        Activation::QuickGelu if sum < -20.0 => (0.0, size.min(0.1)),
                        Activation::QuickGelu => (sum / (1.0 + (-1.702 * sum).exp()), size),
                        Activation::Relu => (sum.max(0.0), size),
                        // A tanh from exponentials rounds at 1, whatever its argument.
                        Activation::Tanh => (sum.tanh(), size + 1.0),
                    };
                    let added = if self.residual { f64::from(residual[row * residual_width + place]) } else { 0.0 };
                    Expected::Near(active + added, size + added.abs())
                } else {
                    Expected::Exactly(0.0)
                };
            }
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

table_test!(table, linear_cases());

fn linear_cases() -> Vec<LinearCase> {
    let ragged: &[usize] = &[3, 65, 7];
    let activations = [
        Activation::Identity,
        Activation::Gelu,
        Activation::GeluTanh,
        Activation::QuickGelu,
        Activation::Relu,
        Activation::Tanh,
    ];
    let mut cases = Vec::new();
    for lengths in BATCHES {
        for level in [Level::All, Level::Kept(1), Level::First] {
            cases.push(LinearCase { level, residual: true, ..LinearCase::new(lengths, 13, 5) });
        }
    }
    // Many workgroups, some or all but one of which have nothing to do.
    for level in [Level::All, Level::Kept(1), Level::Kept(2), Level::Kept(NUM_LAYERS), Level::First] {
        cases.push(LinearCase { level, ..LinearCase::new(&[257, 5, 64], 13, 200) });
    }
    let sizes = [(1, 1), (2, 9), (7, 3), (8, 8), (13, 5), (31, 63), (32, 64), (33, 65), (64, 12), (197, 31), (768, 24)];
    // Each combination is a pipeline of its own, and takes a browser seconds to compile: it tries each part in one or another of them.
    let is_browser = cfg!(target_arch = "wasm32");
    for (place, (in_features, out_features)) in sizes.into_iter().enumerate() {
        for f16 in [false, true] {
            let place = if is_browser { 0 } else { place };
            let activation = activations[(place + usize::from(f16)) % activations.len()];
            cases.push(LinearCase { f16, activation, ..LinearCase::new(ragged, in_features, out_features) });
        }
    }
    for (place, activation) in activations.into_iter().enumerate() {
        for (combination, (residual, f16)) in
            [(false, false), (true, false), (false, true), (true, true)].into_iter().enumerate()
        {
            if !is_browser || combination == place % 4 {
                cases.push(LinearCase { activation, residual, f16, ..LinearCase::new(&[5, 1, 12, 4], 40, 12) });
            }
        }
    }
    for activation in activations {
        for size in [1e-6, 30.0, 1e6] {
            cases.push(LinearCase { activation, size, ..LinearCase::new(ragged, 13, 5) });
        }
    }
    // Few and many rows; outputs that do not fill a vector.
    for activation in activations {
        for lengths in [&[30][..], &[257, 65, 3]] {
            cases.push(LinearCase { activation, arguments: true, ..LinearCase::new(lengths, 1, 11) });
        }
    }
    for (features, output_column, output_width) in
        [(0..16, 0, 48), (16..48, 16, 48), (16..48, 8, 40), (4..12, 20, 29), (28..36, 0, 16)]
    {
        for f16 in [false, true] {
            let features = Some(features.clone());
            let case = LinearCase { f16, features, ..LinearCase::new(ragged, 24, 12) };
            cases.push(LinearCase { num_parts: 3, level: Level::Kept(0), output_column, output_width, ..case });
        }
    }
    // From inside a panel over several groups of them, for few rows and for many.
    for lengths in [[3, 65, 7], [257, 5, 64]] {
        for f16 in [false, true] {
            let case = LinearCase { f16, features: Some(20..204), residual: true, ..LinearCase::new(&lengths, 24, 72) };
            cases.push(LinearCase { num_parts: 3, output_column: 4, output_width: 192, ..case });
        }
    }
    cases
}
