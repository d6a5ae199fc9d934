//! The kernels on a GPU through wgpu: one file per kernel, under the same names as the shaders.
//!
//! A kernel call records a dispatch. Submits are cut so that no browser's watchdog ends them. Nothing is mapped
//! before [`Backend::submit`]. Pipelines and bind groups are made once and found again. The `Params` of all
//! dispatches travel in one uniform buffer with dynamic offsets. So a familiar size allocates nothing.

mod attention;
mod attention_maps;
mod attention_stats;
mod back_tracking;
mod buffers;
mod calibrate;
mod device;
mod gather_rows;
mod kernel;
mod layer_norm;
mod linear;
mod pack_rows;
mod quantize_rows;
mod queue;
mod readback;
mod row_counter;
mod select_tokens;
mod timing;
mod token_memory;
mod variant;

use std::ops::Range;

use super::{
    Attention, AttentionMap, BackTracking, Backend, ChunkLayout, Linear, MapKind, MatrixShape, Region, Rows,
    SelectTokens, Stage, check,
};
use crate::error::Result;
use crate::tensor::{PackedLayerNorm, PackedLinear};

use buffers::Int8Rows;
pub use buffers::{GpuIndex, GpuLayerNorm, GpuLinear, GpuMatrix};
pub use calibrate::VariantTimes;
use device::OpenDevice;
pub use device::{AdapterDescription, GpuOptions, adapters};
pub use kernel::{Access, COUNT_ROWS, DOT4, Shader};
use queue::Recorder;
use readback::Readback;
pub use token_memory::{GUARANTEED_TOKENS, pruned_tokens};
pub use variant::{Variant, Variants};

/// All shaders, for the tests that hold them to WebGPU's limits.
pub const SHADERS: [&Shader; 16] = [
    &attention::SHADER,
    &attention::TILED,
    &attention_maps::SHADER,
    &attention_maps::TILED,
    &attention_stats::SHADER,
    &attention_stats::TILED,
    &back_tracking::SHADER,
    &gather_rows::SHADER,
    &layer_norm::SHADER,
    &linear::SHADER,
    &linear::TILED,
    &linear::INT8,
    &linear::INT8_TILED,
    &pack_rows::SHADER,
    &quantize_rows::SHADER,
    &select_tokens::SHADER,
];

/// What a backend has done since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Command buffers submitted.
    pub submits: u64,
    /// Compute passes in them.
    pub passes: u64,
    /// Buffers mapped for reading.
    pub maps: u64,
    /// Dispatches recorded.
    pub dispatches: u64,
    /// Buffers created.
    pub buffers: u64,
    /// Bind groups created.
    pub bind_groups: u64,
    /// Pipelines created.
    pub pipelines: u64,
}

/// Regions on their way to the host.
pub struct GpuPending {
    readback: Readback,
    /// Of every region.
    num_words: Vec<usize>,
}

/// A device of WebGPU, Vulkan, Metal or Direct3D.
pub struct GpuBackend {
    recorder: Recorder,
    /// Inputs of a linear layer whose weight is int8.
    int8_rows: Option<Int8Rows>,
}

impl GpuBackend {
    /// Opens a device on the adapter that `options` describe.
    ///
    /// # Errors
    /// [`crate::Error::NoAdapter`] with the list of those found; [`crate::Error::Gpu`] when the adapter gives no device, [`crate::Error::DeviceLost`]
    /// when that is lost at once.
    pub async fn new(options: &GpuOptions) -> Result<Self> {
        let open = OpenDevice::new(options).await?;
        // About 0.3 s: software adapters compute 1 to 5 G multiply-adds a second here; the slowest hardware some 50.
        let max_submit_multiply_adds = if open.adapter.software { 500_000_000 } else { 15_000_000_000 };
        let is_software = open.adapter.software;
        let mut backend = Self { recorder: Recorder::new(open, max_submit_multiply_adds), int8_rows: None };
        // Software keeps the wide variants that a recorder starts with: there the tiled ones lose, and measuring takes long.
        if !is_software {
            let fastest = backend.fastest_variants().await?;
            backend.set_variants(fastest);
        }
        Ok(backend)
    }

    /// The adapter that it runs on.
    pub fn adapter(&self) -> &AdapterDescription {
        &self.recorder.open.adapter
    }

    /// The variants that it runs.
    pub fn variants(&self) -> Variants {
        self.recorder.variants
    }

    /// Takes other variants than those chosen for this device: [`Variant::Wide`] on software, elsewhere the fastest ones, see
    /// [`GpuBackend::time_variants`]. One that the driver refuses is an error when results are read.
    pub fn set_variants(&mut self, variants: Variants) {
        self.recorder.variants = variants;
    }

