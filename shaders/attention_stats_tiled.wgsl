// Of the scores S_h[i, ·] of a row: (maximum, Σ exp(S − maximum)), or (mean, 1 / (population std + EPS)).
// uses: common, exp, vectors, score_tile, score_rows, attention_stats_parts
//
// The tiled variant, for hardware. One workgroup owns 16 rows and a head, and takes 64 keys at a time. Each row's statistics are found by
// four invocations, each for its own keys, and put together at the end.

var<workgroup> partial: array<vec4<f32>, 64>; // [SCORE_ROWS, 4]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let num_rows = index[params.num_rows_at];
    let num_busy = (num_rows + SCORE_ROWS - 1u) / SCORE_ROWS * params.num_heads;
    let number = busy_workgroup(workgroup_id, num_workgroups, num_busy);
    let head = number % params.num_heads;
    let first_row = number / params.num_heads * SCORE_ROWS;
    let end_row = min(first_row + SCORE_ROWS, num_rows);
    // The rows may be of several samples, each with its own keys.
    var row = first_row;
    while row < end_row {
        let sample = index[params.sample_of_row_at + row];
        let keys = Range(index[params.offsets_at + sample], index[params.offsets_at + sample + 1u]);
        let end = max(row + 1u, min(end_row, keys.end));
        if local == 0u {
            count_rows((end - row) * (keys.end - keys.first), params.head_size);
        }
        row_stats(local, Range(row, end), keys, head);
        row = end;
    }
}

fn row_stats(local: u32, rows: Range, keys: Range, head: u32) {
    let column = head * params.head_stride4;
    let at = first_of_row(local);
    var found = Found();
    for (var key = keys.first; key < keys.end; key += SCORE_KEYS) {
        keep_scores(local, tile_scores(local, rows, column, params.qkv_stride4, keys, key, params.key_column4 + column));
        workgroupBarrier();
        let own_key = key + local % 4u * 4u;
        found = add(found, row_tile[at], counts_from(own_key, keys.end));
        found = add(found, row_tile[at + 4u], counts_from(own_key + 16u, keys.end));
        found = add(found, row_tile[at + 8u], counts_from(own_key + 32u, keys.end));
        found = add(found, row_tile[at + 12u], counts_from(own_key + 48u, keys.end));
    }
    partial[local] = vec4(found.centre, found.sum, found.count, 0.0);
    workgroupBarrier();
    let row = rows.first + local / 4u;
    if local % 4u == 0u && row < rows.end {
        for (var other = local + 1u; other < local + 4u; other++) {
            let its = partial[other];
            found = merged(found, Found(its.x, its.y, its.z));
        }
        let stats_at = row * params.stats_stride + 2u * head;
        stats[stats_at] = found.centre;
        if KIND == 0u {
            stats[stats_at + 1u] = found.sum;
        } else {
            stats[stats_at + 1u] = 1.0 / (sqrt(found.sum / found.count) + params.eps);
        }
    }
}

// Of some scores: maximum and sum of exponentials, or mean and sum of squared differences; and how many they are.
struct Found {
    centre: f32,
    sum: f32,
    count: f32,
}

fn add(found: Found, scores: vec4<f32>, counts: vec4<f32>) -> Found {
    let count = total(counts);
    if count == 0.0 {
        return found;
    }
    if KIND == 0u {
        let maximum = largest(scores); // those past the end repeat the last one
        return merged(found, Found(maximum, dot(exact_exponentials(scores - maximum), counts), count));
    }
    let mean = dot(counts, scores) / count;
    return merged(found, Found(mean, dot(counts, (scores - mean) * (scores - mean)), count));
}

// Of means by the recurrence of Chan et al.: one turn over the keys, and no cancellation.
fn merged(one: Found, other: Found) -> Found {
    if one.count == 0.0 {
        return other;
    }
    if other.count == 0.0 {
        return one;
    }
    let count = one.count + other.count;
    if KIND == 0u {
        let maximum = max(one.centre, other.centre);
        let sum = one.sum * exp_of_negative(one.centre - maximum) + other.sum * exp_of_negative(other.centre - maximum);
        return Found(maximum, sum, count);
    }
    let difference = other.centre - one.centre;
    let squares = one.sum + other.sum + difference * difference * (one.count * other.count / count);
    return Found(one.centre + difference * (other.count / count), squares, count);
}
