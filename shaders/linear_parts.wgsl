// What the variants of the matrix product share: their arguments, and what becomes of a sum.

override ACTIVATION: u32 = 0; // 0: identity, 1: gelu, 2: tanh, 3: gelu by tanh, 4: quick gelu, 5: relu

const GELU_TANH: array<f32, 2> = array(1.5957691, 7.1354816e-2); // 2 · √(2/π), and that times 0.044715
const QUICK_GELU: f32 = 1.702;
const FAR: f32 = 100.0; // every sigmoid below is 0 or 1 there, and no power of it overflows

struct Params {
    num_rows_at: u32,
    in_stride8: u32,
    num_features4: u32,
    first_feature: u32,
    output_stride4: u32,
    output_column4: u32,
    residual_stride4: u32, // 0: no residual
    multiply_adds_per_row: u32,
    scales_at4: u32, // of int8: where the outputs' scales follow their biases
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(2) var<storage, read> weight: array<vec4<u32>>; // [out_stride, in_stride] f16 or f32, or rows padded to 16 int8
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>; // [out_stride], of int8 [2, out_stride]
@group(0) @binding(4) var<storage, read> residual: array<vec4<f32>>; // [rows, residual_stride]
@group(0) @binding(5) var<storage, read> index: array<u32>; // see ChunkLayout
@group(0) @binding(6) var<storage, read_write> output: array<vec4<f32>>; // [rows, output_stride]

// 1 / (1 + e^−x). Where e^x has no normal number it is 0: nothing must be left when it is multiplied by a very negative x.
fn sigmoid(x: f32) -> f32 {
    let e = select(exp_of_negative(-abs(x)), 0.0, abs(x) > 87.0);
    return select(e, 1.0, x >= 0.0) / (1.0 + e);
}

fn activate(x: f32) -> f32 {
    if ACTIVATION == 1u {
        return x * normal_cdf(x);
    }
    if ACTIVATION == 2u {
        // Clamped, because some drivers compute tanh by way of exponentials that overflow.
        return tanh(clamp(x, -15.0, 15.0));
    }
    let near = clamp(x, -FAR, FAR);
    if ACTIVATION == 3u {
        // 0.5 · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))): 0.5 · (1 + tanh(u)) is the sigmoid of 2u.
        return x * sigmoid(near * (GELU_TANH[0] + GELU_TANH[1] * (near * near)));
    }
    if ACTIVATION == 4u {
        return x * sigmoid(QUICK_GELU * near);
    }
    if ACTIVATION == 5u {
        return select(x, 0.0, x < 0.0);
    }
    return x;
}

fn store(row: u32, column4: u32, sum: vec4<f32>) {
    if row >= index[params.num_rows_at] || column4 >= params.num_features4 {
        return;
    }
    let with_bias = sum + bias[params.first_feature / 4u + column4];
    var activated = vec4(activate(with_bias.x), activate(with_bias.y), activate(with_bias.z), activate(with_bias.w));
    if params.residual_stride4 != 0u {
        activated += residual[row * params.residual_stride4 + column4];
    }
    output[row * params.output_stride4 + params.output_column4 + column4] = activated;
}
