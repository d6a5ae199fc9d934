// output[r, output_column + c] = activation(Σ_k input[r, k] · weight[first_feature + c, k] + bias[first_feature + c]) + residual[r, c]
//
// The tiled variant, for hardware. One workgroup owns a tile of 64 rows × 64 features, and holds 16 inputs of them at a time in workgroup
// memory; of its 8 × 8 invocations each owns 8 rows × 8 features, in registers. Neighbours own neighbouring rows and columns, so that
// they read neighbouring words.

const TILE: u32 = 64;
const DEPTH4: u32 = 4; // 16 inputs

var<workgroup> rows_tile: array<vec4<f32>, 256>; // [DEPTH4, TILE]
var<workgroup> weights_tile: array<vec4<f32>, 256>; // [DEPTH4, 4 features of a column, TILE / 4 columns]

// Sums of eight rows, 8 apart, with the four features of a column.
struct Sums {
    row0: vec4<f32>,
    row1: vec4<f32>,
    row2: vec4<f32>,
    row3: vec4<f32>,
    row4: vec4<f32>,
    row5: vec4<f32>,
    row6: vec4<f32>,
    row7: vec4<f32>,
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let num_rows = index[params.num_rows_at];
    let num_features = 4u * params.num_features4;
    let num_columns = (num_features + TILE - 1u) / TILE;
    let num_tiles = (num_rows + TILE - 1u) / TILE * num_columns;
    let tile = busy_workgroup(workgroup_id, num_workgroups, num_tiles);
    if tile >= num_tiles {
        return;
    }
    let first_row = tile / num_columns * TILE;
    let first_feature = tile % num_columns * TILE;
    if local == 0u && first_feature == 0u {
        count_rows(min(TILE, num_rows - first_row), params.multiply_adds_per_row);
    }
    let row = local / 8u;
    let column = local % 8u;
    var first = Sums();
    var second = Sums();
    for (var k4 = 0u; k4 < 2u * params.in_stride8; k4 += DEPTH4) {
        // What is beyond the end weighs nothing.
        for (var part = local; part < TILE * DEPTH4; part += 64u) {
            let at = part / DEPTH4;
            let depth = part % DEPTH4;
            let k = k4 + depth;
            var values = vec4<f32>();
            if first_row + at < num_rows && k < 2u * params.in_stride8 {
                values = input[(first_row + at) * 2u * params.in_stride8 + k];
            }
            rows_tile[depth * TILE + at] = values;
            var weights = vec4<f32>();
            if first_feature + at < num_features && k < 2u * params.in_stride8 {
                weights = weights_at((params.first_feature + first_feature + at) * 2u * params.in_stride8 + k);
            }
            weights_tile[(depth * 4u + at % 4u) * (TILE / 4u) + at / 4u] = weights;
        }
        workgroupBarrier();
        // A block is summed alone first: rounding errors grow with the length of a chain of additions.
        first = plus(first, block_sums(row, column));
        second = plus(second, block_sums(row, column + 8u));
        workgroupBarrier();
    }
    store8(first_row + row, first_feature / 4u + column, first);
    store8(first_row + row, first_feature / 4u + column + 8u, second);
}

fn weights_at(at4: u32) -> vec4<f32> {
    if WEIGHT_F16 {
        let bits = weight[at4 / 2u];
        return widen(select(bits.xy, bits.zw, at4 % 2u == 1u));
    }
    return bitcast<vec4<f32>>(weight[at4]);
}

// The products of the invocation's rows with a column, over what is in workgroup memory.
fn block_sums(row: u32, column: u32) -> Sums {
    var sums = Sums();
    for (var depth = 0u; depth < DEPTH4; depth++) {
        let at = depth * TILE + column;
        let weights = mat4x4(
            weights_tile[at],
            weights_tile[at + 16u],
            weights_tile[at + 32u],
            weights_tile[at + 48u],
        );
        let rows = depth * TILE + row;
        // A row times a matrix: its products with the columns.
        let products = Sums(
            rows_tile[rows] * weights,
            rows_tile[rows + 8u] * weights,
            rows_tile[rows + 16u] * weights,
            rows_tile[rows + 24u] * weights,
            rows_tile[rows + 32u] * weights,
            rows_tile[rows + 40u] * weights,
            rows_tile[rows + 48u] * weights,
            rows_tile[rows + 56u] * weights,
        );
        sums = plus(sums, products);
    }
    return sums;
}

fn plus(one: Sums, other: Sums) -> Sums {
    return Sums(
        one.row0 + other.row0,
        one.row1 + other.row1,
        one.row2 + other.row2,
        one.row3 + other.row3,
        one.row4 + other.row4,
        one.row5 + other.row5,
        one.row6 + other.row6,
        one.row7 + other.row7,
    );
}

fn store8(row: u32, column4: u32, sums: Sums) {
    store(row, column4, sums.row0);
    store(row + 8u, column4, sums.row1);
    store(row + 16u, column4, sums.row2);
    store(row + 24u, column4, sums.row3);
    store(row + 32u, column4, sums.row4);
    store(row + 40u, column4, sums.row5);
    store(row + 48u, column4, sums.row6);
    store(row + 56u, column4, sums.row7);
}
