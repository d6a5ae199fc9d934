// Exponentials that are the same on every driver.

const LOG2_E: f32 = 1.44269504;
const LN_2: array<f32, 2> = array(0.693359375, -2.12194440e-4); // two parts: a whole number times the first is exact
const EXP_COEFFICIENTS: array<f32, 6> =
    array(1.9875691e-4, 1.3981999e-3, 8.3334519e-3, 4.1665796e-2, 1.6666665e-1, 0.5);

// e^x to an ulp or so, for x ≤ 0. Which tokens are kept may hang on the last bit of a map. WGSL lets a driver's exp
// be off by 3 + 2|x| ulp. Range reduction by ln 2 in two parts, and a polynomial on |r| ≤ ln 2 / 2.
fn exp_of_negative(value: f32) -> f32 {
    let x = max(value, -87.0);
    let n = round(x * LOG2_E);
    let r = (x - n * LN_2[0]) - n * LN_2[1];
    var p = EXP_COEFFICIENTS[0];
    p = p * r + EXP_COEFFICIENTS[1];
    p = p * r + EXP_COEFFICIENTS[2];
    p = p * r + EXP_COEFFICIENTS[3];
    p = p * r + EXP_COEFFICIENTS[4];
    p = p * r + EXP_COEFFICIENTS[5];
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
