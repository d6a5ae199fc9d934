//! output[i] = concat_h softmax_j(Q_h[i] · K_h[j] / √d) · V_h[j], j over the key rows of i's sample.
//!
//! The softmax is streamed: a running maximum, a running sum, and an output that is rescaled when the maximum grows.

use super::math::dot;
use super::rows::for_each_row;
use super::{CpuBackend, CpuIndex, CpuMatrix};
use crate::backend::{Attention, MatrixShape, check};
use crate::error::Result;

pub fn attention(call: &Attention<'_, CpuBackend>, index: &CpuIndex, output: &mut CpuMatrix) -> Result<()> {
    let heads = call.heads;
    let (stride, size) = (heads.stride(), heads.head_stride());
    check(call.query.stride() >= stride, "attention", "query", call.query.stride(), stride)?;
    check(call.qkv.stride() == 3 * stride, "attention", "qkv", call.qkv.stride(), 3 * stride)?;
    check(output.stride() == stride, "attention", "output", output.stride(), stride)?;
    let num_rows = index.num_rows(call.query_rows.level);
    let max_rows = output.num_rows.min(call.query.num_rows);
    check(num_rows <= max_rows, "attention", "rows", num_rows, max_rows)?;
    let num_keys = index.num_rows(call.key_rows.level);
    check(num_keys <= call.qkv.num_rows, "attention", "key rows", num_keys, call.qkv.num_rows)?;
    for_each_row(output, num_rows, |row, values| {
        let keys = index.sample_rows(call.key_rows.level, index.sample_of_row(call.query_rows.level, row));
        values.fill(0.0);
        for head in 0..heads.num_heads {
            let columns = head * size..(head + 1) * size;
            let query = &call.query.row(row)[columns.clone()];
            let context = &mut values[columns.clone()];
            let (mut maximum, mut sum) = (f32::NEG_INFINITY, 0.0);
            for key in keys.clone() {
                let qkv = call.qkv.row(key);
                let score = dot(query, &qkv[stride..][columns.clone()]) * heads.scale();
                if score > maximum {
                    let rescale = (maximum - score).exp();
                    context.iter_mut().for_each(|value| *value *= rescale);
                    sum *= rescale;
                    maximum = score;
                }
                let weight = (score - maximum).exp();
                sum += weight;
                for (value, v) in context.iter_mut().zip(&qkv[2 * stride..][columns.clone()]) {
                    *value += weight * v;
                }
            }
            context.iter_mut().for_each(|value| *value /= sum);
        }
    });
    Ok(())
}
