//! Attention back-tracking: K_{L−1} … K_0 of every sample in one dispatch, one workgroup to a sample.

use super::GpuBackend;
use super::buffers::{GpuIndex, GpuMatrix};
use super::kernel::{params, shader};
use super::queue::{Dispatch, Recorder};
use super::token_memory::room;
use crate::backend::{ALL, BackTracking, BackTrackingRule, MatrixShape, check};
use crate::error::Result;
use crate::pruning::{CONCRETE_EPS, TOP_K_EPS};

params! {
    struct Params {
        num_samples: u32,
        num_tokens: u32,
        num_layers: u32,
        num_map_values: u32,
        offsets_at: u32,
        map_offsets_at: u32,
        k_at: u32,
        counts_at: u32,
        kept_at: u32,
        scores_stride: u32,
        impact_weight: f32,
        temperature: f32,
        hard_threshold: f32,
        top_k_eps: f32,
        concrete_eps: f32,
        num_anchors: u32,
    }
}

shader!("back_tracking", [], [Read, Read, ReadWrite, ReadWrite]);

pub fn dispatch(
    recorder: &mut Recorder,
    call: &BackTracking<'_, GpuBackend>,
    index: &GpuIndex,
    token_scores: &GpuMatrix,
) -> Result<()> {
    let layout = index.layout;
    let num_layers = layout.num_layers;
    let room = room(&recorder.open, "back_tracking", layout.max_tokens)?;
    let num_values = num_layers * layout.num_map_values;
    check(call.maps.stride() >= num_values, "back_tracking", "maps", call.maps.stride(), num_values)?;
    check(call.thresholds.stride() >= num_layers, "back_tracking", "thresholds", call.thresholds.stride(), num_layers)?;
    check(token_scores.num_rows >= num_layers, "back_tracking", "token_scores", token_scores.num_rows, num_layers)?;
    check(
        token_scores.width >= layout.num_tokens,
        "back_tracking",
        "token_scores",
        token_scores.width,
        layout.num_tokens,
    )?;
    let (rule, impact_weight, temperature, hard_threshold) = match call.rule {
        BackTrackingRule::TopK { impact_weight } => (0.0, impact_weight, 1.0, 0.5),
        BackTrackingRule::Concrete { impact_weight, temperature, hard_threshold } => {
            (1.0, impact_weight, temperature, hard_threshold)
        }
    };
    let params = Params {
        num_samples: layout.num_samples as u32,
        num_tokens: layout.num_tokens as u32,
        num_layers: num_layers as u32,
        num_map_values: layout.num_map_values as u32,
        offsets_at: layout.offsets(ALL) as u32,
        map_offsets_at: layout.map_offsets() as u32,
        k_at: layout.k(0) as u32,
        counts_at: layout.counts(0) as u32,
        kept_at: layout.kept(0) as u32,
        scores_stride: token_scores.stride() as u32,
        impact_weight,
        temperature,
        hard_threshold,
        top_k_eps: TOP_K_EPS,
        concrete_eps: CONCRETE_EPS,
        num_anchors: call.num_anchors as u32,
    };
    recorder.dispatch(Dispatch {
        shader: &SHADER,
        constants: &[("RULE", rule), room],
        params: bytemuck::bytes_of(&params),
        buffers: &[&call.maps.buffer, &call.thresholds.buffer, &index.buffer, &token_scores.buffer],
        num_workgroups: layout.num_samples,
        // Scores, ranks and places each look at T² pairs.
        multiply_adds: 3 * num_values as u64,
    });
    Ok(())
}
