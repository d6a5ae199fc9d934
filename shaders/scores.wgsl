// S_head[query, key]: the scaled attention score before softmax, from rows that hold Q and K side by side.
fn attention_score(query_row: u32, key_row: u32, head: u32) -> f32 {
    let query = query_row * params.qkv_stride4 + head * params.head_stride4;
    let key = key_row * params.qkv_stride4 + params.key_column4 + head * params.head_stride4;
    var sum = 0.0;
    for (var d = 0u; d < params.head_stride4; d++) {
        sum += dot(qkv[query + d], qkv[key + d]);
    }
    return sum * params.scale;
}
