// Of the scores S_h[i, ·] of a row: (maximum, Σ exp(S − maximum)), or (mean, 1 / (population std + EPS)).
//
// One invocation owns a row and a head, and streams over the keys.

override KIND: u32 = 0; // 0: for attention probabilities, 1: for Φ of standardised scores

struct Params {
    num_rows_at: u32,
    sample_of_row_at: u32,
    offsets_at: u32,
    num_heads: u32,
    head_size: u32,
    head_stride4: u32,
    qkv_stride4: u32,
    key_column4: u32,
    stats_stride: u32,
    scale: f32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<vec4<f32>>; // [rows, qkv_stride]: Q, K, V
@group(0) @binding(2) var<storage, read> index: array<u32>; // see ChunkLayout
@group(0) @binding(3) var<storage, read_write> stats: array<f32>; // [rows, stats_stride], two values to a head

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let id = workgroup_number(workgroup_id, num_workgroups) * 64u + local;
    let row = id / params.num_heads;
    let head = id % params.num_heads;
    if row >= index[params.num_rows_at] {
        return;
    }
    let sample = index[params.sample_of_row_at + row];
    let first_key = index[params.offsets_at + sample];
    let end_key = index[params.offsets_at + sample + 1u];
    count_rows(end_key - first_key, params.head_size);
    var result = vec2<f32>();
    if KIND == 0u {
        var maximum = -3.0e38;
        var sum = 0.0;
        for (var key = first_key; key < end_key; key++) {
            let score = attention_score(row, key, head);
            let larger = max(score, maximum);
            sum = sum * exp_of_negative(maximum - larger) + exp_of_negative(score - larger);
            maximum = larger;
        }
        result = vec2(maximum, sum);
    } else {
        // Welford's recurrence: one turn over the keys, and no cancellation.
        var count = 0.0;
        var mean = 0.0;
        var squares = 0.0;
        for (var key = first_key; key < end_key; key++) {
            let score = attention_score(row, key, head);
            count += 1.0;
            let difference = score - mean;
            mean += difference / count;
            squares += difference * (score - mean);
        }
        result = vec2(mean, 1.0 / (sqrt(squares / count) + params.eps));
    }
    stats[row * params.stats_stride + 2u * head] = result.x;
    stats[row * params.stats_stride + 2u * head + 1u] = result.y;
}
