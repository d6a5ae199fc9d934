//! linear with an int8 weight against whole numbers: on the CPU to the last bit at every SIMD level, on a GPU in every variant.

use std::ops::Range;

use sttabt::Result;
use sttabt::backend::cpu::CpuBackend;
use sttabt::backend::gpu::{Variant, Variants};
use sttabt::backend::{ALL, Activation, Backend, Linear, Rows};
use sttabt::tensor::{DType, HeadSide, PackedLinear, PackedValues, Tensor, row_stride};

use crate::data::{Chunk, POISON, Random};
use crate::harness::{Output, gpu, index, levels, matrix, note, poisoned, read_matrix};

#[derive(Debug, Clone)]
struct Int8Case {
    num_rows: usize,
    in_features: usize,
    out_features: usize,
    /// Layers of `out_features` each, stacked.
    num_parts: usize,
    /// None: all.
    features: Option<Range<usize>>,
    output_column: usize,
    relu: bool,
    residual: bool,
}

/// Of a row: values as large as this.
fn size_of_row(row: usize) -> f32 {
    // The last one has no scale among normal numbers.
    [1.0, 30.0, 1e-6, 1e9, 0.0, 1e-30, 1e-37][row % 7]
}

impl Int8Case {
    fn new(num_rows: usize, in_features: usize, out_features: usize) -> Self {
        let (num_parts, features) = (1, None);
        Self {
            num_rows,
            in_features,
            out_features,
            num_parts,
            features,
            output_column: 0,
            relu: false,
            residual: false,
        }
    }

    fn features(&self) -> Range<usize> {
        self.features.clone().unwrap_or(0..self.num_parts * row_stride(self.out_features))
    }

    fn output_width(&self) -> usize {
        self.output_column + self.features().len()
    }

    fn input(&self) -> Vec<f32> {
        let row = |row: usize| Random::new(7 * row as u64).values(self.in_features, size_of_row(row));
        (0..self.num_rows).flat_map(row).collect()
    }

    fn residual(&self) -> Vec<f32> {
        Random::new(5).values(self.num_rows * self.features().len(), 2.0)
    }

    /// The numbers, scales and bias of a part. The first number is as far from 0 as there is.
    fn part(&self, part: usize) -> (Vec<i8>, Vec<f32>, Vec<f32>) {
        let mut random = Random::new((part + self.in_features * self.out_features) as u64);
        let mut numbers: Vec<i8> =
            (0..self.in_features * self.out_features).map(|_| (random.bits() >> 13) as u8 as i8).collect();
        numbers[0] = i8::MIN;
        let scales = (0..self.out_features).map(|_| 0.001 + random.unit() * 0.01).collect();
        (numbers, scales, random.values(self.out_features, 0.5))
    }

    fn packed(&self) -> Result<PackedLinear> {
        let parts: Vec<_> = (0..self.num_parts).map(|part| self.part(part)).collect();
        let shape = [self.out_features, self.in_features];
        let tensors: Vec<(Tensor<'_>, Tensor<'_>)> = parts
            .iter()
            .map(|(numbers, scales, bias)| {
                let (bytes, scales) = (bytemuck::cast_slice(numbers), bytemuck::cast_slice(scales));
                let weight = Tensor { dtype: DType::I8, shape: shape.to_vec(), bytes, scales };
                let bias = bytemuck::cast_slice(bias);
                (weight, Tensor { dtype: DType::F32, shape: shape[..1].to_vec(), bytes: bias, scales: &[] })
            })
            .collect();
        PackedLinear::stack(&tensors, HeadSide::None)
    }

    /// With these inputs, `[num_rows, in_features]`.
    async fn run<B: Backend>(&self, backend: &mut B, packed: &PackedLinear, input: &[f32]) -> Result<Output> {
        let chunk = Chunk::new(&[self.num_rows], 1);
        let index = index(backend, &chunk, &chunk.words())?;
        let linear = backend.create_linear("linear", packed)?;
        let input = matrix(backend, self.in_features, input, 1)?;
        let residual = match self.residual {
            true => Some(matrix(backend, self.features().len(), &self.residual(), 0)?),
            false => None,
        };
        let mut output = poisoned(backend, self.num_rows + 1, self.output_width())?;
        let call = Linear {
            input: &input,
            linear: &linear,
            features: self.features(),
            activation: if self.relu { Activation::Relu } else { Activation::Identity },
            residual: residual.as_ref(),
            rows: Rows { level: ALL, bound: self.num_rows },
            output_column: self.output_column,
        };
        backend.linear(call, &index, &mut output)?;
        read_matrix(backend, &output).await
    }

