// output[r, output_column + c] = activation(Σ_k input[r, k] · weight[first_feature + c, k] + bias[first_feature + c]) + residual[r, c]
//
// The variant with subgroups, of at least 8 invocations. One workgroup owns a tile of 64 rows × 64 features. The 8 invocations that own
// the same 8 rows hold one row's inputs each, in registers, and hand them to one another: only the weights go through workgroup memory.

@compute @workgroup_size(64)
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
    let row = local / 8u;
    let column = local % 8u;
    // The first of the eight, if a subgroup is a range of the workgroup: WGSL does not promise it, so a measurement checks the results.
    let lanes = lane - lane % 8u;
    var first = Sums();
    var second = Sums();
    for (var k4 = 0u; k4 < 2u * params.in_stride8; k4 += DEPTH4) {
        for (var part = local; part < TILE * DEPTH4; part += 64u) {
            let at = part / DEPTH4;
            let depth = part % DEPTH4;
            weights_tile[(depth * 4u + at % 4u) * (TILE / 4u) + at / 4u] = weights_at(tile, at, k4 + depth);
        }
        workgroupBarrier();
        // A block is summed alone first: rounding errors grow with the length of a chain of additions.
        var first_block = Sums();
        var second_block = Sums();
        for (var depth = 0u; depth < DEPTH4; depth++) {
            let own = inputs_at(tile, row + 8u * column, k4 + depth);
            let rows = Sums(
                subgroupShuffle(own, lanes),
                subgroupShuffle(own, lanes + 1u),
                subgroupShuffle(own, lanes + 2u),
                subgroupShuffle(own, lanes + 3u),
                subgroupShuffle(own, lanes + 4u),
                subgroupShuffle(own, lanes + 5u),
                subgroupShuffle(own, lanes + 6u),
                subgroupShuffle(own, lanes + 7u),
            );
            first_block = plus(first_block, products(rows, column_weights(depth, column)));
            second_block = plus(second_block, products(rows, column_weights(depth, column + 8u)));
        }
        first = plus(first, first_block);
        second = plus(second, second_block);
        workgroupBarrier();
    }
    store8(tile.first_row + row, tile.first_feature / 4u + column, first);
    store8(tile.first_row + row, tile.first_feature / 4u + column + 8u, second);
}
