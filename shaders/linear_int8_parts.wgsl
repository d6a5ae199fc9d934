// What the variants of the int8 product share: rows and scales.

@group(0) @binding(1) var<storage, read> input: array<vec4<u32>>; // [rows, stride16], 16 int8 each
@group(0) @binding(7) var<storage, read> row_scales: array<f32>; // [rows]

// vec4s, of 16 numbers each, in a row.
fn stride16() -> u32 {
    return (params.in_stride8 + 1u) / 2u;
}

// The scales of the outputs follow their biases.
fn store_scaled(row: u32, column4: u32, sum: vec4<i32>) {
    let scales = bias[params.scales_at4 + params.first_feature / 4u + column4];
    store(row, column4, vec4<f32>(sum) * (scales * row_scales[row]));
}
