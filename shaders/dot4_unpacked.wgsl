// The same where WGSL lacks it.
fn dot4(one: u32, other: u32) -> i32 {
    return dot(int8s(one), int8s(other));
}

fn int8s(word: u32) -> vec4<i32> {
    return bitcast<vec4<i32>>(vec4(word) << vec4(24u, 16u, 8u, 0u)) >> vec4(24u);
}
