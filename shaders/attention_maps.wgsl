// maps[first_value + map_offset + i · T + j] = mean_h exp(S_h[i, j] − maximum) / sum, or mean_h Φ((S_h[i, j] − mean) / (std + EPS))
//
// One invocation owns four rows i and four columns j of a sample's map, and sums over the heads.

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

fn query_at(address: u32) -> vec4<f32> {
    return qkv[address];
}

fn key_at(address: u32) -> vec4<f32> {
    return qkv[address];
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let num_rows = index[params.num_rows_at];
    let num_columns = (params.max_tokens + 3u) / 4u;
    let id = invocation_number(workgroup_id, num_workgroups, local, (num_rows + 3u) / 4u * num_columns);
    let first_j = id % num_columns * 4u;
    let first_row = id / num_columns * 4u;
    let end_row = min(first_row + 4u, num_rows);
    // The four rows may be of several samples, each with a map of its own.
    var row = first_row;
    while row < end_row {
        let sample = index[params.sample_of_row_at + row];
        let first = index[params.offsets_at + sample];
        let num_rows = index[params.offsets_at + sample + 1u] - first;
        let end = max(row + 1u, min(end_row, first + num_rows));
        if first_j < num_rows {
            tile(row, end, first_j, sample, first, num_rows);
        }
        row = end;
    }
}

// The rows from `first_row` to `end_row`, at most four; what is missing of four rows or columns repeats the last one and is not stored.
fn tile(first_row: u32, end_row: u32, first_j: u32, sample: u32, first: u32, num_rows: u32) {
    let rows = min(first_row + vec4(0u, 1u, 2u, 3u), vec4(end_row - 1u));
    let keys = first + min(first_j + vec4(0u, 1u, 2u, 3u), vec4(num_rows - 1u));
    count_rows((end_row - first_row) * min(4u, num_rows - first_j) * params.num_heads, params.head_size);
    var sums = mat4x4<f32>();
    for (var head = 0u; head < params.num_heads; head++) {
        let column = head * params.head_stride4;
        let scores =
            attention_scores(rows * params.qkv_stride4 + column, keys * params.qkv_stride4 + params.key_column4 + column);
        let at = rows * params.stats_stride + 2u * head;
        sums += mat4x4(
            map_values(scores[0], at.x),
            map_values(scores[1], at.y),
            map_values(scores[2], at.z),
            map_values(scores[3], at.w),
        );
    }
    let num_tokens = index[params.all_offsets_at + sample + 1u] - index[params.all_offsets_at + sample];
    let map_at = params.first_value + index[params.map_offsets_at + sample] + (rows - first) * num_tokens + first_j;
    let means = sums * (1.0 / f32(params.num_heads));
    let num_columns = num_rows - first_j;
    store(map_at.x, num_columns, means[0]);
    store(map_at.y, num_columns, means[1]);
    store(map_at.z, num_columns, means[2]);
    store(map_at.w, num_columns, means[3]);
}

// One head's part of four values of a row, whose statistics are at `stats_at`.
fn map_values(scores: vec4<f32>, stats_at: u32) -> vec4<f32> {
    let centre = stats[stats_at];
    let factor = stats[stats_at + 1u];
    return vec4(
        map_value(scores.x, centre, factor),
        map_value(scores.y, centre, factor),
        map_value(scores.z, centre, factor),
        map_value(scores.w, centre, factor),
    );
}

fn map_value(score: f32, centre: f32, factor: f32) -> f32 {
    if !is_finite(score) {
        // Carried on to the token scores, which tell the host; the functions below would hide it.
        return score;
    }
    if KIND == 0u {
        return exp_of_negative(score - centre) / factor;
    }
    return normal_cdf((score - centre) * factor);
}

fn store(at: u32, num_columns: u32, values: vec4<f32>) {
    maps[at] = values.x;
    if num_columns > 1u {
        maps[at + 1u] = values.y;
    }
    if num_columns > 2u {
        maps[at + 2u] = values.z;
    }
    if num_columns > 3u {
        maps[at + 3u] = values.w;
    }
}
