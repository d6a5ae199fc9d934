// What the tiled variants of the matrix product share: a workgroup owns a tile of 64 rows × 64 features.

const TILE: u32 = 64;

struct Tile {
    num_rows: u32,
    num_features: u32,
    first_row: u32, // num_rows or more if the workgroup has nothing to do
    first_feature: u32,
}

fn own_tile(workgroup_id: vec3<u32>, num_workgroups: vec3<u32>) -> Tile {
    let num_rows = index[params.num_rows_at];
    let num_features = 4u * params.num_features4;
    let num_columns = (num_features + TILE - 1u) / TILE;
    let num_tiles = (num_rows + TILE - 1u) / TILE * num_columns;
    let tile = busy_workgroup(workgroup_id, num_workgroups, num_tiles);
    return Tile(num_rows, num_features, tile / num_columns * TILE, tile % num_columns * TILE);
}
