//! The product on CPUs with AVX-512 and VNNI: one instruction multiplies four u8 with four i8 in each of 16 lanes, and adds them up.
//!
//! The inputs are 128 too large, so that they have no sign. What that adds to a column's sums, its excess, is taken off at the start.

use std::arch::x86_64::{__m512i, _mm512_dpbusd_epi32};

use fearless_simd::prelude::*;
use fearless_simd::x86::Avx512;
use fearless_simd::{f32x16, i8x64, i32x16};

/// Rows of a tile: with two vectors of columns each, 16 of the 32 registers are sums.
const TILE_ROWS: usize = 8;
const LANES: usize = 16;
/// Columns of a panel.
const WIDTH: usize = 2 * LANES;

fearless_simd::kernel!(
    /// sums[c] + Σ_i inputs[4c + i] · weights[4c + i], without saturation.
    #[inline(always)]
    fn dot(token: Avx512, sums: __m512i, inputs: __m512i, weights: __m512i) -> __m512i {
        _mm512_dpbusd_epi32(sums, inputs, weights)
    }
);

/// As `int8::product`, of all these panels.
#[inline(always)]
pub fn product(
    simd: Avx512,
    rows: &[&[i32]],
    panels: &[i8],
    scales: &[f32],
    excesses: &[i32],
    sums: &mut [f32],
    stride: usize,
) {
    // A function of its own for every number of rows: a constant number of sums, which then stay in registers.
    macro_rules! tiles {
        ($rows:expr, $sums:expr, $count:expr) => {
            simd.vectorize(
                #[inline(always)]
                || tiles::<{ $count }>(simd, $rows, panels, scales, excesses, $sums, stride),
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
        4 => tiles!(last, sums, 4),
        5 => tiles!(last, sums, 5),
        6 => tiles!(last, sums, 6),
        7 => tiles!(last, sums, 7),
        _ => {}
    }
}

#[inline(always)]
fn tiles<const ROWS: usize>(
    simd: Avx512,
    rows: &[&[i32]],
    panels: &[i8],
    scales: &[f32],
    excesses: &[i32],
    sums: &mut [f32],
    stride: usize,
) {
    let num_words = rows.first().map_or(0, |row| row.len() - 1);
    let columns = scales.chunks_exact(WIDTH).zip(excesses.chunks_exact(WIDTH));
    // A panel stays in the first cache while the tiles pass by.
    for (panel, (values, columns)) in panels.chunks_exact((num_words * 4 * WIDTH).max(1)).zip(columns).enumerate() {
        for (rows, sums) in rows.chunks_exact(ROWS).zip(sums.chunks_mut(ROWS * stride)) {
            tile::<ROWS>(simd, rows, values, columns, &mut sums[panel * WIDTH..], stride);
        }
    }
}

#[inline(always)]
fn tile<const ROWS: usize>(
    simd: Avx512,
    rows: &[&[i32]],
    panel: &[i8],
    (scales, excesses): (&[f32], &[i32]),
    sums: &mut [f32],
    stride: usize,
) {
    let num_words = panel.len() / (4 * WIDTH);
    // Lengths that the compiler sees to be equal need no checks in the loop.
    let inputs: [&[i32]; ROWS] = std::array::from_fn(|row| &rows[row][1..][..num_words]);
    let start: [i32x16<Avx512>; 2] =
        std::array::from_fn(|vector| -i32x16::from_slice(simd, &excesses[vector * LANES..][..LANES]));
    let mut tile = [start; ROWS];
    for (word, columns) in (0..num_words).zip(panel.chunks_exact(4 * WIDTH)) {
        let (first, second) = columns.split_at(4 * LANES);
        let (first, second) = (i8x64::from_slice(simd, first), i8x64::from_slice(simd, second));
        for (sums, inputs) in tile.iter_mut().zip(inputs) {
            let input = i32x16::splat(simd, inputs[word]);
            sums[0] = dot(simd, sums[0].into(), input.into(), first.into()).simd_into(simd);
            sums[1] = dot(simd, sums[1].into(), input.into(), second.into()).simd_into(simd);
        }
    }
    for (row, tile) in tile.iter().enumerate() {
        let row_scale = f32::from_bits(rows[row][0] as u32);
        let sums = &mut sums[row * stride..][..WIDTH];
        for ((sum, sums), scales) in tile.iter().zip(sums.chunks_exact_mut(LANES)).zip(scales.chunks_exact(LANES)) {
            let sum: f32x16<Avx512> = sum.to_float();
            (sum * (f32x16::from_slice(simd, scales) * row_scale)).store_slice(sums);
        }
    }
}
