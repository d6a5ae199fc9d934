// output[r, output_column + c] = activation(Σ_k input[r, k] · weight[first_feature + c, k] + bias[first_feature + c]) + residual[r, c]
//
// One invocation owns a tile of TILE_ROWS rows × 4 features; neighbours own the next features of the same rows.
// No workgroup memory: wide independent work suits software adapters, and caches serve the rest.

override ACTIVATION: u32 = 0; // 0: identity, 1: gelu, 2: tanh
override HAS_RESIDUAL: bool = false;
override WEIGHT_F16: bool = false; // eight f16 to a vec4<u32>, or four f32

const TILE_ROWS: u32 = 4;
const BLOCK8: u32 = 4; // 32 inputs

struct Params {
    num_rows_at: u32,
    in_stride8: u32,
    num_features4: u32,
    first_feature: u32,
    output_stride4: u32,
    output_column4: u32,
    residual_stride4: u32,
    multiply_adds_per_row: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>; // [rows, in_stride]
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>; // [out_stride, in_stride], f16 or f32
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // [out_stride]
@group(0) @binding(4) var<storage, read> residual: array<vec4<f32>>; // [rows, residual_stride]
@group(0) @binding(5) var<storage, read> index: array<u32>; // see ChunkLayout
@group(0) @binding(6) var<storage, read_write> output: array<vec4<f32>>; // [rows, output_stride]

// Eight consecutive weights of a feature.
fn weight8(feature: u32, k8: u32) -> array<vec4<f32>, 2> {
    let at = feature * params.in_stride8 + k8;
    if WEIGHT_F16 {
        let bits = weight[at];
        return array(
            vec4(unpack2x16float(bits.x), unpack2x16float(bits.y)),
            vec4(unpack2x16float(bits.z), unpack2x16float(bits.w)),
        );
    }
    return array(bitcast<vec4<f32>>(weight[2u * at]), bitcast<vec4<f32>>(weight[2u * at + 1u]));
}

fn activate(x: f32) -> f32 {
    if ACTIVATION == 1u {
        return x * normal_cdf(x);
    }
    if ACTIVATION == 2u {
        // Clamped, because some drivers compute tanh by way of exponentials that overflow.
        return tanh(clamp(x, -15.0, 15.0));
    }
    return x;
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let id = workgroup_number(workgroup_id, num_workgroups) * 64u + local;
    let column4 = id % params.num_features4;
    let first_row = id / params.num_features4 * TILE_ROWS;
    let num_rows = index[params.num_rows_at];
    if first_row >= num_rows {
        return;
    }
    if column4 == 0u {
        count_rows(min(TILE_ROWS, num_rows - first_row), params.multiply_adds_per_row);
    }
    let in_stride4 = 2u * params.in_stride8;
    // Rows past the end repeat the last one and are not stored.
    let last_row = num_rows - 1u;
    let row0 = min(first_row, last_row) * in_stride4;
    let row1 = min(first_row + 1u, last_row) * in_stride4;
    let row2 = min(first_row + 2u, last_row) * in_stride4;
    let row3 = min(first_row + 3u, last_row) * in_stride4;
    let feature = params.first_feature + 4u * column4;
    var sum0 = vec4<f32>();
    var sum1 = vec4<f32>();
    var sum2 = vec4<f32>();
    var sum3 = vec4<f32>();
    for (var block = 0u; block < params.in_stride8; block += BLOCK8) {
        // A block is summed alone first: rounding errors grow with the length of a chain of additions.
        var part0 = vec4<f32>();
        var part1 = vec4<f32>();
        var part2 = vec4<f32>();
        var part3 = vec4<f32>();
        for (var k8 = block; k8 < min(block + BLOCK8, params.in_stride8); k8++) {
            let w0 = weight8(feature, k8);
            let w1 = weight8(feature + 1u, k8);
            let w2 = weight8(feature + 2u, k8);
            let w3 = weight8(feature + 3u, k8);
            for (var half = 0u; half < 2u; half++) {
                let k4 = 2u * k8 + half;
                let i0 = input[row0 + k4];
                let i1 = input[row1 + k4];
                let i2 = input[row2 + k4];
                let i3 = input[row3 + k4];
                part0 += vec4(dot(i0, w0[half]), dot(i0, w1[half]), dot(i0, w2[half]), dot(i0, w3[half]));
                part1 += vec4(dot(i1, w0[half]), dot(i1, w1[half]), dot(i1, w2[half]), dot(i1, w3[half]));
                part2 += vec4(dot(i2, w0[half]), dot(i2, w1[half]), dot(i2, w2[half]), dot(i2, w3[half]));
                part3 += vec4(dot(i3, w0[half]), dot(i3, w1[half]), dot(i3, w2[half]), dot(i3, w3[half]));
            }
        }
        sum0 += part0;
        sum1 += part1;
        sum2 += part2;
        sum3 += part3;
    }
    let sums = array(sum0, sum1, sum2, sum3);
    for (var r = 0u; r < TILE_ROWS; r++) {
        let row = first_row + r;
        if row >= num_rows {
            return;
        }
        let sum = sums[r] + bias[feature / 4u];
        var activated = vec4(activate(sum.x), activate(sum.y), activate(sum.z), activate(sum.w));
        if HAS_RESIDUAL {
            activated += residual[row * params.residual_stride4 + column4];
        }
        output[row * params.output_stride4 + params.output_column4 + column4] = activated;
    }
}
