// What the wide variants of the matrix product share. One invocation owns a tile of TILE_ROWS rows × TILE_FEATURES features; neighbours
// own the next features of the same rows. No workgroup memory: independent work suits software adapters, and caches serve the rest.

const WORKGROUP_SIZE: u32 = 32; // few, so that a short text's workgroups can be shared out evenly
const TILE_ROWS: u32 = 8;
const TILE_FEATURES: u32 = 8;

struct Tile {
    num_rows: u32,
    first_row: u32, // num_rows or more if the invocation has nothing to do
    column8: u32,
    rows0: vec4<u32>, // the first four rows
    rows1: vec4<u32>, // the others
    features0: vec4<u32>, // the first four features
    features1: vec4<u32>, // the others
}

fn own_tile(workgroup_id: vec3<u32>, num_workgroups: vec3<u32>, local: u32) -> Tile {
    let num_rows = index[params.num_rows_at];
    let num_columns8 = (4u * params.num_features4 + TILE_FEATURES - 1u) / TILE_FEATURES;
    let num_tiles = (num_rows + TILE_ROWS - 1u) / TILE_ROWS * num_columns8;
    let num_busy = (num_tiles + WORKGROUP_SIZE - 1u) / WORKGROUP_SIZE;
    let id = busy_workgroup(workgroup_id, num_workgroups, num_busy) * WORKGROUP_SIZE + local;
    let column8 = id % num_columns8;
    let first_row = id / num_columns8 * TILE_ROWS;
    if column8 == 0u && first_row < num_rows {
        count_rows(min(TILE_ROWS, num_rows - first_row), params.multiply_adds_per_row);
    }
    // Rows past the end repeat the last one; neither they nor features past the end, read wherever bounds checks lead, are stored.
    let rows0 = min(first_row + vec4(0u, 1u, 2u, 3u), vec4(num_rows - 1u));
    let rows1 = min(first_row + vec4(4u, 5u, 6u, 7u), vec4(num_rows - 1u));
    let features0 = params.first_feature + TILE_FEATURES * column8 + vec4(0u, 1u, 2u, 3u);
    return Tile(num_rows, first_row, column8, rows0, rows1, features0, features0 + 4u);
}
