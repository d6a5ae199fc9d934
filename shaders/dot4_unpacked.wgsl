// The sum of the products of four int8 with four, for WGSL without `packed_4x8_integer_dot_product`.
fn dot4(one: u32, other: u32) -> i32 {
    return dot(int8s(one), int8s(other));
}

fn int8s(word: u32) -> vec4<i32> {
    return bitcast<vec4<i32>>(vec4(word) << vec4(24u, 16u, 8u, 0u)) >> vec4(24u);
}
