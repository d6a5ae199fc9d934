//! output[i] = concat_h softmax_j(Q_h[i] · K_h[j] / √d) · V_h[j], j over the key rows of i's sample.

use fearless_simd::{Simd, dispatch};

use super::cores::Cores;
use super::math::exponentials;
use super::scores::{MAX_GROUP_ROWS, PackedHeads, groups, head_columns};
use super::{CpuBackend, CpuIndex, CpuMatrix};
use crate::backend::{Attention, MatrixShape, check};
use crate::error::Result;

pub fn attention(
    cores: &Cores,
    call: &Attention<'_, CpuBackend>,
    index: &CpuIndex,
    scratch: &mut Vec<f32>,
    output: &mut CpuMatrix,
) -> Result<()> {
    let heads = call.heads;
    let stride = heads.stride();
    check(call.query.stride() >= stride, "attention", "query", call.query.stride(), stride)?;
    check(call.qkv.stride() == 3 * stride, "attention", "qkv", call.qkv.stride(), 3 * stride)?;
    check(output.stride() == stride, "attention", "output", output.stride(), stride)?;
    let num_rows = index.num_rows(call.query_rows.level);
    let max_rows = output.num_rows.min(call.query.num_rows);
    check(num_rows <= max_rows, "attention", "rows", num_rows, max_rows)?;
    let num_keys = index.num_rows(call.key_rows.level);
    check(num_keys <= call.qkv.num_rows, "attention", "key rows", num_keys, call.qkv.num_rows)?;
    let keys = PackedHeads::new(cores, call.qkv, heads, index, call.key_rows.level, true, scratch);
    cores.for_each_block(output, num_rows, |first_row, values| {
        dispatch!(cores.level, simd => block(simd, call, index, &keys, first_row, values));
    });
    Ok(())
}

/// The rows from `first_row` that `output` holds.
#[inline(always)]
fn block<S: Simd>(
    simd: S,
    call: &Attention<'_, CpuBackend>,
    index: &CpuIndex,
    keys: &PackedHeads<'_>,
    first_row: usize,
    output: &mut [f32],
) {
    let (stride, size) = (call.heads.stride(), call.heads.head_stride());
    let (mut scores, mut scratch) = (Vec::new(), Vec::new());
    let rows = first_row..first_row + output.len() / stride;
    call.heads.clear_padding(output);
    for (sample, group) in groups(index, call.query_rows.level, rows) {
        let scores_stride = keys.scores_stride(sample);
        scores.resize(group.len() * scores_stride, 0.0);
        let output = &mut output[(group.start - first_row) * stride..][..group.len() * stride];
        for head in 0..call.heads.num_heads {
            let queries: [_; MAX_GROUP_ROWS] = head_columns(call.query, group.clone(), head * size..(head + 1) * size);
            keys.scores(simd, sample, head, &queries[..group.len()], &mut scores);
            let mut sums = [0.0; MAX_GROUP_ROWS];
            for (scores, sum) in scores.chunks_exact_mut(scores_stride).zip(&mut sums) {
                *sum = exponentials(simd, scores);
            }
            keys.context(simd, (sample, head), &scores, &sums[..group.len()], output, &mut scratch);
        }
    }
}
