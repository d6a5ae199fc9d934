//! What kernels compute with.

use fearless_simd::Level;

use super::CpuMatrix;
use super::int8::Dot;
use super::product::MAX_TILE_ROWS;
use crate::backend::MatrixShape;
use crate::parallel::{Caller, Threads};

/// Instructions, and a fair share of the threads.
#[derive(Debug, Clone)]
pub struct Cores {
    pub level: Level,
    pub dot: Dot,
    threads: Threads,
}

impl Cores {
    pub fn new(level: Level) -> Self {
        Self { level, dot: Dot::new(level), threads: Threads::default() }
    }

    /// See [`Threads::enter`].
    pub fn enter(&self) -> Caller {
        self.threads.enter()
    }

    /// See [`Threads::threads_per_caller`].
    pub fn threads_per_caller(&self) -> usize {
        self.threads.threads_per_caller()
    }

    /// See [`Threads::for_each`].
    pub fn for_each<T: Send>(&self, tasks: Vec<T>, compute: impl Fn(T) + Sync) {
        self.threads.for_each(tasks, compute);
    }

    /// Calls `compute(first_row, values)` for blocks of the first `num_rows` rows of `output`.
    pub fn for_each_block(
        &self,
        output: &mut CpuMatrix,
        num_rows: usize,
        compute: impl Fn(usize, &mut [f32]) + Sync + Send,
    ) {
        let stride = output.stride();
        self.for_each_block_of(&mut output.values[..num_rows * stride], stride, compute);
    }

    /// The same for rows of `stride` values that are in no matrix.
    pub fn for_each_block_of<T: Send>(
        &self,
        values: &mut [T],
        stride: usize,
        compute: impl Fn(usize, &mut [T]) + Sync + Send,
    ) {
        self.threads.for_each_block(values, stride, MAX_TILE_ROWS, compute);
    }
}
