//! The matrix product of int8: sums[r, c] = Σ_k numbers[r][k] · weight[c, k] · scale_r · scale_c.
//!
//! Inputs become whole numbers on the fly, with one scale for each row, so that no row depends on another. The sums of products are
//! whole numbers too, and exact: they are the same on every CPU.
//!
//! Two or four numbers of a row stand in one word, and so do those of a column: the CPU multiplies and adds them in one instruction.

use std::ops::Range;

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch};

use super::CpuMatrix;
use super::cores::Cores;
use super::product::{MAX_LANES, panel_width};
use crate::backend::MatrixShape;
use crate::tensor::PackedLinear;

#[cfg(target_arch = "x86_64")]
mod vnni;

/// The largest number of an input.
const MAX: f32 = 127.0;
/// Rows of a tile. Two vectors of columns each make 8 vectors of sums; what is multiplied takes up to 7 of 16 registers more.
const TILE_ROWS: usize = 4;
/// Vectors of columns in a panel: their numbers fill one vector of int8.
const PANEL_VECTORS: usize = 2;

/// Numbers in a word: pairs of i16, or on CPUs with VNNI four u8, 128 too large.
fn numbers_per_word(level: Level) -> usize {
    #[cfg(target_arch = "x86_64")]
    if level.as_avx512().is_some() {
        return 4;
    }
    let _ = level;
    2
}

/// Rows of numbers: first the scale of a row, as the bits of an f32, then its words.
#[derive(Debug, Default)]
pub struct Int8Rows {
    words: Vec<i32>,
    row_words: usize,
}

impl Int8Rows {
    /// The first rows of a matrix as numbers.
    pub fn quantize(&mut self, cores: &Cores, input: &CpuMatrix, num_rows: usize) {
        let per_word = numbers_per_word(cores.level);
        self.row_words = 1 + input.stride() / per_word;
        self.words.resize(num_rows * self.row_words, 0);
        cores.for_each_block_of(&mut self.words, self.row_words, |first_row, words| {
            dispatch!(cores.level, simd => {
                for (row, words) in words.chunks_exact_mut(self.row_words).enumerate() {
                    quantize(simd, input.row(first_row + row), per_word, words);
                }
            });
        });
    }

    pub fn row(&self, row: usize) -> &[i32] {
        &self.words[row * self.row_words..][..self.row_words]
    }
}

/// number = value / scale, rounded to the nearest whole number; the scale is the largest absolute value over 127.
#[inline(always)]
fn quantize<S: Simd>(simd: S, values: &[f32], per_word: usize, words: &mut [i32]) {
    let (scale, factor) = scale_and_factor(largest(simd, values));
    let Some((first, words)) = words.split_first_mut() else { return };
    *first = scale.to_bits() as i32;
    let lanes = S::i32s::LEN;
    let chunks = values.chunks_exact(per_word * lanes);
    let last = chunks.remainder();
    let (whole, last_words) = words.split_at_mut(values.len() / (per_word * lanes) * lanes);
    for (values, words) in chunks.zip(whole.chunks_exact_mut(lanes)) {
        words_of(simd, values, factor, per_word).store_slice(words);
    }
    if !last.is_empty() {
        let (mut padded, mut padded_words) = ([0.0; 4 * MAX_LANES], [0; MAX_LANES]);
        padded[..last.len()].copy_from_slice(last);
        words_of(simd, &padded[..per_word * lanes], factor, per_word).store_slice(&mut padded_words[..lanes]);
        last_words.copy_from_slice(&padded_words[..last_words.len()]);
    }
}

/// A vector of words.
#[inline(always)]
fn words_of<S: Simd>(simd: S, values: &[f32], factor: f32, per_word: usize) -> S::i32s {
    let lanes = S::f32s::LEN;
    let pairs = |at: usize| -> S::i16s {
        let numbers = |at: usize| -> S::i32s {
            (S::f32s::from_slice(simd, &values[at * lanes..][..lanes]) * factor).round_ties_even().to_int()
        };
        numbers(at).saturating_narrow(numbers(at + 1))
    };
    if per_word == 2 {
        pairs(0).bitcast()
    } else {
        // As i8; another highest bit adds 128.
        (pairs(0).saturating_narrow(pairs(2)) ^ S::i8s::splat(simd, i8::MIN)).bitcast()
    }
}

