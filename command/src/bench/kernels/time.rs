//! Running one kernel until its time is known.

use std::time::Instant;

use sttabt::backend::{
    ALL, Attention, AttentionMap, BackTracking, BackTrackingRule, Backend, ChunkLayout, Linear, MapKind, MatrixShape,
    Region, Rows, SelectTokens, Selection, kept_level,
};
use sttabt::tensor::{DType, HeadSide, PackedLayerNorm, PackedLinear, Tensor, row_stride};

use super::super::times::Times;
use super::work::{KEPT_STEP, NUM_LAYERS, Work};

/// Calls of one measurement together take about this long, so that waiting for the device costs next to nothing.
const ROUND_MS: f64 = 30.0;
const MAX_CALLS: usize = 1000;
const NUM_ROUNDS: usize = 9;

impl Work {
    /// Milliseconds of one call.
    pub async fn time<B: Backend>(&self, backend: &mut B) -> sttabt::Result<Option<Times>> {
        let lengths = self.lengths();
        let (layout, mut index) = index(backend, &lengths)?;
        let num_rows = layout.num_tokens;
        let rows = Rows { level: ALL, bound: num_rows };
        match *self {
            Self::Linear { in_features, out_features, weights, activation, residual, .. } => {
                let linear = packed_linear(in_features, out_features, weights)?;
                let linear = backend.create_linear("linear", &linear)?;
                let input = matrix(backend, num_rows, in_features)?;
                let residual = if residual { Some(matrix(backend, num_rows, out_features)?) } else { None };
                let output = backend.create_matrix("output", num_rows, out_features)?;
                let features = 0..output.stride();
                rounds(backend, output, |backend, output| {
                    let (features, residual) = (features.clone(), residual.as_ref());
                    let call = Linear {
                        input: &input,
                        linear: &linear,
                        features,
                        activation,
                        residual,
                        rows,
                        output_column: 0,
                    };
                    backend.linear(call, &index, output)
                })
                .await
            }
            Self::LayerNorm { width, .. } => {
                let values: Vec<u8> = values(width).iter().flat_map(|value| value.to_le_bytes()).collect();
                let tensor = Tensor { dtype: DType::F32, shape: vec![width], bytes: &values, scales: &[] };
                let norm = backend.create_layer_norm("norm", &PackedLayerNorm::new(&tensor, &tensor, 1e-12))?;
                let input = matrix(backend, num_rows, width)?;
                let output = backend.create_matrix("output", num_rows, width)?;
                rounds(backend, output, |backend, output| backend.layer_norm(&input, &norm, &index, rows, output)).await
            }
            Self::GatherRows { width, kept, .. } => {
                let rows = if kept { Rows { level: kept_level(0), ..rows } } else { rows };
                let input = matrix(backend, num_rows, width)?;
                let output = backend.create_matrix("output", num_rows, width)?;
                let columns = 0..input.stride();
                let call = |backend: &mut B, output: &mut B::Matrix| {
                    backend.gather_rows(&input, columns.clone(), &index, rows, output)
                };
                rounds(backend, output, call).await
            }
            Self::Attention { heads, .. } => {
                let qkv = matrix(backend, num_rows, 3 * heads.stride())?;
                let output = backend.create_matrix("output", num_rows, heads.stride())?;
                rounds(backend, output, |backend, output| {
                    let call = Attention { query: &qkv, qkv: &qkv, heads, query_rows: rows, key_rows: rows };
                    backend.attention(call, &index, output)
                })
                .await
            }
            Self::AttentionMaps { heads, .. } => {
                let qkv = matrix(backend, num_rows, 3 * heads.stride())?;
                let mut stats = backend.create_matrix("stats", num_rows, 2 * heads.num_heads)?;
                let mut context = backend.create_matrix("context", num_rows, heads.stride())?;
                let maps = backend.create_matrix("maps", 1, layout.num_map_values)?;
                rounds(backend, maps, |backend, maps| {
                    let call = AttentionMap { qkv: &qkv, heads, kind: MapKind::MeanProbs, rows, layer: 0 };
                    backend.attention_maps(call, &index, &mut stats, maps, Some(&mut context))
                })
                .await
            }
            Self::BackTracking { concrete, .. } => {
                let maps = matrix(backend, 1, NUM_LAYERS * layout.num_map_values)?;
                let thresholds = matrix(backend, 1, NUM_LAYERS)?;
                let scores = backend.create_matrix("scores", NUM_LAYERS, num_rows)?;
                let rule = if concrete {
                    BackTrackingRule::Concrete { impact_weight: 0.1, temperature: 0.1, hard_threshold: 0.5 }
                } else {
                    BackTrackingRule::TopK { impact_weight: 0.5 }
                };
                rounds(backend, scores, |backend, scores| {
                    backend.back_tracking(
                        BackTracking { rule, maps: &maps, thresholds: &thresholds, num_anchors: 1 },
                        &mut index,
                        scores,
                    )
                })
                .await
            }
            Self::SelectTokens { .. } => {
                let maps = matrix(backend, 1, NUM_LAYERS * layout.num_map_values)?;
                let scores = backend.create_matrix("scores", NUM_LAYERS, num_rows)?;
                rounds(backend, scores, |backend, scores| {
                    let call = SelectTokens { maps: &maps, layer: 0, selection: Selection::Largest, num_anchors: 1 };
                    backend.select_tokens(call, &mut index, scores)
                })
                .await
            }
            Self::PackRows { .. } => {
                let nothing = matrix(backend, 1, 8)?;
                rounds(backend, nothing, |backend, _| {
                    backend.pack_rows(kept_level(0)..kept_level(NUM_LAYERS) + 1, &mut index)
                })
                .await
            }
        }
    }
}

