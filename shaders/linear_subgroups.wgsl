// output[r, output_column + c] = activation(Σ_k input[r, k] · weight[first_feature + c, k] + bias[first_feature + c]) + residual[r, c]
//
// The variant with subgroups, of at least 8 invocations. One workgroup owns a tile of 64 rows × 64 features. Each 8 invocations in turn
// own the same 8 rows, hold one row's inputs each, in registers, and hand them to one another: only the weights go through workgroup
// memory.

@compute @workgroup_size(128)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
    @builtin(subgroup_invocation_id) lane: u32,
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
    // The first of the eight, if a subgroup is a range of the workgroup: WGSL does not promise it, so a measurement checks the results.
    let lanes = lane - lane % 8u;
    let row = 8u * eighth + local % 8u;
    var inputs = row_inputs(tile, row, 0u);
    var weights = own_weights(tile, local, 0u);
    var sums = Rows8();
    for (var k4 = 0u; k4 < 2u * params.in_stride8; k4 += DEPTH4) {
        store_weights(local, weights);
        workgroupBarrier();
        // Under way while these are used.
        let next_inputs = row_inputs(tile, row, k4 + DEPTH4);
        weights = own_weights(tile, local, k4 + DEPTH4);
        // A part is summed alone first: rounding errors grow with the length of a chain of additions. Written out, because drivers do
        // not unroll the loops that wgpu bounds.
        var part = Rows8();
        part = add_products(part, all_rows(inputs[0], lanes), mat4x4(
            weights_tile[column][0],
            weights_tile[column][1],
            weights_tile[column][2],
            weights_tile[column][3],
        ));
        part = add_products(part, all_rows(inputs[1], lanes), mat4x4(
            weights_tile[column][4],
            weights_tile[column][5],
            weights_tile[column][6],
            weights_tile[column][7],
        ));
        part = add_products(part, all_rows(inputs[2], lanes), mat4x4(
            weights_tile[column][8],
            weights_tile[column][9],
            weights_tile[column][10],
            weights_tile[column][11],
        ));
        part = add_products(part, all_rows(inputs[3], lanes), mat4x4(
            weights_tile[column][12],
            weights_tile[column][13],
            weights_tile[column][14],
            weights_tile[column][15],
        ));
        sums = plus(sums, part);
        inputs = next_inputs;
        workgroupBarrier();
    }
    store8(tile.first_row + 8u * eighth, tile.first_feature / 4u + column, sums);
}

// Sixteen inputs of a row.
fn row_inputs(tile: Tile, row: u32, k4: u32) -> mat4x4<f32> {
    return mat4x4(
        inputs_at(tile, row, k4),
        inputs_at(tile, row, k4 + 1u),
        inputs_at(tile, row, k4 + 2u),
        inputs_at(tile, row, k4 + 3u),
    );
}

// What the eight invocations hold.
fn all_rows(held: vec4<f32>, lanes: u32) -> Rows8 {
    return Rows8(
        subgroupShuffle(held, lanes),
        subgroupShuffle(held, lanes + 1u),
        subgroupShuffle(held, lanes + 2u),
        subgroupShuffle(held, lanes + 3u),
        subgroupShuffle(held, lanes + 4u),
        subgroupShuffle(held, lanes + 5u),
        subgroupShuffle(held, lanes + 6u),
        subgroupShuffle(held, lanes + 7u),
    );
}