    /// By whole numbers; the f32 around them are rounded where the kernel rounds.
    fn expected(&self, input: &[f32]) -> Vec<u32> {
        let parts: Vec<_> = (0..self.num_parts).map(|part| self.part(part)).collect();
        let (stride, residual) = (row_stride(self.output_width()), self.residual());
        let mut output = vec![POISON; (self.num_rows + 1) * stride];
        for row in 0..self.num_rows {
            let (row_scale, numbers) = quantized(&input[row * self.in_features..][..self.in_features]);
            for (place, feature) in self.features().enumerate() {
                let (part, column) = (feature / row_stride(self.out_features), feature % row_stride(self.out_features));
                let mut value = 0.0;
                if column < self.out_features {
                    let (weight, scales, bias) = &parts[part];
                    let weight = &weight[column * self.in_features..][..self.in_features];
                    let sum: i64 = numbers.iter().zip(weight).map(|(&a, &b)| a * i64::from(b)).sum();
                    value = sum as f32 * (scales[column] * row_scale) + bias[column];
                }
                if self.relu {
                    value = if value < 0.0 { 0.0 } else { value };
                }
                if self.residual {
                    value += residual[row * self.features().len() + place];
                }
                output[row * stride + self.output_column + place] = value.to_bits();
            }
        }
        output
    }
}

/// The scale of a row, and its values in units of it.
fn quantized(row: &[f32]) -> (f32, Vec<i64>) {
    let scale = row.iter().fold(0.0, |largest: f32, value| largest.max(value.abs())) / 127.0;
    if scale < f32::MIN_POSITIVE {
        return (0.0, vec![0; row.len()]);
    }
    let factor = 1.0 / scale;
    (scale, row.iter().map(|value| (value * factor).round_ties_even() as i64).collect())
}

/// Zeros may have either sign.
fn same(a: u32, b: u32) -> bool {
    a == b || (a | b) << 1 == 0
}

fn cases() -> Vec<Int8Case> {
    let mut cases = Vec::new();
    // All that is left of tiles.
    for num_rows in 1..=20 {
        cases.push(Int8Case { residual: num_rows % 2 == 0, ..Int8Case::new(num_rows, 40, 37) });
    }
    let sizes =
        [(1, 1), (2, 9), (7, 3), (8, 8), (13, 5), (31, 63), (33, 65), (64, 12), (197, 31), (384, 100), (3072, 24)];
    for (in_features, out_features) in sizes {
        for num_rows in [1, 75] {
            cases.push(Int8Case { relu: true, ..Int8Case::new(num_rows, in_features, out_features) });
        }
    }
    cases.push(Int8Case { residual: true, ..Int8Case::new(321, 24, 200) });
    for (features, output_column) in [(0..16, 0), (16..48, 16), (4..12, 20), (28..36, 0), (20..204, 4)] {
        for num_rows in [5, 190] {
            let (features, residual) = (Some(features.clone()), num_rows == 5);
            cases.push(Int8Case { num_parts: 3, features, output_column, residual, ..Int8Case::new(num_rows, 24, 72) });
        }
    }
    cases
}

/// Backends at all SIMD levels, each also without an instruction for int8 where it has one.
fn backends() -> impl Iterator<Item = (String, CpuBackend)> {
    levels().0.into_iter().flat_map(|level| {
        let cpu = CpuBackend::with_level(level);
        #[cfg(target_arch = "x86_64")]
        {
            let is_here =
                level.as_avx512().is_some() || is_x86_feature_detected!("avxvnni") && level.as_avx2().is_some();
            assert_eq!(cpu.has_int8_dot_product(), is_here, "{level:?}");
        }
        #[cfg(target_arch = "aarch64")]
        assert_eq!(cpu.has_int8_dot_product(), std::arch::is_aarch64_feature_detected!("dotprod"));
        let without = cpu.has_int8_dot_product().then(|| CpuBackend::with_level(level).without_int8_dot_product());
        let without = without.map(|cpu| (format!("{level:?} without dot product"), cpu));
        std::iter::once((format!("{level:?}"), cpu)).chain(without)
    })
}

