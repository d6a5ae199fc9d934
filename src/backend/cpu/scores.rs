//! Attention scores S_h[i, j] = Q_h[i] · K_h[j] / √head_size, for the kernels that need them. Keys (and values) are
//! packed once per sample and head. Then groups of queries are multiplied with them.

use std::ops::Range;

use fearless_simd::Simd;

use super::cores::Cores;
use super::product::{MAX_TILE_ROWS, pack_columns, pack_rows, panel_width, product};
use super::{CpuIndex, CpuMatrix};
use crate::tensor::Heads;

/// Rows whose scores are computed together: a head's keys and values are read once for all of them.
pub const MAX_GROUP_ROWS: usize = 4 * MAX_TILE_ROWS;

/// Keys and values of every sample and head as panels.
pub struct PackedHeads<'a> {
    heads: Heads,
    panel_width: usize,
    /// Half a panel where a head fits one: small heads are what an ApproxNet has.
    value_width: usize,
    samples: Vec<Sample<'a>>,
}

struct Sample<'a> {
    num_keys: usize,
    /// Keys / √head_size, `[num_heads, ⌈num_keys⌉ / width, head_stride, width]`, ⌈⌉ rounding up to whole panels.
    keys: &'a [f32],
    /// `[num_heads, ⌈head_stride⌉ / value_width, num_keys, value_width]`, or nothing.
    values: &'a [f32],
}

impl<'a> PackedHeads<'a> {
    /// Packs what stands in the second and third part of `qkv`, in the rows of a level. The scratch grows as needed.
    pub fn new(
        cores: &Cores,
        qkv: &CpuMatrix,
        heads: Heads,
        index: &CpuIndex,
        level: usize,
        with_values: bool,
        scratch: &'a mut Vec<f32>,
    ) -> Self {
        let (size, panel_width) = (heads.head_stride(), panel_width(cores.level));
        let value_width = if size <= panel_width / 2 { panel_width / 2 } else { panel_width };
        let lengths = |sample: usize| {
            let num_keys = index.sample_rows(level, sample).len();
            let values = if with_values { size.next_multiple_of(value_width) * num_keys } else { 0 };
            (num_keys, num_keys.next_multiple_of(panel_width) * size, values)
        };
        let num_samples = index.layout.num_samples;
        let len = (0..num_samples).map(lengths).map(|(_, keys, values)| heads.num_heads * (keys + values)).sum();
        if scratch.len() < len {
            scratch.resize(len, 0.0);
        }
        let mut tasks = Vec::with_capacity(num_samples * heads.num_heads);
        let mut rest = &mut scratch[..];
        for sample in 0..num_samples {
            let (num_keys, keys_len, values_len) = lengths(sample);
            let (keys, after) = rest.split_at_mut(heads.num_heads * keys_len);
            let (values, after) = after.split_at_mut(heads.num_heads * values_len);
            rest = after;
            if num_keys > 0 {
                let values =
                    values.chunks_exact_mut(values_len.max(1)).map(Some).chain(std::iter::repeat_with(|| None));
                for (head, (keys, values)) in keys.chunks_exact_mut(keys_len).zip(values).enumerate() {
                    tasks.push((sample, head, keys, values));
                }
            }
        }
        let scale = heads.scale();
        cores.for_each(tasks, |(sample, head, keys, values)| {
            let part = |part: usize| {
                let first_column = part * heads.stride() + head * size;
                index.sample_rows(level, sample).map(move |row| &qkv.row(row)[first_column..][..size])
            };
            pack_columns(part(1), size, panel_width, scale, keys);
            if let Some(values) = values {
                pack_rows(part(2), value_width, values);
            }
        });
        let mut rest = &scratch[..];
        let samples = (0..num_samples).map(|sample| {
            let (num_keys, keys_len, values_len) = lengths(sample);
            let (keys, after) = rest.split_at(heads.num_heads * keys_len);
            let (values, after) = after.split_at(heads.num_heads * values_len);
            rest = after;
            Sample { num_keys, keys, values }
        });
        Self { heads, panel_width, value_width, samples: samples.collect() }
    }