/// The largest absolute value; infinity or NaN where there is one. As whole numbers, bits have the order of what they mean.
#[inline(always)]
fn largest<S: Simd>(simd: S, values: &[f32]) -> f32 {
    let without_sign = S::i32s::splat(simd, i32::MAX);
    let mut largest = S::i32s::splat(simd, 0);
    let vectors = values.chunks_exact(S::f32s::LEN);
    let last = vectors.remainder().iter().map(|value| value.abs().to_bits() as i32).max().unwrap_or(0);
    for vector in vectors {
        largest = largest.max(S::f32s::from_slice(simd, vector).bitcast::<S::i32s>() & without_sign);
    }
    f32::from_bits(largest.reduce_max().max(last) as u32)
}

/// The scale, and 1 over it. A row of zeros, or of values that have no scale among normal numbers, has 0. One with an infinity or NaN
/// has NaN, and so have its sums.
fn scale_and_factor(largest: f32) -> (f32, f32) {
    let scale = largest / MAX;
    if !largest.is_finite() {
        (f32::NAN, 0.0)
    } else if scale < f32::MIN_POSITIVE {
        (0.0, 0.0)
    } else {
        (scale, scale.recip())
    }
}

/// A weight: `[num_panels, words, panel_width, numbers_per_word]`, zero where the matrix has no column.
#[derive(Debug, Clone)]
pub struct Int8Panels {
    width: usize,
    /// Bytes of a panel.
    panel_bytes: usize,
    values: Vec<i8>,
    /// Of each column.
    scales: Vec<f32>,
    /// For words of four: 128 times the sum of each column, which the inputs' 128 adds.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "only VNNI has words of four"))]
    excesses: Vec<i32>,
}

impl Int8Panels {
    /// Packs the weight of a linear layer, `[out_stride, in_stride]`, and the scales of its outputs.
    pub fn new(level: Level, linear: &PackedLinear, weight: &[i8], scales: &[f32]) -> Self {
        let (depth, width, per_word) = (linear.in_stride, panel_width(level), numbers_per_word(level));
        let num_columns = linear.out_stride.next_multiple_of(width);
        let panel_bytes = depth * width;
        let mut values = vec![0; num_columns * depth];
        let mut excesses = vec![0; if per_word == 4 { num_columns } else { 0 }];
        for (column, numbers) in weight.chunks_exact(depth.max(1)).enumerate() {
            let panel = &mut values[column / width * panel_bytes..][..panel_bytes];
            let words = panel.chunks_exact_mut(width * per_word);
            for (word, numbers) in words.zip(numbers.chunks_exact(per_word)) {
                word[column % width * per_word..][..per_word].copy_from_slice(numbers);
            }
            if let Some(excess) = excesses.get_mut(column) {
                *excess = 128 * numbers.iter().map(|&number| i32::from(number)).sum::<i32>();
            }
        }
        let mut scales = scales.to_vec();
        scales.resize(num_columns, 0.0);
        Self { width, panel_bytes, values, scales, excesses }
    }
}

/// The product of rows with some panels. Row r of the p-th of them starts at `sums[r · stride + p · width]`.
#[inline(always)]
pub fn product<S: Simd>(
    simd: S,
    rows: &[&[i32]],
    weight: &Int8Panels,
    panels: Range<usize>,
    sums: &mut [f32],
    stride: usize,
) {
    let columns = panels.start * weight.width..panels.end * weight.width;
    let values = &weight.values[panels.start * weight.panel_bytes..panels.end * weight.panel_bytes];
    let scales = &weight.scales[columns.clone()];
    #[cfg(target_arch = "x86_64")]
    if let Some(avx512) = simd.level().as_avx512() {
        vnni::product(avx512, rows, values, scales, &weight.excesses[columns], sums, stride);
        return;
    }
    // A function of its own for every number of rows: a constant number of sums, which then stay in registers.
    macro_rules! tiles {
        ($rows:expr, $sums:expr, $count:expr) => {
            simd.vectorize(
                #[inline(always)]
                || tiles::<S, { $count }>(simd, $rows, values, scales, $sums, stride),
            )
        };
    }
    let (whole, last) = rows.split_at(rows.len() - rows.len() % TILE_ROWS);
    if !whole.is_empty() {
        tiles!(whole, sums, TILE_ROWS);
    }
    let sums = &mut sums[whole.len() * stride..];
    match last.len() {
        1 => tiles!(last, sums, 1),
        2 => tiles!(last, sums, 2),
        3 => tiles!(last, sums, 3),
        _ => {}
    }
}

