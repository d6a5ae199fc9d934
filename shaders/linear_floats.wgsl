// Weights that are f16 or f32.

override WEIGHT_F16: bool = false; // eight f16 to a vec4<u32>, or four f32

fn widen(bits: vec2<u32>) -> vec4<f32> {
    return vec4(unpack2x16float(bits.x), unpack2x16float(bits.y));
}
