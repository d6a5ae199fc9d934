// e^x to an ulp or so, for x ≤ 0: what is kept may hang on the last bit of a map, and WGSL lets a driver's exp be off by
// 3 + 2|x| ulp. Range reduction by ln 2 in two parts, and a polynomial on |r| ≤ ln 2 / 2.
fn exp_of_negative(value: f32) -> f32 {
    let x = max(value, -87.0);
    let n = round(x * 1.44269504);
    let r = (x - n * 0.693359375) + n * 2.12194440e-4;
    var p = 1.9875691e-4;
    p = p * r + 1.3981999e-3;
    p = p * r + 8.3334519e-3;
    p = p * r + 4.1665796e-2;
    p = p * r + 1.6666665e-1;
    p = p * r + 0.5;
    return (p * r * r + r + 1.0) * bitcast<f32>(u32(i32(n) + 127) << 23u);
}

fn exact_exponentials(differences: vec4<f32>) -> vec4<f32> {
    return vec4(
        exp_of_negative(differences.x),
        exp_of_negative(differences.y),
        exp_of_negative(differences.z),
        exp_of_negative(differences.w),
    );
}
