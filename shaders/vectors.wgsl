// Shared by the kernels of attention.
fn largest(values: vec4<f32>) -> f32 {
    return max(max(values.x, values.y), max(values.z, values.w));
}

fn total(values: vec4<f32>) -> f32 {
    return (values.x + values.y) + (values.z + values.w);
}

// 1 for the four keys from `key` that there are, 0 for those past the end.
fn counts_from(key: u32, end_key: u32) -> vec4<f32> {
    return select(vec4(0.0), vec4(1.0), key + vec4(0u, 1u, 2u, 3u) < vec4(end_key));
}
