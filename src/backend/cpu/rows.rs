//! The one place that knows about threads: a loop over the rows of a matrix.

use super::CpuMatrix;
use crate::backend::MatrixShape;

/// Calls `compute(row, values)` for the first `num_rows` rows of `output`.
///
/// Each row is computed alone, so the result does not depend on the number of threads.
pub fn for_each_row(output: &mut CpuMatrix, num_rows: usize, compute: impl Fn(usize, &mut [f32]) + Sync + Send) {
    let stride = output.stride();
    let values = &mut output.values[..num_rows * stride];
    #[cfg(feature = "threads")]
    {
        use rayon::prelude::*;
        values.par_chunks_mut(stride).enumerate().for_each(|(row, values)| compute(row, values));
    }
    #[cfg(not(feature = "threads"))]
    for (row, values) in values.chunks_exact_mut(stride).enumerate() {
        compute(row, values);
    }
}