#[inline(always)]
fn tiles<S: Simd, const ROWS: usize>(
    simd: S,
    rows: &[&[i32]],
    panels: &[i8],
    scales: &[f32],
    sums: &mut [f32],
    stride: usize,
) {
    let width = PANEL_VECTORS * S::i32s::LEN;
    let num_words = rows.first().map_or(0, |row| row.len() - 1);
    // A panel stays in the first cache while the tiles pass by.
    let panels = panels.chunks_exact((num_words * 2 * width).max(1)).zip(scales.chunks_exact(width));
    for (panel, (values, scales)) in panels.enumerate() {
        for (rows, sums) in rows.chunks_exact(ROWS).zip(sums.chunks_mut(ROWS * stride)) {
            tile::<S, ROWS>(simd, rows, values, scales, &mut sums[panel * width..], stride);
        }
    }
}

#[inline(always)]
fn tile<S: Simd, const ROWS: usize>(
    simd: S,
    rows: &[&[i32]],
    panel: &[i8],
    scales: &[f32],
    sums: &mut [f32],
    stride: usize,
) {
    let lanes = S::i32s::LEN;
    let num_words = panel.len() / S::i8s::LEN;
    // Lengths that the compiler sees to be equal need no checks in the loop.
    let inputs: [&[i32]; ROWS] = std::array::from_fn(|row| &rows[row][1..][..num_words]);
    let mut tile = [[S::i32s::splat(simd, 0); PANEL_VECTORS]; ROWS];
    for (word, columns) in (0..num_words).zip(panel.chunks_exact(S::i8s::LEN)) {
        let (first, second) = S::i8s::from_slice(simd, columns).widen();
        for (sums, inputs) in tile.iter_mut().zip(inputs) {
            let input: S::i16s = S::i32s::splat(simd, inputs[word]).bitcast();
            sums[0] += first.pairwise_dot_product(input);
            sums[1] += second.pairwise_dot_product(input);
        }
    }
    for (row, tile) in tile.iter().enumerate() {
        let row_scale = f32::from_bits(rows[row][0] as u32);
        let sums = &mut sums[row * stride..][..PANEL_VECTORS * lanes];
        for ((sum, sums), scales) in tile.iter().zip(sums.chunks_exact_mut(lanes)).zip(scales.chunks_exact(lanes)) {
            let sum: S::f32s = sum.to_float();
            (sum * (S::f32s::from_slice(simd, scales) * row_scale)).store_slice(sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The two kinds of words hold the same numbers, also in a row that ends within a vector.
    #[test]
    fn words_of_four_are_words_of_two_plus_128() {
        let level = Level::new();
        for len in (8..=200).step_by(8) {
            let values: Vec<f32> = (0..len).map(|place| (place as f32 * 0.37).sin() * (place % 11) as f32).collect();
            let [pairs, fours] = [2, 4].map(|per_word| {
                let mut words = vec![-1; 1 + len / per_word];
                dispatch!(level, simd => quantize(simd, &values, per_word, &mut words));
                words
            });
            assert_eq!(pairs[0], fours[0]);
            let scale = f32::from_bits(pairs[0] as u32);
            let pairs: Vec<i32> =
                pairs[1..].iter().flat_map(|word| [*word as i16, (word >> 16) as i16]).map(i32::from).collect();
            let fours = fours[1..].iter().flat_map(|word| word.to_le_bytes()).map(|byte| i32::from(byte) - 128);
            assert_eq!(pairs, fours.collect::<Vec<i32>>(), "{len}");
            for (value, number) in values.iter().zip(pairs) {
                assert!(
                    (value - number as f32 * scale).abs() <= 0.5001 * scale,
                    "{value} became {number} times {scale}"
                );
            }
        }
    }
}
