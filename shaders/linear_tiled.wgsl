// output[r, output_column + c] = activation(Σ_k input[r, k] · weight[first_feature + c, k] + bias[first_feature + c]) + residual[r, c]
//
// The tiled variant, for hardware. One workgroup owns a tile of 64 rows × 64 features, and holds inputs and weights of it in workgroup
// memory.

var<workgroup> rows_tile: array<vec4<f32>, 256>; // [DEPTH4, TILE]

@compute @workgroup_size(64)
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
    let row = local / 8u;
    let column = local % 8u;
    var first = Sums();
    var second = Sums();
    for (var k4 = 0u; k4 < 2u * params.in_stride8; k4 += DEPTH4) {
        for (var part = local; part < TILE * DEPTH4; part += 64u) {
            let at = part / DEPTH4;
            let depth = part % DEPTH4;
            rows_tile[depth * TILE + at] = inputs_at(tile, at, k4 + depth);
            weights_tile[(depth * 4u + at % 4u) * (TILE / 4u) + at / 4u] = weights_at(tile, at, k4 + depth);
        }
        workgroupBarrier();
        // A block is summed alone first: rounding errors grow with the length of a chain of additions.
        first = plus(first, block_sums(row, column));
        second = plus(second, block_sums(row, column + 8u));
        workgroupBarrier();
    }
    store8(tile.first_row + row, tile.first_feature / 4u + column, first);
    store8(tile.first_row + row, tile.first_feature / 4u + column + 8u, second);
}

// The products of the invocation's rows with a column, over what is in workgroup memory.
fn block_sums(row: u32, column: u32) -> Sums {
    var sums = Sums();
    for (var depth = 0u; depth < DEPTH4; depth++) {
        let at = depth * TILE + row;
        let rows = Sums(
            rows_tile[at],
            rows_tile[at + 8u],
            rows_tile[at + 16u],
            rows_tile[at + 24u],
            rows_tile[at + 32u],
            rows_tile[at + 40u],
            rows_tile[at + 48u],
            rows_tile[at + 56u],
        );
        sums = plus(sums, products(rows, column_weights(depth, column)));
    }
    return sums;
}
