//! The matrix product that the kernels share: sums[r, c] = Σ_k rows[r][k] · panel[k, c], in tiles of a few rows
//! by one panel of columns.
//!
//! The tile's sums stay in registers for all of k. Every sum adds in order of k, whatever rows stand beside its own.
//! This makes a result independent of its neighbours, bit for bit.

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch};

/// Most rows of a tile.
pub const MAX_TILE_ROWS: usize = 6;
/// Rows of a tile on CPUs of 128 bits.
pub const MIN_TILE_ROWS: usize = 4;
/// Vectors of columns in a panel.
pub const PANEL_VECTORS: usize = 2;
/// Values of k that are summed before they are added to the others. With more, rounding errors grow, and the part of
/// a panel that a block's tiles share leaves the first cache. With fewer, loading and storing the sums costs a tenth
/// of the time.
const PART_DEPTH: usize = 256;
/// Steps over k in one turn of the loop.
const UNROLL: usize = 4;
/// Columns of a panel on the widest CPU.
pub const MAX_PANEL_WIDTH: usize = PANEL_VECTORS * MAX_LANES;
/// Values of the widest vector.
pub const MAX_LANES: usize = 16;

/// Columns of a panel on this CPU.
pub fn panel_width(level: Level) -> usize {
    #[inline(always)]
    fn width<S: Simd>(_: S) -> usize {
        PANEL_VECTORS * S::f32s::LEN
    }
    dispatch!(level, simd => width(simd))
}

/// Rows of a tile. Two vectors of columns each make 12 vectors of sums. x86-64 and WebAssembly's engines have 16
/// registers. Instruction sets of 128 bits mostly multiply and add in two steps, which takes registers too.
pub const fn tile_rows<S: Simd>() -> usize {
    if S::f32s::LEN <= 4 { MIN_TILE_ROWS } else { MAX_TILE_ROWS }
}

/// Rows of a tile on this CPU.
pub fn tile_rows_on(level: Level) -> usize {
    #[inline(always)]
    fn rows<S: Simd>(_: S) -> usize {
        tile_rows::<S>()
    }
    dispatch!(level, simd => rows(simd))
}

/// Packs a matrix, times a scale, whose columns are given as slices over k into panels `[columns / width, depth, width]`, zero
/// where there is no column.
pub fn pack_columns<'a>(
    columns: impl Iterator<Item = &'a [f32]>,
    depth: usize,
    width: usize,
    scale: f32,
    panels: &mut [f32],
) {
    clear_last(depth, width, panels);
    for (column, values) in columns.enumerate() {
        let panel = &mut panels[column / width * width * depth..][..width * depth];
        for (packed, value) in panel[column % width..].iter_mut().step_by(width).zip(values) {
            *packed = *value * scale;
        }
    }
}

/// Only the last panel can lack columns.
fn clear_last(depth: usize, width: usize, panels: &mut [f32]) {
    let start = panels.len() - (depth * width).min(panels.len());
    panels[start..].fill(0.0);
}

/// Packs a matrix whose rows, one for every k, are given as slices over the columns; else as [`pack_columns`], unscaled.
pub fn pack_rows<'a>(rows: impl Iterator<Item = &'a [f32]> + Clone, width: usize, panels: &mut [f32]) {
    let depth = rows.clone().count();
    clear_last(depth, width, panels);
    for (k, row) in rows.enumerate() {
        for (panel, columns) in panels.chunks_exact_mut(depth * width).zip(row.chunks(width)) {
            panel[k * width..][..columns.len()].copy_from_slice(columns);
        }
    }
}

