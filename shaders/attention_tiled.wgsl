// output[i] = concat_h softmax_j(Q_h[i] · K_h[j] / √d) · V_h[j], j over the key rows of i's sample
// uses: common, exp, vectors, score_tile, score_rows, attention_parts
//
// The tiled variant, for hardware. One workgroup owns 16 query rows and a head, and takes 64 keys at a time. The softmax is streamed, as
// in the other variant; here four invocations share a row. They hold 64 columns of the output; a larger head takes another turn over
// the keys.

var<workgroup> partial: array<f32, 64>; // [SCORE_ROWS, 4]

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
        let end = max(row + 1u, min(end_row, index[params.query_offsets_at + sample + 1u]));
        let keys = Range(index[params.key_offsets_at + sample], index[params.key_offsets_at + sample + 1u]);
        if local == 0u {
            count_rows((end - row) * (keys.end - keys.first), 2u * params.head_size);
        }
        for (var turn = 0u; turn < params.head_stride4; turn += 2u * BLOCK) {
            attend(local, Range(row, end), keys, head, turn);
        }
        row = end;
    }
}

// Two columns, each four values wide, of the output of a row: `quarter`, and four further.
struct Context {
    low: vec4<f32>,
    high: vec4<f32>,
}

fn attend(local: u32, rows: Range, keys: Range, head: u32, turn: u32) {
    let column = head * params.head_stride4;
    let has_second = turn + BLOCK < params.head_stride4;
    let at = first_of_row(local);
    let quarter = local % 4u;
    let quarters = local - quarter;
    var first = Context();
    var second = Context();
    var maximum = -3.0e38;
    var sum = 0.0;
    for (var key = keys.first; key < keys.end; key += SCORE_KEYS) {
        let scores =
            tile_scores(local, rows, column, params.query_stride4, keys, key, params.output_stride4 + column);
        keep_scores(local, scores);
        workgroupBarrier();
        let scores0 = row_tile[at];
        let scores1 = row_tile[at + 4u];
        let scores2 = row_tile[at + 8u];
        let scores3 = row_tile[at + 12u];
        partial[local] = max(max(largest(scores0), largest(scores1)), max(largest(scores2), largest(scores3)));
        workgroupBarrier();
        let larger = max(maximum, four_largest(quarters));
        let own_key = key + 4u * quarter;
        let weights0 = exponentials(scores0 - larger) * counts_from(own_key, keys.end);
        let weights1 = exponentials(scores1 - larger) * counts_from(own_key + 16u, keys.end);
        let weights2 = exponentials(scores2 - larger) * counts_from(own_key + 32u, keys.end);
        let weights3 = exponentials(scores3 - larger) * counts_from(own_key + 48u, keys.end);
        row_tile[at] = weights0;
        row_tile[at + 4u] = weights1;
        row_tile[at + 8u] = weights2;
        row_tile[at + 12u] = weights3;
        let rescale = exponential(maximum - larger);
        sum = sum * rescale + total((weights0 + weights1) + (weights2 + weights3));
        maximum = larger;
        load_values(local, keys, key, column, turn);
        workgroupBarrier();
        first = add_values(first, rescale, local, keys.end - key);
        if has_second {
            workgroupBarrier();
            load_values(local, keys, key, column, turn + BLOCK);
            workgroupBarrier();
            second = add_values(second, rescale, local, keys.end - key);
        }
    }
    partial[local] = sum;
    workgroupBarrier();
    let row = rows.first + local / 4u;
    if row < rows.end {
        let row_sum = (partial[quarters] + partial[quarters + 1u]) + (partial[quarters + 2u] + partial[quarters + 3u]);
        if STORE_STATS && turn == 0u && quarter == 0u {
            stats[row * params.stats_stride + 2u * head] = maximum;
            stats[row * params.stats_stride + 2u * head + 1u] = row_sum;
        }
        store(row, head, turn + quarter, first, 1.0 / row_sum);
        store(row, head, turn + BLOCK + quarter, second, 1.0 / row_sum);
    }
}

// The largest of what the four invocations of a row have in `partial`.
fn four_largest(quarters: u32) -> f32 {
    return max(max(partial[quarters], partial[quarters + 1u]), max(partial[quarters + 2u], partial[quarters + 3u]));
}

// Values of the tile's keys, from one of the head's columns on.
fn load_values(local: u32, keys: Range, first_key: u32, column: u32, block: u32) {
    // Of columns past the head's the last one is read again, and not stored.
    let at = 2u * params.output_stride4 + column + min(block + local % BLOCK, params.head_stride4 - 1u);
    let key = first_key + local / BLOCK;
    let value0 = value_at(at, key, keys);
    let value1 = value_at(at, key + 8u, keys);
    let value2 = value_at(at, key + 16u, keys);
    let value3 = value_at(at, key + 24u, keys);
    let value4 = value_at(at, key + 32u, keys);
    let value5 = value_at(at, key + 40u, keys);
    let value6 = value_at(at, key + 48u, keys);
    let value7 = value_at(at, key + 56u, keys);
    key_tile[local] = value0;
    key_tile[local + 64u] = value1;
    key_tile[local + 128u] = value2;
    key_tile[local + 192u] = value3;
    key_tile[local + 256u] = value4;
    key_tile[local + 320u] = value5;
    key_tile[local + 384u] = value6;
    key_tile[local + 448u] = value7;
}

fn value_at(at: u32, key: u32, keys: Range) -> vec4<f32> {
    return qkv[at + min(key, keys.end - 1u) * params.qkv_stride4];
}

// The context times `rescale`, plus the values of the tile's keys times their weights.
fn add_values(context: Context, rescale: f32, local: u32, num_keys: u32) -> Context {
    var sums = Context();
    // Keys past the end repeat the last one, and weigh nothing.
    for (var key4 = 0u; 4u * key4 < min(num_keys, SCORE_KEYS); key4 += 2u) {
        sums = add_four(sums, local, key4);
        sums = add_four(sums, local, key4 + 1u);
    }
    return Context(context.low * rescale + sums.low, context.high * rescale + sums.high);
}

fn add_four(sums: Context, local: u32, key4: u32) -> Context {
    let weights = row_tile[local / 4u * ROW_STRIDE + key4];
    let at = 4u * BLOCK * key4 + local % 4u;
    return Context(sums.low + four_values(at) * weights, sums.high + four_values(at + 4u) * weights);
}

fn four_values(at: u32) -> mat4x4<f32> {
    return mat4x4(key_tile[at], key_tile[at + BLOCK], key_tile[at + 2u * BLOCK], key_tile[at + 3u * BLOCK]);
}

fn store(row: u32, head: u32, column: u32, context: Context, factor: f32) {
    let at = row * params.output_stride4 + head * params.head_stride4;
    if column < params.head_stride4 {
        output[at + column] = context.low * factor;
    }
    if column + 4u < params.head_stride4 {
        output[at + column + 4u] = context.high * factor;
    }
    // The columns after the last head are padding that the next product reads.
    if head + 1u == params.num_heads && column == 0u {
        for (var padding = params.num_heads * params.head_stride4; padding < params.output_stride4; padding++) {
            output[row * params.output_stride4 + padding] = vec4<f32>();
        }
    }
}
