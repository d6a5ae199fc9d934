// A tile of scores row by row, each row by four invocations: of every sixteen keys each takes four, the first ones those from 4 · quarter.

const ROW_STRIDE: u32 = 17; // one more than the columns, so that neighbouring rows are in different banks of the memory

var<workgroup> row_tile: array<vec4<f32>, 272>; // [SCORE_ROWS, ROW_STRIDE]

// Stores an invocation's share of `tile_scores`.
fn keep_scores(local: u32, scores: mat4x4<f32>) {
    let at = local / 16u * ROW_STRIDE + local % 16u;
    row_tile[at] = scores[0];
    row_tile[at + 4u * ROW_STRIDE] = scores[1];
    row_tile[at + 8u * ROW_STRIDE] = scores[2];
    row_tile[at + 12u * ROW_STRIDE] = scores[3];
}

fn first_of_row(local: u32) -> u32 {
    return local / 4u * ROW_STRIDE + local % 4u;
}
