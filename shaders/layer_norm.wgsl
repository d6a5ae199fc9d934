// output[r, c] = (input[r, c] − mean_r) / √(variance_r + eps) · weight[c] + bias[c]
//
// One invocation owns a row: no workgroup memory, and the sum of a row never depends on its place.

struct Params {
    num_rows_at: u32,
    width: u32,
    stride4: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>; // [rows, stride]
@group(0) @binding(2) var<storage, read> weight: array<vec4<f32>>; // [2, stride]: weight, then bias; 0 where padded
@group(0) @binding(3) var<storage, read> index: array<u32>; // see ChunkLayout
@group(0) @binding(4) var<storage, read_write> output: array<vec4<f32>>; // [rows, stride]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let num_rows = index[params.num_rows_at];
    let row = invocation_number(workgroup_id, num_workgroups, local, num_rows);
    if row >= num_rows {
        return;
    }
    let start = row * params.stride4;
    // Padding is 0 in the input, so it adds nothing to the sum.
    var sum = vec4<f32>();
    for (var column = 0u; column < params.stride4; column++) {
        sum += input[start + column];
    }
    let mean = dot(sum, vec4(1.0)) / f32(params.width);
    var squares = vec4<f32>();
    for (var column = 0u; column < params.stride4; column++) {
        let is_real = column * 4u + vec4(0u, 1u, 2u, 3u) < vec4(params.width);
        let difference = select(vec4(0.0), input[start + column] - mean, is_real);
        squares += difference * difference;
    }
    let deviation = sqrt(dot(squares, vec4(1.0)) / f32(params.width) + params.eps);
    for (var column = 0u; column < params.stride4; column++) {
        output[start + column] =
            (input[start + column] - mean) / deviation * weight[column] + weight[params.stride4 + column];
    }
}
