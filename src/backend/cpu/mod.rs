//! The kernels on the CPU: one file per kernel, under the same names as the shaders. They use SIMD of the width that
//! the CPU has, and threads natively.
//!
//! The rules' recursions (`back_tracking`, `select_tokens`) are plain loops of `pruning`. They cost next to nothing.

mod attention;
mod attention_maps;
mod back_tracking;
mod cores;
mod gather_rows;
mod int8;
mod layer_norm;
mod linear;
pub mod math;
mod pack_rows;
mod panels;
mod product;
mod scores;
mod select_tokens;

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use fearless_simd::Level;

use super::{
    Attention, AttentionMap, BackTracking, Backend, ChunkLayout, Linear, MatrixShape, Region, Rows, SelectTokens,
    Stage, StageHook, check, check_int8_inputs,
};
use crate::error::{Error, Result};
use crate::parallel::Caller;
use crate::tensor::{PackedLayerNorm, PackedLinear, PackedValues, row_stride};

use cores::Cores;
use int8::{Dot, Int8Rows};
pub use linear::CpuLinear;

/// Largest matrix, in bytes.
const MAX_BINDING_BYTES: u64 = 1 << 30;
/// Most tokens of a sample whose attention map, of one f32 for each pair, is no larger than that.
pub const MAX_PRUNED_TOKENS: usize = 1 << 14;
const _: () = assert!(4 * (MAX_PRUNED_TOKENS * MAX_PRUNED_TOKENS) as u64 == MAX_BINDING_BYTES);

/// f32 rows in host memory.
#[derive(Debug, Clone)]
pub struct CpuMatrix {
    values: Vec<f32>,
    num_rows: usize,
    width: usize,
}

impl MatrixShape for CpuMatrix {
    fn num_rows(&self) -> usize {
        self.num_rows
    }

    fn width(&self) -> usize {
        self.width
    }

    fn stride(&self) -> usize {
        row_stride(self.width)
    }
}

impl CpuMatrix {
    fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.stride()..][..self.stride()]
    }
}

/// The index buffer with the layout of the running chunk.
#[derive(Debug, Clone)]
pub struct CpuIndex {
    layout: ChunkLayout,
    words: Vec<u32>,
}

impl CpuIndex {
    /// Number of rows of a level.
    fn num_rows(&self, level: usize) -> usize {
        self.words[self.layout.num_rows(level)] as usize
    }

    /// The rows of a sample in a level.
    fn sample_rows(&self, level: usize, sample: usize) -> Range<usize> {
        let offsets = &self.words[self.layout.offsets(level)..];
        offsets[sample] as usize..offsets[sample + 1] as usize
    }

    fn sample_of_row(&self, level: usize, row: usize) -> usize {
        self.words[self.layout.sample_of_row(level) + row] as usize
    }

    fn map_offset(&self, sample: usize) -> usize {
        self.words[self.layout.map_offsets() + sample] as usize
    }

    /// Stores the sorted positions of one sample's K_layer.
    fn write_kept(&mut self, layer: usize, sample: usize, positions: impl Iterator<Item = usize>) {
        let base = self.layout.kept(layer) + self.sample_rows(super::ALL, sample).start;
        let mut count = 0;
        for (place, position) in positions.enumerate() {
            self.words[base + place] = position as u32;
            count = place + 1;
        }
        let at = self.layout.counts(layer) + sample;
        self.words[at] = count as u32;
    }

    /// The sorted positions of one sample's K_layer.
    fn kept(&self, layer: usize, sample: usize) -> &[u32] {
        let count = self.words[self.layout.counts(layer) + sample] as usize;
        &self.words[self.layout.kept(layer) + self.sample_rows(super::ALL, sample).start..][..count]
    }
}

/// Computes every kernel at once, with the instructions of one SIMD level.
pub struct CpuBackend {
    cores: Cores,
    /// Keys and values as the products want them.
    scratch: Vec<f32>,
    /// Inputs of a linear layer whose weight is int8.
    int8_rows: Int8Rows,
    stage_hook: Arc<Mutex<Option<StageHook>>>,
    compact_weights: bool,
}

impl CpuBackend {
    /// A backend for this CPU's best instructions.
    pub fn new() -> Self {
        Self::with_level(Level::new())
    }

