//! The product, tile by tile. What multiplies is a token of [`super::dot`].

use fearless_simd::Simd;
use fearless_simd::prelude::*;

use super::dot::DotProduct;
use crate::backend::cpu::product::PANEL_VECTORS;

/// Some panels of a weight.
#[derive(Clone, Copy)]
pub struct SomePanels<'a> {
    /// `[num_panels, words, panel_width, numbers of a word]`
    pub values: &'a [i8],
    /// Of each column.
    pub scales: &'a [f32],
    /// Of each column: what its sums start below 0.
    pub excesses: &'a [i32],
}

/// The product of rows with all of some panels. Row r of the p-th of them starts at `sums[r · stride + p · panel_width]`.
#[inline(always)]
pub fn product<S: Simd, D: DotProduct<S>>(
    simd: S,
    dot: D,
    rows: &[&[i32]],
    panels: SomePanels<'_>,
    sums: &mut [f32],
    stride: usize,
) {
    // A function of its own for every number of rows: a constant number of sums, which then stay in registers.
    macro_rules! tiles {
        ($rows:expr, $sums:expr, $count:expr) => {
            dot.vectorize(
                simd,
                #[inline(always)]
                || tiles::<S, D, { $count }>(simd, dot, $rows, panels, $sums, stride),
            )
        };
    }
    let (whole, last) = rows.split_at(rows.len() - rows.len() % D::TILE_ROWS);
    let (whole_sums, last_sums) = sums.split_at_mut(whole.len() * stride);
    for (rows, sums, count) in [(whole, whole_sums, D::TILE_ROWS), (last, last_sums, last.len())] {
        match count {
            _ if rows.is_empty() => {}
            1 => tiles!(rows, sums, 1),
            2 => tiles!(rows, sums, 2),
            3 => tiles!(rows, sums, 3),
            4 => tiles!(rows, sums, 4),
            5 => tiles!(rows, sums, 5),
            6 => tiles!(rows, sums, 6),
            7 => tiles!(rows, sums, 7),
            _ => tiles!(rows, sums, 8),
        }
    }
}

#[inline(always)]
fn tiles<S: Simd, D: DotProduct<S>, const ROWS: usize>(
    simd: S,
    dot: D,
    rows: &[&[i32]],
    panels: SomePanels<'_>,
    sums: &mut [f32],
    stride: usize,
) {
    let width = PANEL_VECTORS * S::i32s::LEN;
    let num_words = rows.first().map_or(0, |row| row.len() - 1);
    let of_columns = panels.scales.chunks_exact(width).zip(panels.excesses.chunks_exact(width));
    // A panel stays in the first cache while the tiles pass by.
    let panels = panels.values.chunks_exact((num_words * D::WORD_LEN * width).max(1)).zip(of_columns);
    for (panel, (values, of_columns)) in panels.enumerate() {
        for (rows, sums) in rows.chunks_exact(ROWS).zip(sums.chunks_mut(ROWS * stride)) {
            tile::<S, D, ROWS>(simd, dot, rows, values, of_columns, &mut sums[panel * width..], stride);
        }
    }
}

#[inline(always)]
fn tile<S: Simd, D: DotProduct<S>, const ROWS: usize>(
    simd: S,
    dot: D,
    rows: &[&[i32]],
    panel: &[i8],
    (scales, excesses): (&[f32], &[i32]),
    sums: &mut [f32],
    stride: usize,
) {
    let lanes = S::i32s::LEN;
    let width = PANEL_VECTORS * lanes;
    let num_words = panel.len() / (D::WORD_LEN * width);
    // Lengths that the compiler sees to be equal need no checks in the loop.
    let inputs: [&[i32]; ROWS] = std::array::from_fn(|row| &rows[row][1..][..num_words]);
    let zero = S::i32s::splat(simd, 0);
    let start: [S::i32s; PANEL_VECTORS] =
        std::array::from_fn(|vector| zero - S::i32s::from_slice(simd, &excesses[vector * lanes..][..lanes]));
    let mut tile = [start; ROWS];
    for (word, columns) in (0..num_words).zip(panel.chunks_exact(D::WORD_LEN * width)) {
        let [first, second] = dot.columns(simd, columns);
        for (sums, inputs) in tile.iter_mut().zip(inputs) {
            let input = S::i32s::splat(simd, inputs[word]);
            sums[0] = dot.add(simd, sums[0], input, first);
            sums[1] = dot.add(simd, sums[1], input, second);
        }
    }
    for (row, tile) in tile.iter().enumerate() {
        let row_scale = f32::from_bits(rows[row][0] as u32);
        let sums = &mut sums[row * stride..][..width];
        for ((sum, sums), scales) in tile.iter().zip(sums.chunks_exact_mut(lanes)).zip(scales.chunks_exact(lanes)) {
            let sum: S::f32s = sum.to_float();
            (sum * (S::f32s::from_slice(simd, scales) * row_scale)).store_slice(sums);
        }
    }
}