/// The product of rows with panels, or half panels, of `width` columns each, as deep as the rows are long. Row r of panel p
/// starts at `sums[r · stride + p · width]`.
#[inline(always)]
pub fn product<S: Simd>(simd: S, rows: &[&[f32]], panels: &[f32], width: usize, sums: &mut [f32], stride: usize) {
    // A function of its own for every number of rows: a constant number of sums, which then stay in registers.
    macro_rules! tiles {
        ($rows:expr, $sums:expr, $count:expr, $vectors:expr) => {
            simd.vectorize(
                #[inline(always)]
                || tiles::<S, { $count }, { $vectors }>(simd, $rows, panels, $sums, stride),
            )
        };
    }
    let is_half = width == S::f32s::LEN;
    let (whole, last) = rows.split_at(rows.len() - rows.len() % tile_rows::<S>());
    match (tile_rows::<S>(), is_half) {
        _ if whole.is_empty() => {}
        (MAX_TILE_ROWS, false) => tiles!(whole, sums, MAX_TILE_ROWS, PANEL_VECTORS),
        (MAX_TILE_ROWS, true) => tiles!(whole, sums, MAX_TILE_ROWS, 1),
        (_, false) => tiles!(whole, sums, MIN_TILE_ROWS, PANEL_VECTORS),
        (_, true) => tiles!(whole, sums, MIN_TILE_ROWS, 1),
    }
    let sums = &mut sums[whole.len() * stride..];
    match (last.len(), is_half) {
        (1, false) => tiles!(last, sums, 1, PANEL_VECTORS),
        (2, false) => tiles!(last, sums, 2, PANEL_VECTORS),
        (3, false) => tiles!(last, sums, 3, PANEL_VECTORS),
        (4, false) => tiles!(last, sums, 4, PANEL_VECTORS),
        (5, false) => tiles!(last, sums, 5, PANEL_VECTORS),
        (1, true) => tiles!(last, sums, 1, 1),
        (2, true) => tiles!(last, sums, 2, 1),
        (3, true) => tiles!(last, sums, 3, 1),
        (4, true) => tiles!(last, sums, 4, 1),
        (5, true) => tiles!(last, sums, 5, 1),
        _ => {}
    }
}

#[inline(always)]
fn tiles<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    rows: &[&[f32]],
    panels: &[f32],
    sums: &mut [f32],
    stride: usize,
) {
    let width = VECTORS * S::f32s::LEN;
    let depth = rows.first().map_or(0, |row| row.len());
    for (panel, values) in panels.chunks_exact((depth * width).max(1)).enumerate() {
        for (part, values) in values.chunks(PART_DEPTH * width).enumerate() {
            for (rows, sums) in rows.chunks_exact(ROWS).zip(sums.chunks_mut(ROWS * stride)) {
                tile::<S, ROWS, VECTORS>(simd, rows, values, part * PART_DEPTH, &mut sums[panel * width..], stride);
            }
        }
    }
}

/// The part of a panel from k = `start` on, added to the sums of the parts before it.
#[inline(always)]
fn tile<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    rows: &[&[f32]],
    panel: &[f32],
    start: usize,
    sums: &mut [f32],
    stride: usize,
) {
    let lanes = S::f32s::LEN;
    let width = VECTORS * lanes;
    let depth = panel.len() / width;
    let rows: [&[f32]; ROWS] = std::array::from_fn(|row| &rows[row][start..][..depth]);
    let mut tile = [[S::f32s::splat(simd, 0.0); VECTORS]; ROWS];
    // Lengths that the compiler sees to be equal need no checks in the loop.
    let steps = panel.chunks_exact(UNROLL * width);
    let last = depth - depth % UNROLL;
    let unrolled: [&[[f32; UNROLL]]; ROWS] = std::array::from_fn(|row| &rows[row].as_chunks().0[..depth / UNROLL]);
    for (step, panel) in (0..depth / UNROLL).zip(steps.clone()) {
        for (k, columns) in (0..UNROLL).zip(panel.chunks_exact(width)) {
            multiply_add(simd, std::array::from_fn(|row| unrolled[row][step][k]), columns, &mut tile);
        }
    }
    for (k, columns) in (last..depth).zip(steps.remainder().chunks_exact(width)) {
        multiply_add(simd, std::array::from_fn(|row| rows[row][k]), columns, &mut tile);
    }
    for (row, tile) in tile.iter().enumerate() {
        let sums = &mut sums[row * stride..][..width];
        for (sum, sums) in tile.iter().zip(sums.chunks_exact_mut(lanes)) {
            if start == 0 {
                sum.store_slice(sums);
            } else {
                (*sum + S::f32s::from_slice(simd, sums)).store_slice(sums);
            }
        }
    }
}

/// tile[r, c] += values[r] · columns[c]
#[inline(always)]
fn multiply_add<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    values: [f32; ROWS],
    columns: &[f32],
    tile: &mut [[S::f32s; VECTORS]; ROWS],
) {
    let mut vectors = [S::f32s::splat(simd, 0.0); VECTORS];
    for (vector, columns) in vectors.iter_mut().zip(columns.chunks_exact(S::f32s::LEN)) {
        *vector = S::f32s::from_slice(simd, columns);
    }
    for (sums, value) in tile.iter_mut().zip(values) {
        let value = S::f32s::splat(simd, value);
        for (sum, column) in sums.iter_mut().zip(vectors) {
            *sum = value.mul_add(column, *sum);
        }
    }
}
