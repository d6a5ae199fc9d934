// Where WGSL has the language feature `packed_4x8_integer_dot_product`: the sum of the products of four int8 with four.
fn dot4(one: u32, other: u32) -> i32 {
    return dot4I8Packed(one, other);
}
