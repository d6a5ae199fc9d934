// Statistics of four rows and a head; whoever includes this declares `stats`.
fn store_stats(at: vec4<u32>, first: vec4<f32>, second: vec4<f32>) {
    stats[at.x] = first.x;
    stats[at.x + 1u] = second.x;
    stats[at.y] = first.y;
    stats[at.y + 1u] = second.y;
    stats[at.z] = first.z;
    stats[at.z + 1u] = second.z;
    stats[at.w] = first.w;
    stats[at.w + 1u] = second.w;
}