    /// What it has done so far.
    pub fn counters(&self) -> Counters {
        self.recorder.counters
    }

    /// Starts or ends measuring stages by the device's own clock; says whether it is on now. Each stage is a compute pass then,
    /// so that runs are a little slower.
    pub fn set_stage_timing(&mut self, on: bool) -> bool {
        self.recorder.set_timing(on)
    }

    /// Milliseconds of the device for every stage of the runs since the last call, in the order in which they began.
    pub fn take_stages_ms(&mut self) -> Vec<(Stage, f64)> {
        self.recorder.take_stages_ms()
    }

    /// Ends the device as a driver reset would: later calls give [`crate::Error::DeviceLost`].
    pub fn destroy_device(&self) {
        self.recorder.open.device.destroy();
        self.recorder.errors().set_lost("the device was destroyed".to_owned());
    }

    /// From here on every kernel counts the rows that it computes. A backend that never counts compiles shaders without a counter.
    #[cfg(feature = "internals")]
    pub fn start_counting(&mut self) {
        self.recorder.start_counting();
    }

    /// Multiply-adds that the kernels counted since [`GpuBackend::start_counting`].
    #[cfg(feature = "internals")]
    pub async fn counted_multiply_adds(&mut self) -> Result<u64> {
        self.recorder.counted().await
    }
}

impl Backend for GpuBackend {
    type Matrix = GpuMatrix;
    type Linear = GpuLinear;
    type LayerNorm = GpuLayerNorm;
    type Index = GpuIndex;
    type Pending = GpuPending;

    const COMPUTES_ON_HOST: bool = false;

    fn max_binding_bytes(&self) -> u64 {
        self.recorder.open.device.limits().max_storage_buffer_binding_size
    }

    fn max_pruned_tokens(&self) -> usize {
        pruned_tokens(self.recorder.open.device.limits().max_compute_workgroup_storage_size)
    }

    fn max_chunk_multiply_adds(&self) -> u64 {
        // A chunk has some 100 dispatches and its largest about 1/50 of the work, so none comes near a second.
        if self.adapter().software { 20_000_000_000 } else { 1_000_000_000_000 }
    }

    fn create_matrix(&mut self, label: &'static str, num_rows: usize, width: usize) -> Result<GpuMatrix> {
        let stride = crate::tensor::row_stride(width);
        let buffer = self.recorder.create_buffer(label, 4 * num_rows as u64 * stride as u64)?;
        Ok(GpuMatrix { buffer, num_rows, width })
    }

    fn create_index(&mut self, num_words: usize) -> Result<GpuIndex> {
        let buffer = self.recorder.create_buffer("index", 4 * num_words as u64)?;
        Ok(GpuIndex { buffer, layout: ChunkLayout::host_words(&[], 0, &[], 1).0, num_words })
    }

    fn create_linear(&mut self, label: &str, linear: &PackedLinear) -> Result<GpuLinear> {
        linear::create(&mut self.recorder, label, linear)
    }

    fn create_layer_norm(&mut self, label: &str, layer_norm: &PackedLayerNorm) -> Result<GpuLayerNorm> {
        let both = [layer_norm.weight.as_slice(), layer_norm.bias.as_slice()].concat();
        let weight = self.recorder.upload(label, bytemuck::cast_slice(&both))?;
        Ok(GpuLayerNorm { weight, width: layer_norm.width, eps: layer_norm.eps })
    }

    fn release(&mut self) {
        self.int8_rows = None;
        self.recorder.release();
    }

    fn begin_chunk(&mut self, index: &mut GpuIndex, layout: ChunkLayout, words: &[u32]) -> Result<()> {
        check(layout.num_words() <= index.num_words, "begin_chunk", "layout", layout.num_words(), index.num_words)?;
        self.recorder.start();
        self.recorder.errors().check()?;
        index.layout = layout;
        self.write_index(index, 0, words)
    }

    fn begin_stage(&mut self, stage: Stage) {
        self.recorder.stage = stage;
    }

    fn write_index(&mut self, index: &mut GpuIndex, at: usize, words: &[u32]) -> Result<()> {
        check(at + words.len() <= index.num_words, "write_index", "words", at + words.len(), index.num_words)?;
        self.recorder.write(&index.buffer, 4 * at as u64, bytemuck::cast_slice(words));
        Ok(())
    }

    fn write_matrix(&mut self, matrix: &mut GpuMatrix, first_row: usize, values: &[f32]) -> Result<()> {
        check(first_row <= matrix.num_rows, "write_matrix", "first_row", first_row, matrix.num_rows)?;
        let capacity = (matrix.num_rows - first_row) * matrix.stride();
        check(values.len() <= capacity, "write_matrix", "values", values.len(), capacity)?;
        let offset = (first_row * matrix.stride() * size_of::<f32>()) as u64;
        self.recorder.write(&matrix.buffer, offset, bytemuck::cast_slice(values));
        Ok(())
    }

