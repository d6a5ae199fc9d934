// output[r, output_column + c] = activation(Σ_k input[r, k] · weight[first_feature + c, k] + bias[first_feature + c]) + residual[r, c]
// uses: common, erf, exp, linear_parts, linear_floats, linear_tiles
//
// The tiled variant, for hardware. One workgroup owns a tile of 64 rows × 64 features. Each of its 8 × 16 invocations
// owns 8 rows × 4 features of it, in registers. Inputs and weights of the tile are in workgroup memory, 16 inputs at
// a time.
//
// Inner places in that memory are written as constants, which need no bounds check. Invocations that store together own different banks
// of it, and read whole sectors of the weights.

const DEPTH4: u32 = 4; // 16 inputs

@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>; // [rows, in_stride]

var<workgroup> weights_tile: array<array<vec4<f32>, 17>, 16>; // [columns, DEPTH4 · 4 features of a column, and one between banks]
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

// Of eight rows: four inputs, or sums for the four features of a column.
struct Rows8 {
    row0: vec4<f32>,
    row1: vec4<f32>,
    row2: vec4<f32>,
    row3: vec4<f32>,
    row4: vec4<f32>,
    row5: vec4<f32>,
    row6: vec4<f32>,
    row7: vec4<f32>,
}

// Four inputs of one of the tile's rows. Of rows past the end the last one is read again, and not stored. No branch waits for memory.
fn inputs_at(tile: Tile, row: u32, k4: u32) -> vec4<f32> {
    let at = min(tile.first_row + row, tile.num_rows - 1u) * 2u * params.in_stride8;
    return input[at + min(k4, 2u * params.in_stride8 - 1u)];
}

// The weights that an invocation stores, as they are in memory: of two features, the same four inputs of each.
struct OwnWeights {
    low: vec4<u32>,
    high: vec4<u32>,
    k4: u32,
}

fn own_weights(tile: Tile, local: u32, first_k4: u32) -> OwnWeights {
    let feature = 4u * (local % 8u) + local / 32u;
    let k4 = first_k4 + local / 8u % DEPTH4;
    return OwnWeights(weights_at(tile, feature, k4), weights_at(tile, feature + 32u, k4), k4);
}

fn weights_at(tile: Tile, feature: u32, k4: u32) -> vec4<u32> {
    let row = params.first_feature + min(tile.first_feature + feature, tile.num_features - 1u);
    let at4 = row * 2u * params.in_stride8 + min(k4, 2u * params.in_stride8 - 1u);
    return weight[select(at4, at4 / 2u, WEIGHT_F16)];
}

// Past the last input they are 0, whatever was read.
fn store_weights(local: u32, weights: OwnWeights) {
    let place = local / 8u % DEPTH4 * 4u + local / 32u;
    let is_past = weights.k4 >= 2u * params.in_stride8;
    weights_tile[local % 8u][place] = select(values(weights.low, weights.k4), vec4<f32>(), is_past);
    weights_tile[local % 8u + 8u][place] = select(values(weights.high, weights.k4), vec4<f32>(), is_past);
}

// Rows are whole numbers of eight values, so that four values' place tells their half of eight f16.
fn values(bits: vec4<u32>, k4: u32) -> vec4<f32> {
    if WEIGHT_F16 {
        return widen(select(bits.xy, bits.zw, k4 % 2u == 1u));
    }
    return bitcast<vec4<f32>>(bits);
}

fn plus(one: Rows8, other: Rows8) -> Rows8 {
    return Rows8(
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

// The sums, and four inputs of each row times the weights of four features.
fn add_products(sums: Rows8, inputs: Rows8, weights: mat4x4<f32>) -> Rows8 {
    let by_input = transpose(weights);
    return Rows8(
        add_row(sums.row0, inputs.row0, by_input),
        add_row(sums.row1, inputs.row1, by_input),
        add_row(sums.row2, inputs.row2, by_input),
        add_row(sums.row3, inputs.row3, by_input),
        add_row(sums.row4, inputs.row4, by_input),
        add_row(sums.row5, inputs.row5, by_input),
        add_row(sums.row6, inputs.row6, by_input),
        add_row(sums.row7, inputs.row7, by_input),
    );
}

fn add_row(sum: vec4<f32>, inputs: vec4<f32>, by_input: mat4x4<f32>) -> vec4<f32> {
    let x = fma(vec4(inputs.x), by_input[0], sum);
    let xy = fma(vec4(inputs.y), by_input[1], x);
    let xyz = fma(vec4(inputs.z), by_input[2], xy);
    return fma(vec4(inputs.w), by_input[3], xyz);
}

fn store8(row: u32, column4: u32, sums: Rows8) {
    store(row, column4, sums.row0);
    store(row + 1u, column4, sums.row1);
    store(row + 2u, column4, sums.row2);
    store(row + 3u, column4, sums.row3);
    store(row + 4u, column4, sums.row4);
    store(row + 5u, column4, sums.row5);
    store(row + 6u, column4, sums.row6);
    store(row + 7u, column4, sums.row7);
}
