//! Buffers in GPU memory and what they hold.

use crate::backend::{ChunkLayout, MatrixShape};
use crate::tensor::row_stride;

/// A buffer with a number by which bind groups are found again.
#[derive(Debug, Clone)]
pub struct GpuBuffer {
    pub buffer: wgpu::Buffer,
    pub id: u64,
}

/// f32 rows in GPU memory.
#[derive(Debug)]
pub struct GpuMatrix {
    pub(super) buffer: GpuBuffer,
    pub(super) num_rows: usize,
    pub(super) width: usize,
}

impl MatrixShape for GpuMatrix {
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

impl GpuMatrix {
    /// `vec4`s from one row to the next.
    pub(super) fn stride4(&self) -> u32 {
        (self.stride() / 4) as u32
    }
}

/// What a weight's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightType {
    F32,
    F16,
    Int8,
}

/// Weight and bias of a linear layer.
#[derive(Debug)]
pub struct GpuLinear {
    /// `[out_stride, in_stride]`; of int8 the rows are padded to 16 values.
    pub(super) weight: GpuBuffer,
    /// `[out_stride]`, of int8 followed by the scales of the outputs.
    pub(super) bias: GpuBuffer,
    pub(super) weight_type: WeightType,
    pub(super) in_features: usize,
    pub(super) in_stride: usize,
    pub(super) out_features: usize,
    pub(super) out_stride: usize,
}

/// Rows of a linear layer's input as int8, with a scale for each: scratch of the backend.
#[derive(Debug)]
pub struct Int8Rows {
    pub(super) numbers: GpuBuffer,
    pub(super) scales: GpuBuffer,
    /// Scales that fit.
    pub(super) num_rows: usize,
    /// Words of four numbers that fit.
    pub(super) num_words: usize,
}

/// Weight and bias of a layer normalisation, in one buffer.
#[derive(Debug)]
pub struct GpuLayerNorm {
    pub(super) weight: GpuBuffer,
    pub(super) width: usize,
    pub(super) eps: f32,
}

/// The index buffer with the layout of the running chunk.
#[derive(Debug)]
pub struct GpuIndex {
    pub(super) buffer: GpuBuffer,
    pub(super) layout: ChunkLayout,
    pub(super) num_words: usize,
}
