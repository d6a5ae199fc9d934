//! K_{l+1}: of K_l, the k tokens with the largest mean attention received from the rows of K_l, and `[CLS]`.

use super::buffers::{GpuIndex, GpuMatrix};
use super::kernel::{params, shader};
use super::queue::{Dispatch, Recorder};
use crate::backend::{ALL, MAX_PRUNED_TOKENS, MatrixShape, check};
use crate::error::Result;

params! {
    struct Params {
        num_samples: u32,
        offsets_at: u32,
        map_offsets_at: u32,
        first_map_value: u32,
        k_at: u32,
        counts_at: u32,
        kept_at: u32,
        next_counts_at: u32,
        next_kept_at: u32,
        first_score: u32,
    }
}

shader!("forward_top_k", [], [Read, ReadWrite, ReadWrite]);

pub fn dispatch(
    recorder: &mut Recorder,
    maps: &GpuMatrix,
    layer: usize,
    index: &GpuIndex,
    token_scores: &GpuMatrix,
) -> Result<()> {
    let layout = index.layout;
    check(layout.max_tokens <= MAX_PRUNED_TOKENS, "forward_top_k", "tokens", layout.max_tokens, MAX_PRUNED_TOKENS)?;
    let num_values = (layer + 1) * layout.num_map_values;
    check(maps.stride() >= num_values, "forward_top_k", "maps", maps.stride(), num_values)?;
    check(layer < layout.num_layers, "forward_top_k", "layer", layer, format_args!("less than {}", layout.num_layers))?;
    check(token_scores.num_rows > layer, "forward_top_k", "token_scores", token_scores.num_rows, layer + 1)?;
    check(
        token_scores.width >= layout.num_tokens,
        "forward_top_k",
        "token_scores",
        token_scores.width,
        layout.num_tokens,
    )?;
    let params = Params {
        num_samples: layout.num_samples as u32,
        offsets_at: layout.offsets(ALL) as u32,
        map_offsets_at: layout.map_offsets() as u32,
        first_map_value: (layer * layout.num_map_values) as u32,
        k_at: layout.k(layer) as u32,
        counts_at: layout.counts(layer) as u32,
        kept_at: layout.kept(layer) as u32,
        next_counts_at: layout.counts(layer + 1) as u32,
        next_kept_at: layout.kept(layer + 1) as u32,
        first_score: (layer * token_scores.stride()) as u32,
    };
    recorder.dispatch(Dispatch {
        shader: &SHADER,
        constants: &[],
        params: bytemuck::bytes_of(&params),
        buffers: &[&maps.buffer, &index.buffer, &token_scores.buffer],
        num_workgroups: layout.num_samples,
        multiply_adds: 3 * layout.num_map_values as u64,
    });
    Ok(())
}
