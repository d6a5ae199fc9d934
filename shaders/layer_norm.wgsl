// output[r, c] = (input[r, c] − mean_r) / √(variance_r + eps) · weight[c] + bias[c]
// uses: common
//
// One workgroup owns four rows. Sixteen invocations share each, every sixteenth column each: its sum never depends on its place.

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

const ROWS: u32 = 4; // of a workgroup
const LANES: u32 = 16;

var<workgroup> partial: array<f32, 128>; // [2, ROWS, LANES]

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let num_rows = index[params.num_rows_at];
    let first_row = busy_workgroup(workgroup_id, num_workgroups, (num_rows + ROWS - 1u) / ROWS) * ROWS;
    if first_row >= num_rows {
        return;
    }
    // All invocations take part in what is shared, those past the end with the last row.
    let row = first_row + local / LANES;
    let start = min(row, num_rows - 1u) * params.stride4;
    // Padding is 0 in the input, so it adds nothing to the sum.
    var sum = vec4<f32>();
    for (var column = local % LANES; column < params.stride4; column += LANES) {
        sum += input[start + column];
    }
    let mean = row_sum(local, 0u, dot(sum, vec4(1.0))) / f32(params.width);
    var squares = vec4<f32>();
    for (var column = local % LANES; column < params.stride4; column += LANES) {
        let is_real = column * 4u + vec4(0u, 1u, 2u, 3u) < vec4(params.width);
        let difference = select(vec4(0.0), input[start + column] - mean, is_real);
        squares += difference * difference;
    }
    let variance = row_sum(local, 64u, dot(squares, vec4(1.0))) / f32(params.width);
    if row >= num_rows {
        return;
    }
    let deviation = sqrt(variance + params.eps);
    for (var column = local % LANES; column < params.stride4; column += LANES) {
        output[start + column] =
            (input[start + column] - mean) / deviation * weight[column] + weight[params.stride4 + column];
    }
}

// The sum of what the invocations of a row have.
fn row_sum(local: u32, half: u32, value: f32) -> f32 {
    partial[half + local] = value;
    workgroupBarrier();
    let at = half + local / LANES * LANES;
    return (four(at) + four(at + 4u)) + (four(at + 8u) + four(at + 12u));
}

fn four(at: u32) -> f32 {
    return (partial[at] + partial[at + 1u]) + (partial[at + 2u] + partial[at + 3u]);
}
