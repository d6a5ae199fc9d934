// What the variants of attention_maps share: their arguments, how these are read, and what becomes of a score.

override KIND: u32 = 0; // 0: attention probabilities, 1: Φ of standardised scores

struct Params {
    num_rows_at: u32,
    sample_of_row_at: u32,
    offsets_at: u32,
    all_offsets_at: u32,
    map_offsets_at: u32,
    first_value: u32,
    max_tokens: u32,
    num_heads: u32,
    head_size: u32,
    head_stride4: u32,
    qkv_stride4: u32,
    key_column4: u32,
    stats_stride: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<vec4<f32>>; // [rows, qkv_stride]: Q, K, V
@group(0) @binding(2) var<storage, read> stats: array<f32>; // [rows, stats_stride], see attention_stats.wgsl
@group(0) @binding(3) var<storage, read> index: array<u32>; // see ChunkLayout
@group(0) @binding(4) var<storage, read_write> maps: array<f32>; // [num_layers, Σ T²]

fn query_at(address: u32) -> vec4<f32> {
    return qkv[address];
}

fn key_at(address: u32) -> vec4<f32> {
    return qkv[address];
}

// One head's part of four values of a row, from its statistics.
fn map_values(scores: vec4<f32>, centre: f32, factor: f32) -> vec4<f32> {
    let differences = scores - centre;
    var values: vec4<f32>;
    if KIND == 0u {
        values = exact_exponentials(differences) / factor;
    } else {
        let z = differences * factor;
        values = vec4(normal_cdf(z.x), normal_cdf(z.y), normal_cdf(z.z), normal_cdf(z.w));
    }
    // What is not finite is carried on to the token scores, which tell the host; the functions above would hide it. By its bits:
    // drivers may take for granted that nothing overflows.
    let exponent = vec4(0x7f800000u);
    return select(values, scores, (bitcast<vec4<u32>>(scores) & exponent) == exponent);
}

fn store(at: u32, num_columns: u32, values: vec4<f32>) {
    maps[at] = values.x;
    if num_columns > 1u {
        maps[at + 1u] = values.y;
    }
    if num_columns > 2u {
        maps[at + 2u] = values.z;
    }
    if num_columns > 3u {
        maps[at + 3u] = values.w;
    }
}
