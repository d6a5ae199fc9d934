// maps[first_value + map_offset + i · T + j] = mean_h exp(S_h[i, j] − maximum) / sum, or mean_h Φ((S_h[i, j] − mean) / (std + EPS))
//
// One invocation owns a row i and a column j of a sample's map, and sums over the heads.

override KIND: u32 = 0; // 0: attention probabilities, 1: Φ of standardised scores

struct Params {
    num_rows_at: u32,
    sample_of_row_at: u32,
    offsets_at: u32,
    all_offsets_at: u32,
    map_offsets_at: u32,
    first_value: u32,
    max_tokens: u32,
    num_heads: u32,
    head_size: u32,
    head_stride4: u32,
    qkv_stride4: u32,
    key_column4: u32,
    stats_stride: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<vec4<f32>>; // [rows, qkv_stride]: Q, K, V
@group(0) @binding(2) var<storage, read> stats: array<f32>; // [rows, stats_stride], see attention_stats.wgsl
@group(0) @binding(3) var<storage, read> index: array<u32>; // see ChunkLayout
@group(0) @binding(4) var<storage, read_write> maps: array<f32>; // [num_layers, Σ T²]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let id = workgroup_number(workgroup_id, num_workgroups) * 64u + local;
    let row = id / params.max_tokens;
    let j = id % params.max_tokens;
    if row >= index[params.num_rows_at] {
        return;
    }
    let sample = index[params.sample_of_row_at + row];
    let first_row = index[params.offsets_at + sample];
    let num_rows = index[params.offsets_at + sample + 1u] - first_row;
    if j >= num_rows {
        return;
    }
    count_rows(params.num_heads, params.head_size);
    var sum = 0.0;
    for (var head = 0u; head < params.num_heads; head++) {
        let score = attention_score(row, first_row + j, head);
        let stats_at = row * params.stats_stride + 2u * head;
        if !is_finite(score) {
            // Carried on to the token scores, which tell the host; the functions below would hide it.
            sum += score;
        } else if KIND == 0u {
            sum += exp_of_negative(score - stats[stats_at]) / stats[stats_at + 1u];
        } else {
            sum += normal_cdf((score - stats[stats_at]) * stats[stats_at + 1u]);
        }
    }
    let num_tokens = index[params.all_offsets_at + sample + 1u] - index[params.all_offsets_at + sample];
    let map_at = params.first_value + index[params.map_offsets_at + sample];
    maps[map_at + (row - first_row) * num_tokens + j] = sum / f32(params.num_heads);
}
