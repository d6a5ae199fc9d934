// output[r, output_column + c] = activation(Σ_k input[r, k] · weight[first_feature + c, k] + bias[first_feature + c]) + residual[r, c]
//
// The tiled variant, for hardware. One workgroup owns a tile of 64 rows × 64 features, and holds inputs and weights of it in workgroup
// memory.

var<workgroup> rows_tile: array<array<vec4<f32>, 32>, 8>; // [eighths of the rows, DEPTH4 · 8 rows]

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
    // What this invocation stores for all: the same four inputs of two rows.
    let depth = local / 8u % DEPTH4;
    let place = depth * 8u + local % 8u;
    let row = local / 32u * 8u + local % 8u;
    var low = inputs_at(tile, row, depth);
    var high = inputs_at(tile, row + 32u, depth);
    var weights = own_weights(tile, local, 0u);
    var sums = Rows8();
    for (var k4 = 0u; k4 < 2u * params.in_stride8; k4 += DEPTH4) {
        rows_tile[local / 32u][place] = low;
        rows_tile[local / 32u + 4u][place] = high;
        store_weights(local, weights);
        workgroupBarrier();
        // Under way while these are used.
        low = inputs_at(tile, row, k4 + DEPTH4 + depth);
        high = inputs_at(tile, row + 32u, k4 + DEPTH4 + depth);
        weights = own_weights(tile, local, k4 + DEPTH4);
        // A part is summed alone first: rounding errors grow with the length of a chain of additions. Written out, because drivers do
        // not unroll the loops that wgpu bounds.
        var part = Rows8();
        part = add_products(part, Rows8(
            rows_tile[eighth][0],
            rows_tile[eighth][1],
            rows_tile[eighth][2],
            rows_tile[eighth][3],
            rows_tile[eighth][4],
            rows_tile[eighth][5],
            rows_tile[eighth][6],
            rows_tile[eighth][7],
        ), mat4x4(
            weights_tile[column][0],
            weights_tile[column][1],
            weights_tile[column][2],
            weights_tile[column][3],
        ));
        part = add_products(part, Rows8(
            rows_tile[eighth][8],
            rows_tile[eighth][9],
            rows_tile[eighth][10],
            rows_tile[eighth][11],
            rows_tile[eighth][12],
            rows_tile[eighth][13],
            rows_tile[eighth][14],
            rows_tile[eighth][15],
        ), mat4x4(
            weights_tile[column][4],
            weights_tile[column][5],
            weights_tile[column][6],
            weights_tile[column][7],
        ));
        part = add_products(part, Rows8(
            rows_tile[eighth][16],
            rows_tile[eighth][17],
            rows_tile[eighth][18],
            rows_tile[eighth][19],
            rows_tile[eighth][20],
            rows_tile[eighth][21],
            rows_tile[eighth][22],
            rows_tile[eighth][23],
        ), mat4x4(
            weights_tile[column][8],
            weights_tile[column][9],
            weights_tile[column][10],
            weights_tile[column][11],
        ));
        part = add_products(part, Rows8(
            rows_tile[eighth][24],
            rows_tile[eighth][25],
            rows_tile[eighth][26],
            rows_tile[eighth][27],
            rows_tile[eighth][28],
            rows_tile[eighth][29],
            rows_tile[eighth][30],
            rows_tile[eighth][31],
        ), mat4x4(
            weights_tile[column][12],
            weights_tile[column][13],
            weights_tile[column][14],
            weights_tile[column][15],
        ));
        sums = plus(sums, part);
        workgroupBarrier();
    }
    store8(tile.first_row + 8u * eighth, tile.first_feature / 4u + column, sums);
}
