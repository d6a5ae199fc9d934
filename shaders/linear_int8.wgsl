// output[r, output_column + c] = activation(Σ_k numbers[r, k] · weight[first_feature + c, k] · scale_r · scale_c + bias[first_feature + c]) + residual[r, c]
// uses: common, erf, exp, linear_parts, linear_int8_parts, linear_wide
//
// The wide variant (see linear_wide.wgsl). One invocation owns 8 rows × 8 features. Whole numbers are multiplied and
// added as f32, which software does faster than dot products of int8. A part's sums stay below 2^24, so that they are
// exact.

const PART16: u32 = 64; // 1024 inputs: 1024 · 127 · 128 < 2^24

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
        unpacked(numbers.first[word]),
        unpacked(numbers.second[word]),
        unpacked(numbers.third[word]),
        unpacked(numbers.fourth[word]),
    );
}

fn unpacked(word: u32) -> vec4<f32> {
    return vec4<f32>(bitcast<vec4<i32>>(vec4(word) << vec4(24u, 16u, 8u, 0u)) >> vec4(24u));
}

// Column r, component f: row r with feature f.
fn products(rows: mat4x4<f32>, features: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(rows[0] * features, rows[1] * features, rows[2] * features, rows[3] * features);
}

// Sixteen numbers each of the tile's rows and features.
struct TileNumbers {
    rows0: Numbers4,
    rows1: Numbers4,
    features0: Numbers4,
    features1: Numbers4,
}

// The sums of a part: four rows by four features each.
struct Parts {
    sums00: mat4x4<f32>,
    sums01: mat4x4<f32>,
    sums10: mat4x4<f32>,
    sums11: mat4x4<f32>,
}

// The sums, and the products of one word of all numbers.
fn add_products(parts: Parts, numbers: TileNumbers, word: u32) -> Parts {
    let rows0 = widened(numbers.rows0, word);
    let rows1 = widened(numbers.rows1, word);
    let features0 = widened(numbers.features0, word);
    let features1 = widened(numbers.features1, word);
    return Parts(
        parts.sums00 + products(rows0, features0),
        parts.sums01 + products(rows0, features1),
        parts.sums10 + products(rows1, features0),
        parts.sums11 + products(rows1, features1),
    );
}

// Sums of four rows with four features.
struct Sums4 {
    row0: vec4<i32>,
    row1: vec4<i32>,
    row2: vec4<i32>,
    row3: vec4<i32>,
}

fn by_row(sums: Sums4) -> array<vec4<i32>, 4> {
    return array(sums.row0, sums.row1, sums.row2, sums.row3);
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
        var parts = Parts();
        for (var k16 = part; k16 < min(part + PART16, stride16()); k16++) {
            let numbers = TileNumbers(
                rows4(rows0 + k16),
                rows4(rows1 + k16),
                features4(features0 + k16),
                features4(features1 + k16),
            );
            // Written out, because drivers do not unroll the loops that wgpu bounds.
            parts = add_products(parts, numbers, 0u);
            parts = add_products(parts, numbers, 1u);
            parts = add_products(parts, numbers, 2u);
            parts = add_products(parts, numbers, 3u);
        }
        sums00 = plus(sums00, parts.sums00);
        sums01 = plus(sums01, parts.sums01);
        sums10 = plus(sums10, parts.sums10);
        sums11 = plus(sums11, parts.sums11);
    }
    // In a loop: written out, what becomes of a sum would be most of the code that a driver compiles.
    var sums = array(by_row(sums00), by_row(sums10), by_row(sums01), by_row(sums11));
    for (var i = 0u; i < 16u; i++) {
        store_scaled(tile.first_row + i % 8u, 2u * tile.column8 + i / 8u, sums[i / 4u][i % 4u]);
    }
}
