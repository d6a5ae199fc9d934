// What the variants with tiles share: a workgroup's tile of 64 rows × 64 features, and its weights in workgroup memory, 16 inputs at a
// time. Of its 8 × 8 invocations each owns 8 rows × 8 features, in registers. Neighbours own neighbouring rows and columns, so that they
// read neighbouring words.

const TILE: u32 = 64;
const DEPTH4: u32 = 4; // 16 inputs

var<workgroup> weights_tile: array<vec4<f32>, 256>; // [DEPTH4, 4 features of a column, TILE / 4 columns]

struct Tile {
    num_rows: u32,
    num_features: u32,
    first_row: u32, // num_rows or more if the workgroup has nothing to do
    first_feature: u32,
}

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

fn own_tile(workgroup_id: vec3<u32>, num_workgroups: vec3<u32>) -> Tile {
    let num_rows = index[params.num_rows_at];
    let num_features = 4u * params.num_features4;
    let num_columns = (num_features + TILE - 1u) / TILE;
    let num_tiles = (num_rows + TILE - 1u) / TILE * num_columns;
    let tile = busy_workgroup(workgroup_id, num_workgroups, num_tiles);
    return Tile(num_rows, num_features, tile / num_columns * TILE, tile % num_columns * TILE);
}

// Four inputs of one of the tile's rows. What is beyond the end weighs nothing.
fn inputs_at(tile: Tile, row: u32, k4: u32) -> vec4<f32> {
    if tile.first_row + row < tile.num_rows && k4 < 2u * params.in_stride8 {
        return input[(tile.first_row + row) * 2u * params.in_stride8 + k4];
    }
    return vec4<f32>();
}

// Four weights of one of the tile's features, likewise.
fn weights_at(tile: Tile, feature: u32, k4: u32) -> vec4<f32> {
    if tile.first_feature + feature >= tile.num_features || k4 >= 2u * params.in_stride8 {
        return vec4<f32>();
    }
    let at4 = (params.first_feature + tile.first_feature + feature) * 2u * params.in_stride8 + k4;
    if WEIGHT_F16 {
        let bits = weight[at4 / 2u];
        return widen(select(bits.xy, bits.zw, at4 % 2u == 1u));
    }
    return bitcast<vec4<f32>>(weight[at4]);
}

// The weights of a column: four inputs of each of its four features.
fn column_weights(depth: u32, column: u32) -> mat4x4<f32> {
    let at = depth * TILE + column;
    return mat4x4(weights_tile[at], weights_tile[at + 16u], weights_tile[at + 32u], weights_tile[at + 48u]);
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

// A row times a matrix: its products with the columns.
fn products(rows: Sums, weights: mat4x4<f32>) -> Sums {
    return Sums(
        rows.row0 * weights,
        rows.row1 * weights,
        rows.row2 * weights,
        rows.row3 * weights,
        rows.row4 * weights,
        rows.row5 * weights,
        rows.row6 * weights,
        rows.row7 * weights,
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