    fn gather_rows(
        &mut self,
        input: &GpuMatrix,
        columns: Range<usize>,
        index: &GpuIndex,
        rows: Rows,
        output: &mut GpuMatrix,
    ) -> Result<()> {
        gather_rows::dispatch(&mut self.recorder, input, columns, index, rows, output)
    }

    fn layer_norm(
        &mut self,
        input: &GpuMatrix,
        layer_norm: &GpuLayerNorm,
        index: &GpuIndex,
        rows: Rows,
        output: &mut GpuMatrix,
    ) -> Result<()> {
        layer_norm::dispatch(&mut self.recorder, input, layer_norm, index, rows, output)
    }

    fn linear(&mut self, call: Linear<'_, Self>, index: &GpuIndex, output: &mut GpuMatrix) -> Result<()> {
        linear::dispatch(&mut self.recorder, &call, index, &mut self.int8_rows, output)
    }

    fn attention(&mut self, call: Attention<'_, Self>, index: &GpuIndex, output: &mut GpuMatrix) -> Result<()> {
        attention::dispatch(&mut self.recorder, &call, index, output, None)
    }

    fn attention_maps(
        &mut self,
        call: AttentionMap<'_, Self>,
        index: &GpuIndex,
        stats: &mut GpuMatrix,
        maps: &mut GpuMatrix,
        context: Option<&mut GpuMatrix>,
    ) -> Result<()> {
        call.check(call.rows.bound, &index.layout, stats, maps, context.as_deref())?;
        let AttentionMap { qkv, heads, rows, kind, .. } = call;
        // Attention finds the maximum and the sum of every row; the other statistics cost a pass of their own.
        let mut has_stats = false;
        if let Some(context) = context {
            has_stats = kind == MapKind::MeanProbs;
            let attention = Attention { query: qkv, qkv, heads, query_rows: rows, key_rows: rows };
            attention::dispatch(&mut self.recorder, &attention, index, context, has_stats.then_some(&*stats))?;
        }
        if !has_stats {
            attention_stats::dispatch(&mut self.recorder, &call, index, stats)?;
        }
        attention_maps::dispatch(&mut self.recorder, &call, stats, index, maps)
    }

    fn back_tracking(
        &mut self,
        call: BackTracking<'_, Self>,
        index: &mut GpuIndex,
        token_scores: &mut GpuMatrix,
    ) -> Result<()> {
        back_tracking::dispatch(&mut self.recorder, &call, index, token_scores)
    }

    fn select_tokens(
        &mut self,
        call: SelectTokens<'_, Self>,
        index: &mut GpuIndex,
        token_scores: &mut GpuMatrix,
    ) -> Result<()> {
        select_tokens::dispatch(&mut self.recorder, &call, index, token_scores)
    }

    fn pack_rows(&mut self, levels: Range<usize>, index: &mut GpuIndex) -> Result<()> {
        pack_rows::dispatch(&mut self.recorder, levels, index)
    }

    fn overlaps(&self) -> bool {
        // The timestamps of a chunk are read before the next one writes its own.
        !self.recorder.is_timed()
    }

    fn submit(&mut self, regions: &[Region<'_, Self>]) -> Result<GpuPending> {
        let mut copies = Vec::with_capacity(regions.len());
        for region in regions {
            let (buffer, words) = match region {
                Region::Matrix(matrix, num_rows) => {
                    check(*num_rows <= matrix.num_rows, "read", "rows", num_rows, matrix.num_rows)?;
                    (&matrix.buffer, 0..num_rows * matrix.stride())
                }
                Region::Index(index, words) => {
                    check(words.end <= index.num_words, "read", "words", words.end, index.num_words)?;
                    (&index.buffer, words.clone())
                }
            };
            copies.push((&buffer.buffer, 4 * words.start as u64, 4 * words.len() as u64));
        }
        let num_words = copies.iter().map(|(_, _, bytes)| (bytes / 4) as usize).collect();
        Ok(GpuPending { readback: self.recorder.start_read(&copies), num_words })
    }

    async fn finish(&mut self, pending: GpuPending) -> Result<Vec<Vec<u32>>> {
        let words = self.recorder.finish_read(pending.readback).await?;
        let mut rest = words.as_slice();
        let part = |num_words: usize| {
            let (part, tail) = rest.split_at(num_words);
            rest = tail;
            part.to_vec()
        };
        Ok(pending.num_words.into_iter().map(part).collect())
    }
}
