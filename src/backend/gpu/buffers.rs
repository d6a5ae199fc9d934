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

/// Weight, f16 or f32, and bias of a linear layer. Int8 is widened to f32: no kernel multiplies it.
#[derive(Debug)]
pub struct GpuLinear {
    pub(super) weight: GpuBuffer,
    pub(super) bias: GpuBuffer,
    pub(super) is_f16: bool,
    pub(super) in_features: usize,
    pub(super) in_stride: usize,
    pub(super) out_features: usize,
    pub(super) out_stride: usize,
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
