// What the variants of the matrix product share: their arguments, and what becomes of a sum.

override ACTIVATION: u32 = 0; // 0: identity, 1: gelu, 2: tanh
override HAS_RESIDUAL: bool = false;
override WEIGHT_F16: bool = false; // eight f16 to a vec4<u32>, or four f32

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

fn widen(bits: vec2<u32>) -> vec4<f32> {
    return vec4(unpack2x16float(bits.x), unpack2x16float(bits.y));
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

fn store(row: u32, column4: u32, sum: vec4<f32>) {
    if row >= index[params.num_rows_at] || column4 >= params.num_features4 {
        return;
    }
    let with_bias = sum + bias[params.first_feature / 4u + column4];
    var activated = vec4(activate(with_bias.x), activate(with_bias.y), activate(with_bias.z), activate(with_bias.w));
    if HAS_RESIDUAL {
        activated += residual[row * params.residual_stride4 + column4];
    }
    output[row * params.output_stride4 + params.output_column4 + column4] = activated;
}
