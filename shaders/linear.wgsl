// output[r, output_column + c] = activation(Σ_k input[r, k] · weight[first_feature + c, k] + bias[first_feature + c]) + residual[r, c]
// uses: common, erf, exp, linear_parts, linear_floats, linear_wide
//
// The wide variant (see linear_wide.wgsl). One invocation owns 8 rows × 8 features.

const BLOCK8: u32 = 8; // 64 inputs

@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>; // [rows, in_stride]

// Eight columns of four rows: a mat4x4's column is a row's.
struct Rows4 {
    low: mat4x4<f32>,
    high: mat4x4<f32>,
}

// Four features' weights from the k8 of each.
fn weights4(at: vec4<u32>) -> Rows4 {
    if WEIGHT_F16 {
        let w0 = weight[at.x];
        let w1 = weight[at.y];
        let w2 = weight[at.z];
        let w3 = weight[at.w];
        return Rows4(
            mat4x4(widen(w0.xy), widen(w1.xy), widen(w2.xy), widen(w3.xy)),
            mat4x4(widen(w0.zw), widen(w1.zw), widen(w2.zw), widen(w3.zw)),
        );
    }
    let low = 2u * at;
    let high = low + 1u;
    return Rows4(
        mat4x4(f32x4(low.x), f32x4(low.y), f32x4(low.z), f32x4(low.w)),
        mat4x4(f32x4(high.x), f32x4(high.y), f32x4(high.z), f32x4(high.w)),
    );
}

fn f32x4(at: u32) -> vec4<f32> {
    return bitcast<vec4<f32>>(weight[at]);
}

struct Products {
    first: mat4x4<f32>,
    second: mat4x4<f32>,
}

// Of four rows' inputs, from the k8 of each, with two times four features' weights. Column r, component f: row r with feature f.
fn products(at: vec4<u32>, first: Rows4, second: Rows4) -> Products {
    let low = 2u * at;
    let high = low + 1u;
    let low0 = input[low.x];
    let high0 = input[high.x];
    let first0 = low0 * first.low + high0 * first.high;
    let second0 = low0 * second.low + high0 * second.high;
    let low1 = input[low.y];
    let high1 = input[high.y];
    let first1 = low1 * first.low + high1 * first.high;
    let second1 = low1 * second.low + high1 * second.high;
    let low2 = input[low.z];
    let high2 = input[high.z];
    let first2 = low2 * first.low + high2 * first.high;
    let second2 = low2 * second.low + high2 * second.high;
    let low3 = input[low.w];
    let high3 = input[high.w];
    let first3 = low3 * first.low + high3 * first.high;
    let second3 = low3 * second.low + high3 * second.high;
    return Products(mat4x4(first0, first1, first2, first3), mat4x4(second0, second1, second2, second3));
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
    let rows0 = tile.rows0 * params.in_stride8;
    let rows1 = tile.rows1 * params.in_stride8;
    let features0 = tile.features0 * params.in_stride8;
    let features1 = tile.features1 * params.in_stride8;
    var sums00 = mat4x4<f32>();
    var sums01 = mat4x4<f32>();
    var sums10 = mat4x4<f32>();
    var sums11 = mat4x4<f32>();
    for (var block = 0u; block < params.in_stride8; block += BLOCK8) {
        // A block is summed alone first: rounding errors grow with the length of a chain of additions.
        var parts00 = mat4x4<f32>();
        var parts01 = mat4x4<f32>();
        var parts10 = mat4x4<f32>();
        var parts11 = mat4x4<f32>();
        for (var k8 = block; k8 < min(block + BLOCK8, params.in_stride8); k8++) {
            let weights0 = weights4(features0 + k8);
            let weights1 = weights4(features1 + k8);
            let products0 = products(rows0 + k8, weights0, weights1);
            parts00 += products0.first;
            parts01 += products0.second;
            let products1 = products(rows1 + k8, weights0, weights1);
            parts10 += products1.first;
            parts11 += products1.second;
        }
        sums00 += parts00;
        sums01 += parts01;
        sums10 += parts10;
        sums11 += parts11;
    }
    // In a loop: written out, what becomes of a sum would be most of the code that a driver compiles.
    var sums = array(sums00, sums10, sums01, sums11);
    for (var i = 0u; i < 16u; i++) {
        store(tile.first_row + i % 8u, 2u * tile.column8 + i / 8u, sums[i / 4u][i % 4u]);
    }
}
