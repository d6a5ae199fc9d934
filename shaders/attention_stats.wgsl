// Of the scores S_h[i, ·] of a row: (maximum, Σ exp(S − maximum)), or (mean, 1 / (population std + EPS)).
// uses: common, exp, vectors, scores, stats, attention_stats_parts
//
// One invocation owns four rows and a head, and takes four keys at a time.

const TILE_ROWS: u32 = 4;

@compute @workgroup_size(INVOCATIONS)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let num_rows = index[params.num_rows_at];
    let id = invocation_number(workgroup_id, num_workgroups, local, (num_rows + TILE_ROWS - 1u) / TILE_ROWS * params.num_heads);
    let head = id % params.num_heads;
    let first_row = id / params.num_heads * TILE_ROWS;
    let end_row = min(first_row + TILE_ROWS, num_rows);
    // The four rows may be of several samples, each with its own keys.
    var row = first_row;
    while row < end_row {
        let sample = index[params.sample_of_row_at + row];
        let first_key = index[params.offsets_at + sample];
        let end_key = index[params.offsets_at + sample + 1u];
        let end = max(row + 1u, min(end_row, end_key));
        count_rows((end - row) * (end_key - first_key), params.head_size);
        // What is missing of four rows repeats the last one.
        let rows = min(row + vec4(0u, 1u, 2u, 3u), vec4(end - 1u));
        if KIND == 0u {
            maxima_and_sums(rows, head, first_key, end_key);
        } else {
            means_and_factors(rows, head, first_key, end_key);
        }
        row = end;
    }
}

fn scores_from(rows: vec4<u32>, head: u32, key: u32, end_key: u32) -> mat4x4<f32> {
    let column = head * params.head_stride4;
    let keys = min(key + vec4(0u, 1u, 2u, 3u), vec4(end_key - 1u));
    return attention_scores(rows * params.qkv_stride4 + column, keys * params.qkv_stride4 + params.key_column4 + column);
}

fn maxima_and_sums(rows: vec4<u32>, head: u32, first_key: u32, end_key: u32) {
    var maxima = vec4(-3.0e38);
    var sums = vec4<f32>();
    for (var key = first_key; key < end_key; key += 4u) {
        let scores = scores_from(rows, head, key, end_key);
        let counts = counts_from(key, end_key);
        let larger = max(maxima, vec4(largest(scores[0]), largest(scores[1]), largest(scores[2]), largest(scores[3])));
        let added = vec4(
            dot(exact_exponentials(scores[0] - larger.x), counts),
            dot(exact_exponentials(scores[1] - larger.y), counts),
            dot(exact_exponentials(scores[2] - larger.z), counts),
            dot(exact_exponentials(scores[3] - larger.w), counts),
        );
        sums = sums * exact_exponentials(maxima - larger) + added;
        maxima = larger;
    }
    store_stats(rows * params.stats_stride + 2u * head, maxima, sums);
}

// Welford's recurrence for four keys at a time (Chan et al.): one turn over the keys, and no cancellation.
fn means_and_factors(rows: vec4<u32>, head: u32, first_key: u32, end_key: u32) {
    var count = 0.0;
    var means = vec4<f32>();
    var squares = vec4<f32>();
    for (var key = first_key; key < end_key; key += 4u) {
        let scores = scores_from(rows, head, key, end_key);
        let counts = counts_from(key, end_key);
        let added = total(counts);
        let added_means = (counts * scores) / added;
        let added_squares = vec4(
            dot(counts, (scores[0] - added_means.x) * (scores[0] - added_means.x)),
            dot(counts, (scores[1] - added_means.y) * (scores[1] - added_means.y)),
            dot(counts, (scores[2] - added_means.z) * (scores[2] - added_means.z)),
            dot(counts, (scores[3] - added_means.w) * (scores[3] - added_means.w)),
        );
        let differences = added_means - means;
        squares += added_squares + differences * differences * (count * added / (count + added));
        means += differences * (added / (count + added));
        count += added;
    }
    store_stats(rows * params.stats_stride + 2u * head, means, 1.0 / (sqrt(squares / count) + params.eps));
}