    /// A backend for lesser instructions.
    pub fn with_level(level: Level) -> Self {
        Self {
            cores: Cores::new(level),
            scratch: Vec::new(),
            int8_rows: Int8Rows::default(),
            stage_hook: Arc::default(),
            compact_weights: false,
        }
    }

    /// Whether this CPU has an instruction that multiplies and adds int8.
    pub fn has_int8_dot_product(&self) -> bool {
        !matches!(self.cores.dot, Dot::Pairs)
    }

    /// Without that instruction: what CPUs compute with that have none. Results are the same, bit for bit.
    #[must_use]
    pub fn without_int8_dot_product(mut self) -> Self {
        self.cores.dot = Dot::Pairs;
        self
    }

    /// Whether f16 weights that are created from now on stay f16 in memory, at half the size. Every use widens them then, which
    /// costs a tenth of the time of a short text or more, and less of a long one. Results are the same, bit for bit.
    pub fn set_compact_weights(&mut self, compact_weights: bool) {
        self.compact_weights = compact_weights;
    }

    /// Sets what is called as each stage begins, one call at a time, on the thread that runs the stage: chunks of a batch may run on
    /// several. Kernels are done when they return, so that a clock in there measures a thread's stages.
    pub fn set_stage_hook(&mut self, hook: Option<StageHook>) {
        *self.stage_hook.lock().unwrap_or_else(PoisonError::into_inner) = hook;
    }

    /// Another backend that computes at the same time: it takes the same matrices, hook and threads.
    pub(crate) fn fork(&self) -> Self {
        Self {
            cores: self.cores.clone(),
            scratch: Vec::new(),
            int8_rows: Int8Rows::default(),
            stage_hook: Arc::clone(&self.stage_hook),
            compact_weights: self.compact_weights,
        }
    }

    /// Threads that its kernels take now.
    #[cfg(all(test, feature = "threads"))]
    pub(crate) fn num_threads(&self) -> usize {
        self.cores.threads_per_caller()
    }

    /// Counts as one that computes until it is dropped: as many forks as do so share the threads.
    pub(crate) fn enter(&self) -> Caller {
        self.cores.enter()
    }
}

impl Default for CpuBackend {
    fn default() -> Self {
        Self::new()
    }
}

impl Backend for CpuBackend {
    type Matrix = CpuMatrix;
    type Linear = CpuLinear;
    type LayerNorm = PackedLayerNorm;
    type Index = CpuIndex;
    /// Kernels are done when they return: the words.
    type Pending = Vec<Vec<u32>>;

    const COMPUTES_ON_HOST: bool = true;

    fn max_binding_bytes(&self) -> u64 {
        MAX_BINDING_BYTES
    }

    fn max_pruned_tokens(&self) -> usize {
        MAX_PRUNED_TOKENS
    }

    fn max_chunk_multiply_adds(&self) -> u64 {
        // Some tenths of a second of one core with AVX2; a run is cancelled between two layers of a chunk.
        3_000_000_000
    }

    fn create_matrix(&mut self, label: &'static str, num_rows: usize, width: usize) -> Result<CpuMatrix> {
        let mut values = Vec::new();
        let len = num_rows.saturating_mul(row_stride(width));
        values
            .try_reserve_exact(len)
            .map_err(|_| Error::OutOfMemory { what: format!("{label} [{num_rows}, {width}] f32") })?;
        values.resize(len, 0.0);
        Ok(CpuMatrix { values, num_rows, width })
    }

    fn create_index(&mut self, num_words: usize) -> Result<CpuIndex> {
        Ok(CpuIndex { layout: ChunkLayout::host_words(&[], 0, &[], 1).0, words: vec![0; num_words] })
    }

    fn create_linear(&mut self, _label: &str, linear: &PackedLinear) -> Result<CpuLinear> {
        if matches!(linear.weight, PackedValues::I8 { .. }) {
            check_int8_inputs(linear)?;
        }
        Ok(CpuLinear::new(&self.cores, linear, self.compact_weights))
    }

    fn create_layer_norm(&mut self, _label: &str, layer_norm: &PackedLayerNorm) -> Result<PackedLayerNorm> {
        Ok(layer_norm.clone())
    }

    fn release(&mut self) {}

    fn begin_chunk(&mut self, index: &mut CpuIndex, layout: ChunkLayout, words: &[u32]) -> Result<()> {
        check(layout.num_words() <= index.words.len(), "begin_chunk", "layout", layout.num_words(), index.words.len())?;
        index.layout = layout;
        self.write_index(index, 0, words)
    }

