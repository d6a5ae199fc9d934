// What the variants of attention_stats share: their arguments, and how these are read.

override KIND: u32 = 0; // 0: for attention probabilities, 1: for Φ of standardised scores

struct Params {
    num_rows_at: u32,
    sample_of_row_at: u32,
    offsets_at: u32,
    num_heads: u32,
    head_size: u32,
    head_stride4: u32,
    qkv_stride4: u32,
    key_column4: u32,
    stats_stride: u32,
    scale: f32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> qkv: array<vec4<f32>>; // [rows, qkv_stride]: Q, K, V
@group(0) @binding(2) var<storage, read> index: array<u32>; // see ChunkLayout
@group(0) @binding(3) var<storage, read_write> stats: array<f32>; // [rows, stats_stride], two values to a head

fn query_at(address: u32) -> vec4<f32> {
    return qkv[address];
}

fn key_at(address: u32) -> vec4<f32> {
    return qkv[address];
}
