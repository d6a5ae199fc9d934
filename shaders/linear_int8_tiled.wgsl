// output[r, output_column + c] = activation(Σ_k numbers[r, k] · weight[first_feature + c, k] · scale_r · scale_c + bias[first_feature + c]) + residual[r, c]
// uses: common, erf, exp, linear_parts, linear_int8_parts, linear_tiles
//
// The tiled variant, for hardware, where an instruction multiplies four numbers by four. One workgroup owns 64 rows ×
// 64 features, as in linear_tiled.wgsl, with 16 numbers in a vec4. Each of 8 × 16 invocations owns 8 rows × 4
// features. 64 inputs at a time are in workgroup memory.

const DEPTH16: u32 = 4; // 64 inputs

var<workgroup> weights_tile: array<array<vec4<u32>, 17>, 16>; // [columns, DEPTH16 · 4 features of a column, and one between banks]
var<workgroup> rows_tile: array<array<vec4<u32>, 32>, 8>; // [eighths of the rows, DEPTH16 · 8 rows]

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let tile = own_tile(workgroup_id, num_workgroups);
    if tile.first_row >= tile.num_rows {
        return;
    }
    if local == 0u && tile.first_feature == 0u {
        count_rows(min(TILE, tile.num_rows - tile.first_row), params.multiply_adds_per_row);
    }
    let eighth = local / 16u;
    let column = local % 16u;
    // What this invocation stores for all: the same 16 inputs of two rows, and of two features.
    let depth = local / 8u % DEPTH16;
    let row_place = depth * 8u + local % 8u;
    let row = local / 32u * 8u + local % 8u;
    let weight_place = depth * 4u + local / 32u;
    let feature = 4u * (local % 8u) + local / 32u;
    var sums = Sums8();
    for (var k16 = 0u; k16 < stride16(); k16 += DEPTH16) {
        rows_tile[local / 32u][row_place] = inputs_at(tile, row, k16 + depth);
        rows_tile[local / 32u + 4u][row_place] = inputs_at(tile, row + 32u, k16 + depth);
        weights_tile[local % 8u][weight_place] = weights_at(tile, feature, k16 + depth);
        weights_tile[local % 8u + 8u][weight_place] = weights_at(tile, feature + 32u, k16 + depth);
        workgroupBarrier();
        sums = add_products(sums, eighth, column, 0u);
        sums = add_products(sums, eighth, column, 1u);
        sums = add_products(sums, eighth, column, 2u);
        sums = add_products(sums, eighth, column, 3u);
        workgroupBarrier();
    }
    let first_row = tile.first_row + 8u * eighth;
    let column4 = tile.first_feature / 4u + column;
    store_scaled(first_row, column4, sums.row0);
    store_scaled(first_row + 1u, column4, sums.row1);
    store_scaled(first_row + 2u, column4, sums.row2);
    store_scaled(first_row + 3u, column4, sums.row3);
    store_scaled(first_row + 4u, column4, sums.row4);
    store_scaled(first_row + 5u, column4, sums.row5);
    store_scaled(first_row + 6u, column4, sums.row6);
    store_scaled(first_row + 7u, column4, sums.row7);
}

// 16 numbers of one of the tile's rows. Of rows past the end the last one is read again, and not stored.
fn inputs_at(tile: Tile, row: u32, k16: u32) -> vec4<u32> {
    return input[min(tile.first_row + row, tile.num_rows - 1u) * stride16() + min(k16, stride16() - 1u)];
}

// Past the last input they are 0, whatever was read.
fn weights_at(tile: Tile, feature: u32, k16: u32) -> vec4<u32> {
    let row = params.first_feature + min(tile.first_feature + feature, tile.num_features - 1u);
    return select(weight[row * stride16() + min(k16, stride16() - 1u)], vec4<u32>(), k16 >= stride16());
}

// Sums of eight rows for the four features of a column.
struct Sums8 {
    row0: vec4<i32>,
    row1: vec4<i32>,
    row2: vec4<i32>,
    row3: vec4<i32>,
    row4: vec4<i32>,
    row5: vec4<i32>,
    row6: vec4<i32>,
    row7: vec4<i32>,
}

// The sums, and 16 inputs of each row times the weights of four features.
fn add_products(sums: Sums8, eighth: u32, column: u32, depth: u32) -> Sums8 {
    let weights = Weights4(
        weights_tile[column][4u * depth],
        weights_tile[column][4u * depth + 1u],
        weights_tile[column][4u * depth + 2u],
        weights_tile[column][4u * depth + 3u],
    );
    return Sums8(
        sums.row0 + dots(rows_tile[eighth][8u * depth], weights),
        sums.row1 + dots(rows_tile[eighth][8u * depth + 1u], weights),
        sums.row2 + dots(rows_tile[eighth][8u * depth + 2u], weights),
        sums.row3 + dots(rows_tile[eighth][8u * depth + 3u], weights),
        sums.row4 + dots(rows_tile[eighth][8u * depth + 4u], weights),
        sums.row5 + dots(rows_tile[eighth][8u * depth + 5u], weights),
        sums.row6 + dots(rows_tile[eighth][8u * depth + 6u], weights),
        sums.row7 + dots(rows_tile[eighth][8u * depth + 7u], weights),
    );
}

struct Weights4 {
    feature0: vec4<u32>,
    feature1: vec4<u32>,
    feature2: vec4<u32>,
    feature3: vec4<u32>,
}

fn dots(numbers: vec4<u32>, weights: Weights4) -> vec4<i32> {
    return vec4(
        dot16(numbers, weights.feature0),
        dot16(numbers, weights.feature1),
        dot16(numbers, weights.feature2),
        dot16(numbers, weights.feature3),
    );
}

fn dot16(one: vec4<u32>, other: vec4<u32>) -> i32 {
    return (dot4(one.x, other.x) + dot4(one.y, other.y)) + (dot4(one.z, other.z) + dot4(one.w, other.w));
}
