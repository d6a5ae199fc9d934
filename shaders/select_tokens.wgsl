// K_{l+1}: of K_l, the k tokens that receive most attention, or those that receive more than a threshold; and the anchors.
// uses: common
//
// Attention is received from the rows of K_l; the threshold counts times the original number of tokens.
//
// One workgroup owns a sample; columns are strided over the invocations. Sums are exact, in fixed point of 2⁻⁴⁰: two
// words of 20 fraction bits, with room for 4095 rows of at most 1. Real sentences have tokens whose means differ by
// less than one ulp. Drivers may simplify a compensated f32 sum away.
//
// Loops over pairs of tokens take 8 of them at a time: llvmpipe ends all loops of an invocation after 65535 rounds.

override SELECTION: u32 = 0; // 0: the k largest, 1: above the threshold
override MAX_TOKENS: u32 = 1920; // as many as back_tracking holds

const WIDTH: u32 = 256;
const UNITS: f32 = 1048576.0; // of a word: 2²⁰

struct Params {
    num_samples: u32,
    offsets_at: u32,
    map_offsets_at: u32,
    first_map_value: u32,
    k_at: u32,
    counts_at: u32,
    kept_at: u32,
    next_counts_at: u32,
    next_kept_at: u32,
    first_score: u32,
    num_anchors: u32,
    threshold_high: u32, // in 2⁻²⁰
    threshold_low: u32, // in 2⁻⁴⁰
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> maps: array<f32>; // [num_layers, Σ T²]
@group(0) @binding(2) var<storage, read_write> index: array<u32>; // see ChunkLayout
@group(0) @binding(3) var<storage, read_write> token_scores: array<f32>; // [num_layers, scores_stride]

var<workgroup> high: array<u32, MAX_TOKENS>; // in 2⁻²⁰; in the end 1 for the columns that go on
var<workgroup> low: array<u32, MAX_TOKENS>; // in 2⁻⁴⁰

fn total(counts: vec4<u32>) -> u32 {
    return dot(counts, vec4(1u));
}

// How many columns received more than column j; equal ones in order of their index.
fn rank(j: u32, count: u32) -> u32 {
    var before = 0u;
    for (var i = 0u; i < count; i += 8u) {
        before += four_before(j, i) + four_before(j, i + 4u);
    }
    return before;
}

// How many of the four columns from column i on did. Those past the end received nothing.
fn four_before(j: u32, i: u32) -> u32 {
    return (one_before(j, i) + one_before(j, i + 1u)) + (one_before(j, i + 2u) + one_before(j, i + 3u));
}

fn one_before(j: u32, i: u32) -> u32 {
    let more = high[i] > high[j] || (high[i] == high[j] && low[i] > low[j]);
    let equal = high[i] == high[j] && low[i] == low[j];
    return select(0u, 1u, more || (equal && i < j));
}

// What a column receives from some rows.
struct Received {
    units: u32, // in 2⁻²⁰
    fractions: u32, // in 2⁻⁴⁰
}

// From four rows.
fn received(column_at: u32, i: u32, num_tokens: u32) -> Received {
    let at = column_at + i * num_tokens + vec4(0u, 1u, 2u, 3u) * num_tokens;
    let scaled = vec4(maps[at.x], maps[at.y], maps[at.z], maps[at.w]) * UNITS;
    return Received(total(vec4<u32>(scaled)), total(vec4<u32>(fract(scaled) * UNITS)));
}

// How many of the four columns from column i on go on and come before column j.
fn four_places(i: u32, j: u32) -> u32 {
    let goes_on = vec4(high[i], high[i + 1u], high[i + 2u], high[i + 3u]);
    return total(select(vec4(0u), goes_on, i + vec4(0u, 1u, 2u, 3u) < vec4(j)));
}

// Whether column j received more than the threshold times so many tokens.
fn is_above(j: u32, num_tokens: u32) -> bool {
    let fractions = params.threshold_low * num_tokens;
    let least_high = params.threshold_high * num_tokens + (fractions >> 20u);
    let least_low = fractions & 0xfffffu;
    return high[j] > least_high || (high[j] == least_high && low[j] > least_low);
}

@compute @workgroup_size(WIDTH)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let sample = workgroup_number(workgroup_id, num_workgroups);
    if sample >= params.num_samples {
        return;
    }
    let first_row = index[params.offsets_at + sample];
    let num_tokens = index[params.offsets_at + sample + 1u] - first_row;
    let count = index[params.counts_at + sample];
    let map_at = params.first_map_value + index[params.map_offsets_at + sample];
    // Up to a multiple of what rank looks at: columns past the end receive nothing.
    for (var j = local; j < (count + 7u) / 8u * 8u; j += WIDTH) {
        var units = 0u;
        var fractions = 0u;
        let num_rows = select(0u, count, j < count);
        let whole = num_rows / 8u * 8u;
        for (var i = 0u; i < whole; i += 8u) {
            let one = received(map_at + j, i, num_tokens);
            let other = received(map_at + j, i + 4u, num_tokens);
            units += one.units + other.units;
            fractions += one.fractions + other.fractions;
        }
        for (var i = whole; i < num_rows; i++) {
            let scaled = maps[map_at + i * num_tokens + j] * UNITS;
            units += u32(scaled);
            fractions += u32(fract(scaled) * UNITS);
        }
        high[j] = units + (fractions >> 20u);
        low[j] = fractions & 0xfffffu;
    }
    for (var j = local; j < num_tokens; j += WIDTH) {
        token_scores[params.first_score + first_row + j] = 0.0;
    }
    storageBarrier();
    workgroupBarrier();
    let k = index[params.k_at + sample];
    let divisor = f32(select(count, num_tokens, SELECTION == 1u));
    // The n-th of this invocation's columns goes on if bit n is set: at most 16 of them.
    var own = 0u;
    var bit = 1u;
    for (var j = local; j < count; j += WIDTH) {
        let position = index[params.kept_at + first_row + j];
        token_scores[params.first_score + first_row + position] =
            (f32(high[j]) + f32(low[j]) / UNITS) / UNITS / divisor;
        var goes_on = position < params.num_anchors;
        if SELECTION == 0u {
            goes_on = goes_on || rank(j, count) < k;
        } else {
            goes_on = goes_on || is_above(j, num_tokens);
        }
        own |= select(0u, bit, goes_on);
        bit <<= 1u;
    }
    workgroupBarrier();
    for (var j = local; j < count; j += WIDTH) {
        high[j] = own & 1u;
        own >>= 1u;
    }
    workgroupBarrier();
    for (var j = local; j < count; j += WIDTH) {
        var place = 0u;
        for (var i = 0u; i < j; i += 8u) {
            place += four_places(i, j) + four_places(i + 4u, j);
        }
        if high[j] == 1u {
            index[params.next_kept_at + first_row + place] = index[params.kept_at + first_row + j];
        }
        if j + 1u == count {
            index[params.next_counts_at + sample] = place + high[j];
        }
    }
}
