// S_head[query, key]: the scaled attention score before softmax, from rows that hold Q and K side by side.
fn attention_score(query_row: u32, key_row: u32, head: u32) -> f32 {
    let query = query_row * params.qkv_stride4 + head * params.head_stride4;
    let key = key_row * params.qkv_stride4 + params.key_column4 + head * params.head_stride4;
    var sums = vec4<f32>();
    for (var d = 0u; d < params.head_stride4; d++) {
        sums += qkv[query + d] * qkv[key + d];
    }
    return ((sums.x + sums.y) + (sums.z + sums.w)) * params.scale;
}

// By its bits: drivers may take for granted that nothing overflows.
fn is_finite(x: f32) -> bool {
    return (bitcast<u32>(x) & 0x7f800000u) != 0x7f800000u;
}