async fn check_cpu() {
    let (_, missing) = levels();
    let (cases, mut failures) = (cases(), Vec::new());
    if !backends().any(|(_, cpu)| cpu.has_int8_dot_product()) {
        note(&format!("int8: {} runs NOT RUN (no dot product of int8 here)", cases.len()));
    }
    if !missing.is_empty() {
        note(&format!("int8: {} runs NOT RUN (this CPU has no {})", cases.len() * missing.len(), missing.join(", ")));
    }
    for case in &cases {
        let (packed, input) = (case.packed().expect("a weight"), case.input());
        let expected = case.expected(&input);
        let stride = row_stride(case.output_width());
        for (level, mut cpu) in backends() {
            let output = case.run(&mut cpu, &packed, &input).await.expect("a product");
            let bits: Vec<u32> = output.values.iter().map(|value| value.to_bits()).collect();
            if let Some(place) = (0..bits.len()).find(|&place| !same(bits[place], expected[place])) {
                let [found, expected] = [bits[place], expected[place]].map(f32::from_bits);
                failures.push(format!("{level}, {case:?}: {found:e} at {place}, expected {expected:e}"));
            }
            // The last row alone.
            if case.num_rows > 1 && !case.residual {
                let last = &input[(case.num_rows - 1) * case.in_features..];
                let alone = Int8Case { num_rows: 1, ..case.clone() };
                let output = alone.run(&mut cpu, &packed, last).await.expect("a product");
                let row = &bits[(case.num_rows - 1) * stride..case.num_rows * stride];
                if !output.values[..stride].iter().zip(row).all(|(value, bits)| value.to_bits() == *bits) {
                    failures.push(format!("{level}, {case:?}: another result alone"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

device_test!(sums_are_exact_at_every_level, check_cpu());

/// Infinity and NaN make their own row NaN, and no other.
async fn check_not_finite() {
    let case = Int8Case::new(9, 40, 37);
    let (packed, mut input) = (case.packed().expect("a weight"), case.input());
    let expected = case.expected(&input);
    input[2 * 40 + 39] = f32::NAN;
    input[5 * 40] = f32::NEG_INFINITY;
    for (level, mut cpu) in backends() {
        let output = case.run(&mut cpu, &packed, &input).await.expect("a product");
        for (place, value) in output.values.iter().enumerate() {
            match place / row_stride(37) {
                2 | 5 => assert!(place % row_stride(37) >= 37 || value.is_nan(), "{level}: {value} at {place}"),
                _ => assert!(same(value.to_bits(), expected[place]), "{level}: {value} at {place}"),
            }
        }
    }
}

device_test!(what_is_not_finite_stays_in_its_row, check_not_finite());

/// The whole numbers are exact on a GPU as well; what is done with them in f32 may be rounded another way by a driver.
async fn check_gpu() {
    let mut gpu = gpu().await;
    let mut failures = Vec::new();
    // Browsers run few: the sums are the same everywhere, and a case takes Firefox seconds.
    let step = if cfg!(target_arch = "wasm32") { 8 } else { 1 };
    for variant in Variant::ALL {
        gpu.set_variants(Variants::all(variant));
        for case in cases().into_iter().step_by(step) {
            let (packed, input) = (case.packed().expect("a weight"), case.input());
            let output = case.run(&mut gpu, &packed, &input).await.expect("a product");
            gpu.release();
            let expected = case.expected(&input);
            let (values, stride) = (&output.values, row_stride(case.output_width()));
            let scale = |place: usize| 1.0 + f32::from_bits(expected[place]).abs();
            let wrong = (0..values.len()).find(|&place| {
                let (found, wanted) = (values[place].to_bits(), expected[place]);
                let near = (values[place] - f32::from_bits(wanted)).abs() <= 4.0 * f32::EPSILON * scale(place);
                !(same(found, wanted) || near)
            });
            if let Some(place) = wrong {
                let [found, expected] = [values[place], f32::from_bits(expected[place])];
                let (row, column) = (place / stride, place % stride);
                failures.push(format!("{variant:?}, {case:?}: {found:e} at {row}, {column}, expected {expected:e}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

device_test!(a_gpu_gives_the_same_sums, check_gpu());

#[test]
fn heads_keep_their_scales() {
    use sttabt::tensor::Heads;

    // Three heads of 3, each padded to 4, and those to 16.
    let heads = Heads { num_heads: 3, head_size: 3 };
    let numbers: Vec<u8> = (0..81).collect();
    let scales: Vec<f32> = (1..=9).map(|row| row as f32).collect();
    let weight = Tensor { dtype: DType::I8, shape: vec![9, 9], bytes: &numbers, scales: bytemuck::cast_slice(&scales) };
    let bias = Tensor { dtype: DType::F32, shape: vec![9], bytes: bytemuck::cast_slice(&scales), scales: &[] };
    for side in [HeadSide::None, HeadSide::Output(heads), HeadSide::Input(heads)] {
        let values: Vec<u8> = weight.values().flat_map(f32::to_le_bytes).collect();
        let widened = Tensor { dtype: DType::F32, shape: vec![9, 9], bytes: &values, scales: &[] };
        let mut packed = PackedLinear::stack(&[(weight.clone(), bias.clone())], side).expect("a weight");
        let mut expected = PackedLinear::stack(&[(widened, bias.clone())], side).expect("a weight");
        assert!(matches!(packed.weight, PackedValues::I8 { .. }), "{side:?}");
        assert_eq!((packed.weight_f32(), &packed.bias), (expected.weight_f32(), &expected.bias), "{side:?}");
        if !matches!(side, HeadSide::Output(_)) {
            packed.scale_outputs(&bias);
            expected.scale_outputs(&bias);
            assert_eq!((packed.weight_f32(), &packed.bias), (expected.weight_f32(), &expected.bias), "{side:?}");
        }
    }
    let rows = weight.rows(3, 2);
    assert!(rows.values().eq(weight.values_in(27, 18)));
    let mut sums = vec![0.0; 9];
    rows.add_row_to(1, &mut sums);
    assert!(sums.into_iter().eq(weight.values_in(36, 9)));
}
