// output[i] = concat_h softmax_j(Q_h[i] · K_h[j] / √d) · V_h[j], j over the key rows of i's sample
//
// The softmax is streamed: a running maximum, a running sum, and an output that is rescaled when the maximum grows.
// One invocation owns a query row and a head. It holds BLOCK · 4 values of the output at a time; a larger head takes
// another turn over the keys, with the same scores in the same order.

const BLOCK: u32 = 8;

struct Params {
    num_rows_at: u32,
    sample_of_row_at: u32,
    key_offsets_at: u32,
    num_heads: u32,
    head_size: u32,
    head_stride4: u32,
    query_stride4: u32,
    qkv_stride4: u32,
    output_stride4: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> query: array<vec4<f32>>; // [query rows, query_stride], Q first
@group(0) @binding(2) var<storage, read> qkv: array<vec4<f32>>; // [key rows, 3 · output_stride]: Q, K, V
@group(0) @binding(3) var<storage, read> index: array<u32>; // see ChunkLayout
@group(0) @binding(4) var<storage, read_write> output: array<vec4<f32>>; // [query rows, output_stride]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let id = workgroup_number(workgroup_id, num_workgroups) * 64u + local;
    let row = id / params.num_heads;
    let head = id % params.num_heads;
    if row >= index[params.num_rows_at] {
        return;
    }
    let sample = index[params.sample_of_row_at + row];
    let first_key = index[params.key_offsets_at + sample];
    let end_key = index[params.key_offsets_at + sample + 1u];
    count_rows(end_key - first_key, 2u * params.head_size);
    let column = head * params.head_stride4;
    let query_at = row * params.query_stride4 + column;
    let output_at = row * params.output_stride4 + column;
    for (var block = 0u; block < params.head_stride4; block += BLOCK) {
        let width = min(BLOCK, params.head_stride4 - block);
        var context: array<vec4<f32>, BLOCK>;
        var maximum = -3.0e38;
        var sum = 0.0;
        for (var key = first_key; key < end_key; key++) {
            let key_at = key * params.qkv_stride4 + params.output_stride4 + column;
            var product = 0.0;
            for (var d = 0u; d < params.head_stride4; d++) {
                product += dot(query[query_at + d], qkv[key_at + d]);
            }
            let score = product * params.scale;
            if score > maximum {
                let rescale = exp(maximum - score);
                sum *= rescale;
                for (var d = 0u; d < width; d++) {
                    context[d] *= rescale;
                }
                maximum = score;
            }
            let weight = exp(score - maximum);
            sum += weight;
            let value_at = key_at + params.output_stride4 + block;
            for (var d = 0u; d < width; d++) {
                context[d] += weight * qkv[value_at + d];
            }
        }
        for (var d = 0u; d < width; d++) {
            output[output_at + block + d] = context[d] / sum;
        }
    }
    // The columns after the last head are padding that the next product reads.
    if head + 1u == params.num_heads {
        for (var d = column + params.head_stride4; d < params.output_stride4; d++) {
            output[row * params.output_stride4 + d] = vec4<f32>();
        }
    }
}