/// Calls a kernel until its time is known; the device's work is waited for once a round.
async fn rounds<B: Backend>(
    backend: &mut B,
    mut output: B::Matrix,
    mut call: impl FnMut(&mut B, &mut B::Matrix) -> sttabt::Result<()>,
) -> sttabt::Result<Option<Times>> {
    let mut num_calls = 1;
    let mut all_ms = Vec::new();
    // Two rounds warm up: the first compiles, the second tells how many calls fit a round.
    for round in 0..NUM_ROUNDS + 2 {
        let start = Instant::now();
        for _ in 0..num_calls {
            call(backend, &mut output)?;
        }
        backend.read(&[Region::Matrix(&output, 1)]).await?;
        let ms = start.elapsed().as_secs_f64() * 1e3 / num_calls as f64;
        match round {
            0 => {}
            1 => num_calls = ((ROUND_MS / ms) as usize).clamp(1, MAX_CALLS),
            _ => all_ms.push(ms),
        }
    }
    backend.release();
    Ok(Times::of(&all_ms))
}

/// A chunk's index: k of every sample is half its tokens, and every third token is kept in every layer but the last.
fn index<B: Backend>(backend: &mut B, lengths: &[usize]) -> sttabt::Result<(ChunkLayout, B::Index)> {
    let k = vec![lengths.iter().map(|length| length.div_ceil(2)).collect(); NUM_LAYERS];
    let (layout, words) = ChunkLayout::host_words(lengths, NUM_LAYERS, &k, 1);
    let mut index = backend.create_index(layout.num_words())?;
    backend.begin_chunk(&mut index, layout, &words)?;
    for layer in 0..=NUM_LAYERS {
        let step = if layer == NUM_LAYERS { usize::MAX } else { KEPT_STEP };
        let counts: Vec<u32> = lengths.iter().map(|length| length.div_ceil(step) as u32).collect();
        backend.write_index(&mut index, layout.counts(layer), &counts)?;
        // A sample's kept positions start where its tokens do.
        let mut kept = Vec::with_capacity(layout.num_tokens);
        for &length in lengths {
            let end = kept.len() + length;
            kept.extend((0..length as u32).step_by(step));
            kept.resize(end, 0);
        }
        backend.write_index(&mut index, layout.kept(layer), &kept)?;
    }
    backend.pack_rows(kept_level(0)..kept_level(NUM_LAYERS) + 1, &mut index)?;
    Ok((layout, index))
}

/// Numbers between 0 and 1 that differ from one to the next.
fn values(len: usize) -> Vec<f32> {
    (0..len).map(|place| (place.wrapping_mul(2_654_435_761) >> 7) as u16 as f32 / 65536.0).collect()
}

fn matrix<B: Backend>(backend: &mut B, num_rows: usize, width: usize) -> sttabt::Result<B::Matrix> {
    let mut matrix = backend.create_matrix("input", num_rows, width)?;
    let stride = row_stride(width);
    let mut padded = values(num_rows * stride);
    padded.chunks_mut(stride).for_each(|row| row[width..].fill(0.0));
    backend.write_matrix(&mut matrix, 0, &padded)?;
    Ok(matrix)
}

fn packed_linear(in_features: usize, out_features: usize, dtype: DType) -> sttabt::Result<PackedLinear> {
    let scale = (in_features as f32).recip();
    let numbers = values(out_features * in_features);
    let weight: Vec<u8> = match dtype {
        DType::I8 => numbers.iter().map(|value| (254.0 * value - 127.0) as i8 as u8).collect(),
        DType::F16 => numbers.iter().flat_map(|value| half::f16::from_f32(value * scale).to_le_bytes()).collect(),
        _ => numbers.iter().flat_map(|value| (value * scale).to_le_bytes()).collect(),
    };
    let dtype = if matches!(dtype, DType::I8 | DType::F16) { dtype } else { DType::F32 };
    let bias: Vec<u8> = values(out_features).iter().flat_map(|value| value.to_le_bytes()).collect();
    let scales = if dtype == DType::I8 { bias.as_slice() } else { &[] };
    let weight = Tensor { dtype, shape: vec![out_features, in_features], bytes: &weight, scales };
    let bias = Tensor { dtype: DType::F32, shape: vec![out_features], bytes: &bias, scales: &[] };
    PackedLinear::stack(&[(weight, bias)], HeadSide::None)
}
