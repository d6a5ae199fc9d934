// maps[first_value + map_offset + i · T + j] = mean_h exp(S_h[i, j] − maximum) / sum, or mean_h Φ((S_h[i, j] − mean) / (std + EPS))
// uses: common, erf, exp, scores, attention_maps_parts
//
// One invocation owns four rows i and four columns j of a sample's map, and sums over the heads.

const TILE: u32 = 4;

@compute @workgroup_size(INVOCATIONS)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let num_rows = index[params.num_rows_at];
    let num_columns = (params.max_tokens + TILE - 1u) / TILE;
    let id = invocation_number(workgroup_id, num_workgroups, local, (num_rows + TILE - 1u) / TILE * num_columns);
    let first_j = id % num_columns * TILE;
    let first_row = id / num_columns * TILE;
    let end_row = min(first_row + TILE, num_rows);
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
    count_rows((end_row - first_row) * min(TILE, num_rows - first_j) * params.num_heads, params.head_size);
    var sums = mat4x4<f32>();
    for (var head = 0u; head < params.num_heads; head++) {
        let column = head * params.head_stride4;
        let scores =
            attention_scores(rows * params.qkv_stride4 + column, keys * params.qkv_stride4 + params.key_column4 + column);
        let at = rows * params.stats_stride + 2u * head;
        sums += mat4x4(
            map_values(scores[0], stats[at.x], stats[at.x + 1u]),
            map_values(scores[1], stats[at.y], stats[at.y + 1u]),
            map_values(scores[2], stats[at.z], stats[at.z + 1u]),
            map_values(scores[3], stats[at.w], stats[at.w + 1u]),
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