    /// Keys of a sample.
    pub fn num_keys(&self, sample: usize) -> usize {
        self.samples[sample].num_keys
    }

    /// Values from one row of scores to the next: whole panels.
    pub fn scores_stride(&self, sample: usize) -> usize {
        self.num_keys(sample).next_multiple_of(self.panel_width)
    }

    /// scores\[r, j\] of a head's queries with all keys of a sample; in padded columns −∞.
    #[inline(always)]
    pub fn scores<S: Simd>(&self, simd: S, sample: usize, head: usize, queries: &[&[f32]], scores: &mut [f32]) {
        let (stride, size) = (self.scores_stride(sample), self.heads.head_stride());
        let keys = &self.samples[sample].keys[head * stride * size..][..stride * size];
        product(simd, queries, keys, self.panel_width, scores, stride);
        let num_keys = self.num_keys(sample);
        if num_keys < stride {
            scores.chunks_exact_mut(stride).for_each(|scores| scores[num_keys..].fill(f32::NEG_INFINITY));
        }
    }

    /// output\[r, the head's columns\] = Σ_j weights\[r, j\] · V\[j\] / Σ_j weights\[r, j\]. `weights` has the shape of scores,
    /// `output` whole rows, `[rows, heads.stride()]`.
    #[inline(always)]
    pub fn context<S: Simd>(
        &self,
        simd: S,
        (sample, head): (usize, usize),
        weights: &[f32],
        weight_sums: &[f32],
        output: &mut [f32],
        scratch: &mut Vec<f32>,
    ) {
        let (stride, num_keys, size) = (self.values_stride(), self.num_keys(sample), self.heads.head_stride());
        let values = &self.samples[sample].values[head * stride * num_keys..][..stride * num_keys];
        scratch.resize(weight_sums.len() * stride, 0.0);
        let mut rows = [[].as_slice(); MAX_GROUP_ROWS];
        for (row, weights) in rows.iter_mut().zip(weights.chunks_exact(self.scores_stride(sample))) {
            *row = &weights[..num_keys];
        }
        product(simd, &rows[..weight_sums.len()], values, self.value_width, scratch, stride);
        let sums = scratch.chunks_exact(stride).zip(weight_sums);
        for (output, (sums, weight_sum)) in output.chunks_exact_mut(self.heads.stride()).zip(sums) {
            let factor = weight_sum.recip();
            for (value, sum) in output[head * size..][..size].iter_mut().zip(sums) {
                *value = sum * factor;
            }
        }
    }

    /// Values from one row of weighted values to the next.
    fn values_stride(&self) -> usize {
        self.heads.head_stride().next_multiple_of(self.value_width)
    }
}

/// Groups of rows, each within one sample: `(sample, rows)`.
pub fn groups(index: &CpuIndex, level: usize, rows: Range<usize>) -> impl Iterator<Item = (usize, Range<usize>)> {
    let mut row = rows.start;
    std::iter::from_fn(move || {
        (row < rows.end).then(|| {
            let sample = index.sample_of_row(level, row);
            let group = row..rows.end.min(row + MAX_GROUP_ROWS).min(index.sample_rows(level, sample).end).max(row + 1);
            row = group.end;
            (sample, group)
        })
    })
}

/// One head's columns of at most `ROWS` rows.
#[inline(always)]
pub fn head_columns<const ROWS: usize>(
    matrix: &CpuMatrix,
    rows: Range<usize>,
    columns: Range<usize>,
) -> [&[f32]; ROWS] {
    let mut slices = [[].as_slice(); ROWS];
    for (slice, row) in slices.iter_mut().zip(rows) {
        *slice = &matrix.row(row)[columns.clone()];
    }
    slices
}
