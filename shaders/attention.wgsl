// output[i] = concat_h softmax_j(Q_h[i] · K_h[j] / √d) · V_h[j], j over the key rows of i's sample
// uses: common, exp, vectors, scores, stats, attention_parts
//
// The softmax is streamed: a running maximum, a running sum, and an output that is rescaled as the maximum grows.
// One invocation owns four query rows and a head, and takes four keys at a time. It holds 32 columns of the output. A
// larger head takes another turn over the keys, with the same scores in the same order.

const TILE_ROWS: u32 = 4;
const BLOCK: u32 = 8; // 32 columns

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
        let end = max(row + 1u, min(end_row, index[params.query_offsets_at + sample + 1u]));
        attend(row, end, sample, head);
        row = end;
    }
}

// The rows from `first_row` to `end_row`, at most four of one sample; what is missing of four repeats the last one, and is not stored.
fn attend(first_row: u32, end_row: u32, sample: u32, head: u32) {
    let first_key = index[params.key_offsets_at + sample];
    let end_key = index[params.key_offsets_at + sample + 1u];
    count_rows((end_row - first_row) * (end_key - first_key), 2u * params.head_size);
    let rows = min(first_row + vec4(0u, 1u, 2u, 3u), vec4(end_row - 1u));
    let column = head * params.head_stride4;
    let queries = rows * params.query_stride4 + column;
    for (var block = 0u; block < params.head_stride4; block += BLOCK) {
        let has_second = block + 4u < params.head_stride4;
        var first = Contexts();
        var second = Contexts();
        var maxima = vec4(-3.0e38);
        var sums = vec4<f32>();
        for (var key = first_key; key < end_key; key += 4u) {
            let keys = min(key + vec4(0u, 1u, 2u, 3u), vec4(end_key - 1u)) * params.qkv_stride4;
            let scores = attention_scores(queries, keys + params.output_stride4 + column);
            let larger = max(maxima, vec4(largest(scores[0]), largest(scores[1]), largest(scores[2]), largest(scores[3])));
            // Keys past the end repeat the last one, and weigh nothing.
            let counts = counts_from(key, end_key);
            let weights0 = exponentials(scores[0] - larger.x) * counts;
            let weights1 = exponentials(scores[1] - larger.y) * counts;
            let weights2 = exponentials(scores[2] - larger.z) * counts;
            let weights3 = exponentials(scores[3] - larger.w) * counts;
            let rescale = exponentials(maxima - larger);
            sums = sums * rescale + vec4(total(weights0), total(weights1), total(weights2), total(weights3));
            maxima = larger;
            let weights = mat4x4(weights0, weights1, weights2, weights3);
            let value_at = keys + 2u * params.output_stride4 + column + block;
            first = add_values(first, value_at, params.head_stride4 - block, weights, rescale);
            if has_second {
                second = add_values(second, value_at + 4u, params.head_stride4 - block - 4u, weights, rescale);
            }
        }
        if STORE_STATS && block == 0u {
            store_stats(rows * params.stats_stride + 2u * head, maxima, sums);
        }
        store4(rows, head, block, first, 1.0 / sums);
        if has_second {
            store4(rows, head, block + 4u, second, 1.0 / sums);
        }
    }
}

// Four columns, each four values wide, of the output of four rows.
struct Contexts {
    row0: mat4x4<f32>,
    row1: mat4x4<f32>,
    row2: mat4x4<f32>,
    row3: mat4x4<f32>,
}

// The contexts times `rescale`, plus the values of four keys times their weights. Of `num_columns` columns, the last one is repeated.
fn add_values(contexts: Contexts, keys: vec4<u32>, num_columns: u32, weights: mat4x4<f32>, rescale: vec4<f32>) -> Contexts {
    let columns = min(vec4(0u, 1u, 2u, 3u), vec4(num_columns - 1u));
    let values0 = values(keys + columns.x);
    let values1 = values(keys + columns.y);
    let values2 = values(keys + columns.z);
    let values3 = values(keys + columns.w);
    let w0 = weights[0];
    let w1 = weights[1];
    let w2 = weights[2];
    let w3 = weights[3];
    return Contexts(
        contexts.row0 * rescale.x + mat4x4(values0 * w0, values1 * w0, values2 * w0, values3 * w0),
        contexts.row1 * rescale.y + mat4x4(values0 * w1, values1 * w1, values2 * w1, values3 * w1),
        contexts.row2 * rescale.z + mat4x4(values0 * w2, values1 * w2, values2 * w2, values3 * w2),
        contexts.row3 * rescale.w + mat4x4(values0 * w3, values1 * w3, values2 * w3, values3 * w3),
    );
}

// Four keys' values of one column.
fn values(at: vec4<u32>) -> mat4x4<f32> {
    return mat4x4(qkv[at.x], qkv[at.y], qkv[at.z], qkv[at.w]);
}

fn store4(rows: vec4<u32>, head: u32, block: u32, contexts: Contexts, factors: vec4<f32>) {
    store(rows.x, head, block, contexts.row0 * factors.x);
    store(rows.y, head, block, contexts.row1 * factors.y);
    store(rows.z, head, block, contexts.row2 * factors.z);
    store(rows.w, head, block, contexts.row3 * factors.w);
}

fn store(row: u32, head: u32, block: u32, context: mat4x4<f32>) {
    let at = row * params.output_stride4;
    let column = head * params.head_stride4 + block;
    let num_columns = params.head_stride4 - block;
    output[at + column] = context[0];
    if num_columns > 1u {
        output[at + column + 1u] = context[1];
    }
    if num_columns > 2u {
        output[at + column + 2u] = context[2];
    }
    if num_columns > 3u {
        output[at + column + 3u] = context[3];
    }
    // The columns after the last head are padding that the next product reads.
    if head + 1u == params.num_heads {
        for (var padding = params.num_heads * params.head_stride4; padding < params.output_stride4; padding++) {
            output[at + padding] = vec4<f32>();
        }
    }
}
