// numbers[r, k] = round(input[r, k] / scale_r), scale_r = max_k |input[r, k]| / 127
// uses: common
//
// One workgroup owns four rows. Sixteen invocations share a row: each takes every sixteenth vec4.

const ROWS: u32 = 4; // of a workgroup
const LANES: u32 = 16;
const MAX: f32 = 127.0;
const MIN_SCALE: f32 = 1.17549435e-38; // the smallest normal number
const INFINITY_BITS: u32 = 0x7f800000;
const NAN_BITS: u32 = 0x7fc00000;

struct Params {
    num_rows_at: u32,
    stride4: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>; // [rows, stride]
@group(0) @binding(2) var<storage, read> index: array<u32>; // see ChunkLayout
@group(0) @binding(3) var<storage, read_write> numbers: array<vec4<u32>>; // [rows, stride / 16, rounded up], 16 int8 each
@group(0) @binding(4) var<storage, read_write> scales: array<u32>; // [rows], bits of f32

var<workgroup> partial: array<u32, 64>; // [ROWS, LANES]

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
    // Bits without the sign have the order of what they mean; those of a NaN are the largest.
    var largest = vec4<u32>();
    for (var column = local % LANES; column < params.stride4; column += LANES) {
        largest = max(largest, bitcast<vec4<u32>>(input[start + column]) & vec4(0x7fffffffu));
    }
    let bits = row_max(local, max(max(largest.x, largest.y), max(largest.z, largest.w)));
    if row >= num_rows {
        return;
    }
    // A row of zeros, or of values that have no scale among normal numbers, has 0. One with an infinity or NaN has NaN, and so have its sums.
    let is_finite = bits < INFINITY_BITS;
    let scale = select(0.0, bitcast<f32>(bits), is_finite) / MAX;
    let has_scale = scale >= MIN_SCALE;
    let factor = select(0.0, 1.0 / select(1.0, scale, has_scale), has_scale);
    if local % LANES == 0u {
        scales[row] = select(NAN_BITS, select(0u, bitcast<u32>(scale), has_scale), is_finite);
    }
    let stride16 = (params.stride4 + 3u) / 4u;
    for (var column = local % LANES; column < stride16; column += LANES) {
        var words = vec4<u32>();
        for (var word = 0u; word < min(4u, params.stride4 - 4u * column); word++) {
            words[word] = packed(round(input[start + 4u * column + word] * factor));
        }
        numbers[row * stride16 + column] = words;
    }
}

fn packed(values: vec4<f32>) -> u32 {
    let bytes = (bitcast<vec4<u32>>(vec4<i32>(values)) & vec4(0xffu)) << vec4(0u, 8u, 16u, 24u);
    return (bytes.x | bytes.y) | (bytes.z | bytes.w);
}

// The largest of what the invocations of a row have.
fn row_max(local: u32, value: u32) -> u32 {
    partial[local] = value;
    workgroupBarrier();
    let at = local / LANES * LANES;
    return max(max(max_of_four(at), max_of_four(at + 4u)), max(max_of_four(at + 8u), max_of_four(at + 12u)));
}

fn max_of_four(at: u32) -> u32 {
    return max(max(partial[at], partial[at + 1u]), max(partial[at + 2u], partial[at + 3u]));
}
