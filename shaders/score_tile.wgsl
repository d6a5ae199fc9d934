// Attention scores of a tile of 16 query rows × 64 keys of one head, by the 64 invocations of a workgroup: for hardware. Each owns four
// rows, four apart from its own first one, and four neighbouring keys. Whoever includes this says where queries and keys are read:
// `query_at(address)`, `key_at(address)`.

const SCORE_ROWS: u32 = 16;
const SCORE_KEYS: u32 = 64;
const BLOCK: u32 = 8; // 32 columns of a head

var<workgroup> query_tile: array<vec4<f32>, 128>; // [SCORE_ROWS, BLOCK]
var<workgroup> key_tile: array<vec4<f32>, 512>; // [BLOCK, 4, SCORE_KEYS / 4]; or values, [SCORE_KEYS, BLOCK]

// Rows or keys of one sample, at least one.
struct Range {
    first: u32,
    end: u32,
}

// S[r][j] = Q[rows.first + own row + 4 r] · K[first_key + 4 · own column + j] · scale. What is beyond an end repeats the last one.
// The addresses are those of the head's columns in the first row of all.
fn tile_scores(local: u32, rows: Range, first_query_at: u32, query_stride4: u32, keys: Range, first_key: u32, first_key_at: u32) -> mat4x4<f32> {
    let row = local / 16u;
    let column = local % 16u;
    var scores = mat4x4<f32>();
    for (var block = 0u; block < params.head_stride4; block += BLOCK) {
        let width = min(BLOCK, params.head_stride4 - block);
        // What was read from the tiles before has been.
        workgroupBarrier();
        load_queries(local, rows, first_query_at + block, query_stride4, width);
        load_keys(local, keys, first_key, first_key_at + block, width);
        workgroupBarrier();
        for (var d = 0u; d < width; d += 2u) {
            scores += column_scores(row, column, d);
            scores += column_scores(row, column, d + 1u);
        }
    }
    return scores * params.scale;
}

fn column_scores(row: u32, column: u32, d: u32) -> mat4x4<f32> {
    let at = d * SCORE_KEYS + column;
    let four = mat4x4(key_tile[at], key_tile[at + 16u], key_tile[at + 32u], key_tile[at + 48u]);
    let query = row * BLOCK + d;
    // A row times a matrix: its products with the columns.
    return mat4x4(
        query_tile[query] * four,
        query_tile[query + 4u * BLOCK] * four,
        query_tile[query + 8u * BLOCK] * four,
        query_tile[query + 12u * BLOCK] * four,
    );
}

// What is loaded is all on its way before the first of it is stored: loops that wait for every read are slow. Columns past
// `width` are 0.
fn load_queries(local: u32, rows: Range, first_query_at: u32, query_stride4: u32, width: u32) {
    let at = first_query_at + min(local % BLOCK, width - 1u);
    let row = rows.first + local / BLOCK;
    let first = query_at(at + min(row, rows.end - 1u) * query_stride4);
    let second = query_at(at + min(row + 8u, rows.end - 1u) * query_stride4);
    let is_past = local % BLOCK >= width;
    query_tile[local] = select(first, vec4<f32>(), is_past);
    query_tile[local + 64u] = select(second, vec4<f32>(), is_past);
}

fn load_keys(local: u32, keys: Range, first_key: u32, first_key_at: u32, width: u32) {
    let shift = select(select(3u, 2u, width <= 4u), 1u, width <= 2u);
    let item0 = key_item(local, shift);
    let item1 = key_item(local + 64u, shift);
    let value0 = key_value(item0, keys, first_key, first_key_at, width);
    let value1 = key_value(item1, keys, first_key, first_key_at, width);
    if shift > 1u {
        let item2 = key_item(local + 128u, shift);
        let item3 = key_item(local + 192u, shift);
        let value2 = key_value(item2, keys, first_key, first_key_at, width);
        let value3 = key_value(item3, keys, first_key, first_key_at, width);
        if shift > 2u {
            let item4 = key_item(local + 256u, shift);
            let item5 = key_item(local + 320u, shift);
            let item6 = key_item(local + 384u, shift);
            let item7 = key_item(local + 448u, shift);
            let value4 = key_value(item4, keys, first_key, first_key_at, width);
            let value5 = key_value(item5, keys, first_key, first_key_at, width);
            let value6 = key_value(item6, keys, first_key, first_key_at, width);
            let value7 = key_value(item7, keys, first_key, first_key_at, width);
            key_tile[item4.place] = value4;
            key_tile[item5.place] = value5;
            key_tile[item6.place] = value6;
            key_tile[item7.place] = value7;
        }
        key_tile[item2.place] = value2;
        key_tile[item3.place] = value3;
    }
    key_tile[item0.place] = value0;
    key_tile[item1.place] = value1;
}

// A column of a key of the tile, and where it is kept.
struct KeyItem {
    key: u32,
    d: u32,
    place: u32,
}

// Of 64 keys times 1 << shift columns. Eight neighbours have keys that are kept in different banks of the memory. The
// next ones have the same keys' next columns, so that whole sectors are read.
fn key_item(number: u32, shift: u32) -> KeyItem {
    let d = (number >> 3u) & ((1u << shift) - 1u);
    let group = number >> (3u + shift);
    let four = number % 8u + group / 4u * 8u;
    return KeyItem(4u * four + group % 4u, d, (4u * d + group % 4u) * (SCORE_KEYS / 4u) + four);
}

fn key_value(item: KeyItem, keys: Range, first_key: u32, first_key_at: u32, width: u32) -> vec4<f32> {
    let at = first_key_at + min(first_key + item.key, keys.end - 1u) * params.qkv_stride4;
    return select(key_at(at + min(item.d, width - 1u)), vec4<f32>(), item.d >= width);
}
