// What the variants of attention share: their arguments, how these are read, and exponentials.

override STORE_STATS: bool = false; // maximum and sum of every row and head, for attention_maps

struct Params {
    num_rows_at: u32,
    sample_of_row_at: u32,
    query_offsets_at: u32,
    key_offsets_at: u32,
    num_heads: u32,
    head_size: u32,
    head_stride4: u32,
    query_stride4: u32,
    qkv_stride4: u32,
    output_stride4: u32,
    stats_stride: u32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> query: array<vec4<f32>>; // [query rows, query_stride], Q first
@group(0) @binding(2) var<storage, read> qkv: array<vec4<f32>>; // [key rows, 3 · output_stride]: Q, K, V
@group(0) @binding(3) var<storage, read> index: array<u32>; // see ChunkLayout
@group(0) @binding(4) var<storage, read_write> output: array<vec4<f32>>; // [query rows, output_stride]
@group(0) @binding(5) var<storage, read_write> stats: array<f32>; // [query rows, stats_stride], two values to a head

fn query_at(address: u32) -> vec4<f32> {
    return query[address];
}

fn key_at(address: u32) -> vec4<f32> {
    return qkv[address];
}

fn exponential(difference: f32) -> f32 {
    if STORE_STATS {
        return exp_of_negative(difference);
    }
    return exp(difference);
}

fn exponentials(differences: vec4<f32>) -> vec4<f32> {
    if STORE_STATS {
        return exact_exponentials(differences);
    }
    return exp(differences);
}
