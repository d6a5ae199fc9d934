// maps[first_value + map_offset + i · T + j] = mean_h exp(S_h[i, j] − maximum) / sum, or mean_h Φ((S_h[i, j] − mean) / (std + EPS))
// uses: common, erf, exp, score_tile, attention_maps_parts
//
// The tiled variant, for hardware. One workgroup owns 16 rows i and 64 columns j of a sample's map, and sums over the heads.

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let num_rows = index[params.num_rows_at];
    let num_columns = (params.max_tokens + SCORE_KEYS - 1u) / SCORE_KEYS;
    let num_busy = (num_rows + SCORE_ROWS - 1u) / SCORE_ROWS * num_columns;
    let number = busy_workgroup(workgroup_id, num_workgroups, num_busy);
    let first_j = number % num_columns * SCORE_KEYS;
    let first_row = number / num_columns * SCORE_ROWS;
    let end_row = min(first_row + SCORE_ROWS, num_rows);
    // The rows may be of several samples, each with a map of its own.
    var row = first_row;
    while row < end_row {
        let sample = index[params.sample_of_row_at + row];
        let keys = Range(index[params.offsets_at + sample], index[params.offsets_at + sample + 1u]);
        let end = max(row + 1u, min(end_row, keys.end));
        if keys.first + first_j < keys.end {
            tile(local, Range(row, end), keys, first_j, sample);
        }
        row = end;
    }
}

fn tile(local: u32, rows: Range, keys: Range, first_j: u32, sample: u32) {
    let num_keys = keys.end - keys.first;
    if local == 0u {
        count_rows((rows.end - rows.first) * min(SCORE_KEYS, num_keys - first_j) * params.num_heads, params.head_size);
    }
    let own_rows = rows.first + local / 16u + vec4(0u, 4u, 8u, 12u);
    let own_stats = min(own_rows, vec4(rows.end - 1u)) * params.stats_stride;
    var sums = mat4x4<f32>();
    for (var head = 0u; head < params.num_heads; head++) {
        let column = head * params.head_stride4;
        let at = own_stats + 2u * head;
        let centres = vec4(stats[at.x], stats[at.y], stats[at.z], stats[at.w]);
        let factors = vec4(stats[at.x + 1u], stats[at.y + 1u], stats[at.z + 1u], stats[at.w + 1u]);
        let scores = tile_scores(
            local, rows, column, params.qkv_stride4, keys, keys.first + first_j, params.key_column4 + column,
        );
        sums += mat4x4(
            map_values(scores[0], centres.x, factors.x),
            map_values(scores[1], centres.y, factors.y),
            map_values(scores[2], centres.z, factors.z),
            map_values(scores[3], centres.w, factors.w),
        );
    }
    let j = first_j + local % 16u * 4u;
    if j >= num_keys {
        return;
    }
    let num_tokens = index[params.all_offsets_at + sample + 1u] - index[params.all_offsets_at + sample];
    let map_at = params.first_value + index[params.map_offsets_at + sample] + (own_rows - keys.first) * num_tokens + j;
    let means = sums * (1.0 / f32(params.num_heads));
    if own_rows.x < rows.end {
        store(map_at.x, num_keys - j, means[0]);
    }
    if own_rows.y < rows.end {
        store(map_at.y, num_keys - j, means[1]);
    }
    if own_rows.z < rows.end {
        store(map_at.z, num_keys - j, means[2]);
    }
    if own_rows.w < rows.end {
        store(map_at.w, num_keys - j, means[3]);
    }
}