    fn begin_stage(&mut self, stage: Stage) {
        if let Some(hook) = &mut *self.stage_hook.lock().unwrap_or_else(PoisonError::into_inner) {
            hook(stage);
        }
    }

    fn write_index(&mut self, index: &mut CpuIndex, at: usize, words: &[u32]) -> Result<()> {
        check(at + words.len() <= index.words.len(), "write_index", "words", at + words.len(), index.words.len())?;
        index.words[at..][..words.len()].copy_from_slice(words);
        Ok(())
    }

    fn write_matrix(&mut self, matrix: &mut CpuMatrix, first_row: usize, values: &[f32]) -> Result<()> {
        check(first_row <= matrix.num_rows, "write_matrix", "first_row", first_row, matrix.num_rows)?;
        let capacity = (matrix.num_rows - first_row) * matrix.stride();
        check(values.len() <= capacity, "write_matrix", "values", values.len(), capacity)?;
        let first_value = first_row * matrix.stride();
        matrix.values[first_value..first_value + values.len()].copy_from_slice(values);
        Ok(())
    }

    fn gather_rows(
        &mut self,
        input: &CpuMatrix,
        columns: Range<usize>,
        index: &CpuIndex,
        rows: Rows,
        output: &mut CpuMatrix,
    ) -> Result<()> {
        gather_rows::gather_rows(&self.cores, input, columns, index, rows, output)
    }

    fn layer_norm(
        &mut self,
        input: &CpuMatrix,
        layer_norm: &PackedLayerNorm,
        index: &CpuIndex,
        rows: Rows,
        output: &mut CpuMatrix,
    ) -> Result<()> {
        layer_norm::layer_norm(&self.cores, input, layer_norm, index, rows, output)
    }

    fn linear(&mut self, call: Linear<'_, Self>, index: &CpuIndex, output: &mut CpuMatrix) -> Result<()> {
        linear::linear(&self.cores, &call, index, &mut self.int8_rows, output)
    }

    fn attention(&mut self, call: Attention<'_, Self>, index: &CpuIndex, output: &mut CpuMatrix) -> Result<()> {
        attention::attention(&self.cores, &call, index, &mut self.scratch, output)
    }

    fn attention_maps(
        &mut self,
        call: AttentionMap<'_, Self>,
        index: &CpuIndex,
        stats: &mut CpuMatrix,
        maps: &mut CpuMatrix,
        context: Option<&mut CpuMatrix>,
    ) -> Result<()> {
        attention_maps::attention_maps(&self.cores, &call, index, &mut self.scratch, stats, maps, context)
    }

    fn back_tracking(
        &mut self,
        call: BackTracking<'_, Self>,
        index: &mut CpuIndex,
        token_scores: &mut CpuMatrix,
    ) -> Result<()> {
        back_tracking::run(&self.cores, &call, index, token_scores)
    }

    fn select_tokens(
        &mut self,
        call: SelectTokens<'_, Self>,
        index: &mut CpuIndex,
        token_scores: &mut CpuMatrix,
    ) -> Result<()> {
        select_tokens::run(&call, index, token_scores)
    }

    fn pack_rows(&mut self, levels: Range<usize>, index: &mut CpuIndex) -> Result<()> {
        pack_rows::pack_rows(levels, index)
    }

    fn overlaps(&self) -> bool {
        false
    }

    fn submit(&mut self, regions: &[Region<'_, Self>]) -> Result<Vec<Vec<u32>>> {
        let one = |region: &Region<'_, Self>| match region {
            Region::Matrix(matrix, num_rows) => {
                check(*num_rows <= matrix.num_rows, "read", "rows", num_rows, matrix.num_rows)?;
                Ok(matrix.values[..num_rows * matrix.stride()].iter().map(|value| value.to_bits()).collect())
            }
            Region::Index(index, words) => {
                check(words.end <= index.words.len(), "read", "words", words.end, index.words.len())?;
                Ok(index.words[words.clone()].to_vec())
            }
        };
        regions.iter().map(one).collect()
    }

    async fn finish(&mut self, words: Vec<Vec<u32>>) -> Result<Vec<Vec<u32>>> {
        Ok(words)
    }
}
