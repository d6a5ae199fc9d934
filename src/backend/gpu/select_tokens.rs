//! K_{l+1}: those of K_l that receive most attention from the rows of K_l, or more than a threshold, and the anchors.

use super::GpuBackend;
use super::buffers::{GpuIndex, GpuMatrix};
use super::kernel::{params, shader};
use super::queue::{Dispatch, Recorder};
use super::token_memory::room;
use crate::backend::{ALL, MatrixShape, SelectTokens, Selection, check};
use crate::error::Result;
use crate::pruning::{FIXED_POINT, fixed_point};

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
        num_anchors: u32,
        threshold_high: u32,
        threshold_low: u32,
    }
}

shader!("select_tokens", [], [Read, ReadWrite, ReadWrite]);

pub fn dispatch(
    recorder: &mut Recorder,
    call: &SelectTokens<'_, GpuBackend>,
    index: &GpuIndex,
    token_scores: &GpuMatrix,
) -> Result<()> {
    let (layout, layer, maps) = (index.layout, call.layer, call.maps);
    let room = room(&recorder.open, "select_tokens", layout.max_tokens)?;
    let num_values = (layer + 1) * layout.num_map_values;
    check(maps.stride() >= num_values, "select_tokens", "maps", maps.stride(), num_values)?;
    let is_layer = layer < layout.num_layers;
    check(is_layer, "select_tokens", "layer", layer, format_args!("less than {}", layout.num_layers))?;
    check(token_scores.num_rows > layer, "select_tokens", "token_scores", token_scores.num_rows, layer + 1)?;
    let width = token_scores.width;
    check(width >= layout.num_tokens, "select_tokens", "token_scores", width, layout.num_tokens)?;
    let (selection, threshold) = match call.selection {
        Selection::Largest => (0.0, 0),
        Selection::Above(threshold) => (1.0, fixed_point(threshold)),
    };
    // Of a word of the shader's sums.
    let units = FIXED_POINT.isqrt();
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
        num_anchors: call.num_anchors as u32,
        threshold_high: (threshold / units) as u32,
        threshold_low: (threshold % units) as u32,
    };
    recorder.dispatch(Dispatch {
        shader: &SHADER,
        constants: &[("SELECTION", selection), room],
        params: bytemuck::bytes_of(&params),
        buffers: &[&maps.buffer, &index.buffer, &token_scores.buffer],
        num_workgroups: layout.num_samples,
        multiply_adds: 3 * layout.num_map_values as u64,
    });
    Ok(())
}
