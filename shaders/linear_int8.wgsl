// output[r, output_column + c] = activation(Σ_k numbers[r, k] · weight[first_feature + c, k] · scale_r · scale_c + bias[first_feature + c]) + residual[r, c]
// uses: common, erf, exp, linear_parts, linear_int8_parts, linear_wide
//
// The wide variant (see linear_wide.wgsl). One invocation owns 8 rows × 8 features. Whole numbers are multiplied and added as f32, which software does
// faster than dot products of int8; a part's sums stay below 2^24, so that they are exact.

const PART16: u32 = 64; // 1024 inputs: 1024 · 127 · 127 < 2^24

// Sixteen numbers each of four rows, or of four features.
struct Numbers4 {
    first: vec4<u32>,
    second: vec4<u32>,
    third: vec4<u32>,
    fourth: vec4<u32>,
}

fn rows4(at: vec4<u32>) -> Numbers4 {
    return Numbers4(input[at.x], input[at.y], input[at.z], input[at.w]);
}

fn features4(at: vec4<u32>) -> Numbers4 {
    return Numbers4(weight[at.x], weight[at.y], weight[at.z], weight[at.w]);
}

// Four numbers of each as f32: a mat4x4's column is a row's, or a feature's.
fn widened(numbers: Numbers4, word: u32) -> mat4x4<f32> {
    return mat4x4(
        four(numbers.first[word]),
        four(numbers.second[word]),
        four(numbers.third[word]),
        four(numbers.fourth[word]),
    );
}

fn four(word: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4(word) << vec4(24u, 16u, 8u, 0u)) >> vec4(24u));
}

// Column r, component f: row r with feature f.
fn products(rows: mat4x4<f32>, features: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(rows[0] * features, rows[1] * features, rows[2] * features, rows[3] * features);
}

// Sums of four rows with four features.
struct Sums4 {
    row0: vec4<i32>,
    row1: vec4<i32>,
    row2: vec4<i32>,
    row3: vec4<i32>,
}

fn plus(sums: Sums4, part: mat4x4<f32>) -> Sums4 {
    return Sums4(
        sums.row0 + vec4<i32>(part[0]),
        sums.row1 + vec4<i32>(part[1]),
        sums.row2 + vec4<i32>(part[2]),
        sums.row3 + vec4<i32>(part[3]),
    );
}

@compute @workgroup_size(WORKGROUP_SIZE)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile = own_tile(workgroup_id, num_workgroups, local);
    if tile.first_row >= tile.num_rows {
        return;
    }
    var sums00 = Sums4();
    var sums01 = Sums4();
    var sums10 = Sums4();
    var sums11 = Sums4();
    let rows0 = tile.rows0 * stride16();
    let rows1 = tile.rows1 * stride16();
    let features0 = tile.features0 * stride16();
    let features1 = tile.features1 * stride16();
    for (var part = 0u; part < stride16(); part += PART16) {
        var parts00 = mat4x4<f32>();
        var parts01 = mat4x4<f32>();
        var parts10 = mat4x4<f32>();
        var parts11 = mat4x4<f32>();
        for (var k16 = part; k16 < min(part + PART16, stride16()); k16++) {
            let row_numbers0 = rows4(rows0 + k16);
            let row_numbers1 = rows4(rows1 + k16);
            let feature_numbers0 = features4(features0 + k16);
            let feature_numbers1 = features4(features1 + k16);
            // Written out, because drivers do not unroll the loops that wgpu bounds.
            let weightsa0 = widened(feature_numbers0, 0u);
            let weightsa1 = widened(feature_numbers1, 0u);
            let inputsa0 = widened(row_numbers0, 0u);
            parts00 += products(inputsa0, weightsa0);
            parts01 += products(inputsa0, weightsa1);
            let inputsa1 = widened(row_numbers1, 0u);
            parts10 += products(inputsa1, weightsa0);
            parts11 += products(inputsa1, weightsa1);
            let weightsb0 = widened(feature_numbers0, 1u);
            let weightsb1 = widened(feature_numbers1, 1u);
            let inputsb0 = widened(row_numbers0, 1u);
            parts00 += products(inputsb0, weightsb0);
            parts01 += products(inputsb0, weightsb1);
            let inputsb1 = widened(row_numbers1, 1u);
            parts10 += products(inputsb1, weightsb0);
            parts11 += products(inputsb1, weightsb1);
            let weightsc0 = widened(feature_numbers0, 2u);
            let weightsc1 = widened(feature_numbers1, 2u);
            let inputsc0 = widened(row_numbers0, 2u);
            parts00 += products(inputsc0, weightsc0);
            parts01 += products(inputsc0, weightsc1);
            let inputsc1 = widened(row_numbers1, 2u);
            parts10 += products(inputsc1, weightsc0);
            parts11 += products(inputsc1, weightsc1);
            let weightsd0 = widened(feature_numbers0, 3u);
            let weightsd1 = widened(feature_numbers1, 3u);
            let inputsd0 = widened(row_numbers0, 3u);
            parts00 += products(inputsd0, weightsd0);
            parts01 += products(inputsd0, weightsd1);
            let inputsd1 = widened(row_numbers1, 3u);
            parts10 += products(inputsd1, weightsd0);
            parts11 += products(inputsd1, weightsd1);
        }
        sums00 = plus(sums00, parts00);
        sums01 = plus(sums01, parts01);
        sums10 = plus(sums10, parts10);
        sums11 = plus(sums11, parts11);
    }
    store4(tile.first_row, 2u * tile.column8, sums00);
    store4(tile.first_row, 2u * tile.column8 + 1u, sums01);
    store4(tile.first_row + 4u, 2u * tile.column8, sums10);
    store4(tile.first_row + 4u, 2u * tile.column8 + 1u, sums11);
}

fn store4(first_row: u32, column4: u32, sums: Sums4) {
    store_scaled(first_row, column4, sums.row0);
    store_scaled(first_row + 1u, column4, sums.row1);
    store_scaled(first_row + 2u, column4, sums.row2);
    store_scaled(first_row + 3u, column4, sums.row3);
}
