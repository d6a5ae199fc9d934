// Attention scores before softmax of four query rows with four key rows, S[r][j] = Q[r] · K[j] · scale. Addresses are those of the
// head's columns; whoever includes this says where queries and keys are read: `query_at(address)`, `key_at(address)`.
fn attention_scores(queries: vec4<u32>, keys: vec4<u32>) -> mat4x4<f32> {
    var scores = mat4x4<f32>();
    for (var d = 0u; d < params.head_stride4; d++) {
        let k = mat4x4(key_at(keys.x + d), key_at(keys.y + d), key_at(keys.z + d), key_at(keys.w + d));
        // A row times a matrix: its products with the columns.
        let scores0 = query_at(queries.x + d) * k;
        let scores1 = query_at(queries.y + d) * k;
        let scores2 = query_at(queries.z + d) * k;
        let scores3 = query_at(queries.w + d) * k;
        scores += mat4x4(scores0, scores1, scores2, scores3);
    }
    return scores * params.scale;
}
