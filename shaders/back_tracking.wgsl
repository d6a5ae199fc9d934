// Attention back-tracking: the paper's two recursions, from the last layer's [CLS] to the input.
// uses: common
//
//   Rule 1 (top-k)     m[j] = mean over i in K_{l+1} of Ā[i, j] · ((1 − q) + q · w[i])
//                      K_l  = the k largest m ∪ K_{l+1};   w = m / (Σ_{K_l} m + EPS)
//   Rule 2 (concrete)  u[j] = Σ_i M[i] · U[i, j] · ((1 − q) + q · c[i]) / (Σ M + EPS), then divided by its maximum
//                      c = 0.01 + 0.99 u;   M = max(sigmoid((logit(p_l) + logit(c)) / τ), M);   K_l = {M ≥ threshold}
//
// One workgroup owns a sample, and walks all its layers in one dispatch. Columns j are strided over the invocations: what one alone
// reads and writes, a column's score, lies in storage memory.
//
// Loops over pairs of tokens take 8 or 16 of them at a time: llvmpipe ends all loops of an invocation after 65535 rounds.

override RULE: u32 = 0; // 0: top-k, 1: concrete
override MAX_TOKENS: u32 = 1920; // 2 · 1920 + 256 words fill the 16 KiB that WebGPU guarantees

const WIDTH: u32 = 256;

struct Params {
    num_samples: u32,
    num_tokens: u32,
    num_layers: u32,
    num_map_values: u32,
    offsets_at: u32,
    map_offsets_at: u32,
    k_at: u32,
    counts_at: u32,
    kept_at: u32,
    scores_stride: u32,
    impact_weight: f32,
    temperature: f32,
    hard_threshold: f32,
    top_k_eps: f32,
    concrete_eps: f32,
    num_anchors: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> maps: array<f32>; // [num_layers, Σ T²]
@group(0) @binding(2) var<storage, read> thresholds: array<f32>; // [num_layers]: logit(p)
@group(0) @binding(3) var<storage, read_write> index: array<u32>; // see ChunkLayout
@group(0) @binding(4) var<storage, read_write> token_scores: array<f32>; // [num_layers, scores_stride]

// What row i of a map counts, M[i] · ((1 − q) + q · w[i]) or with c[i]; among top-k's picks, the scores m.
var<workgroup> values: array<f32, MAX_TOKENS>;
var<workgroup> mask: array<f32, MAX_TOKENS>; // 1 in K_{l+1} and 0 elsewhere, or M_{l+1}
var<workgroup> partial: array<f32, WIDTH>;

fn sigmoid(x: f32) -> f32 {
    let e = exp(-abs(x)); // cannot overflow
    return select(e, 1.0, x >= 0.0) / (1.0 + e);
}

fn logit(x: f32) -> f32 {
    return log(x + params.concrete_eps) - log(1.0 - x + params.concrete_eps);
}

fn is_kept(j: u32) -> bool {
    return mask[j] >= select(params.hard_threshold, 0.5, RULE == 0u);
}

// The sum of all invocations' values.
fn workgroup_sum(local: u32, value: f32) -> f32 {
    partial[local] = value;
    workgroupBarrier();
    for (var half = WIDTH / 2u; half > 0u; half /= 2u) {
        if local < half {
            partial[local] += partial[local + half];
        }
        workgroupBarrier();
    }
    let sum = workgroupUniformLoad(&partial[0]);
    return sum;
}

// The largest of all invocations' values.
fn workgroup_max(local: u32, value: f32) -> f32 {
    partial[local] = value;
    workgroupBarrier();
    for (var half = WIDTH / 2u; half > 0u; half /= 2u) {
        if local < half {
            partial[local] = max(partial[local], partial[local + half]);
        }
        workgroupBarrier();
    }
    let maximum = workgroupUniformLoad(&partial[0]);
    return maximum;
}

fn ones(flags: vec4<bool>) -> u32 {
    return dot(select(vec4(0u), vec4(1u), flags), vec4(1u));
}

fn four_values(i: u32) -> vec4<f32> {
    return vec4(values[i], values[i + 1u], values[i + 2u], values[i + 3u]);
}

// How many scores come before score j in descending order; equal ones in order of their index.
fn rank(j: u32, num_tokens: u32) -> u32 {
    var before = 0u;
    for (var i = 0u; i < num_tokens; i += 8u) {
        before += four_before(j, values[j], i, num_tokens) + four_before(j, values[j], i + 4u, num_tokens);
    }
    return before;
}

// How many of the four scores from score i on do.
fn four_before(j: u32, score: f32, i: u32, num_tokens: u32) -> u32 {
    let is = i + vec4(0u, 1u, 2u, 3u);
    let four = four_values(i);
    let is_before = (four > vec4(score)) | ((four == vec4(score)) & (is < vec4(j)));
    return ones(is_before & (is < vec4(num_tokens)));
}

// Scores of a layer, from its map and what the layer above makes of its rows: sum over rows i of values[i] · map[i, j].
//
// Sixteen rows are read at a time if any of them counts: memory that is far away answers sixteen questions as fast as one.
fn score_columns(local: u32, num_tokens: u32, map_at: u32, scores_at: u32) {
    for (var j = local; j < num_tokens; j += WIDTH) {
        var sum = 0.0;
        for (var i = 0u; i < num_tokens; i += 16u) {
            if !counts(i) {
                continue;
            }
            let values0 = column_values(map_at + j, i, num_tokens);
            let values1 = column_values(map_at + j, i + 4u, num_tokens);
            let values2 = column_values(map_at + j, i + 8u, num_tokens);
            let values3 = column_values(map_at + j, i + 12u, num_tokens);
            sum = add_rows(sum, values0, i, num_tokens);
            sum = add_rows(sum, values1, i + 4u, num_tokens);
            sum = add_rows(sum, values2, i + 8u, num_tokens);
            sum = add_rows(sum, values3, i + 12u, num_tokens);
        }
        token_scores[scores_at + j] = sum;
    }
}

// Whether any of sixteen rows does. Those past the end are 0.
fn counts(first_row: u32) -> bool {
    let low = four_values(first_row) + four_values(first_row + 4u);
    let high = four_values(first_row + 8u) + four_values(first_row + 12u);
    return any(low + high != vec4(0.0));
}

// A column of four rows of a map; of rows past the end, the last one's.
fn column_values(column_at: u32, first_row: u32, num_tokens: u32) -> vec4<f32> {
    let at = column_at + min(first_row + vec4(0u, 1u, 2u, 3u), vec4(num_tokens - 1u)) * num_tokens;
    return vec4(maps[at.x], maps[at.y], maps[at.z], maps[at.w]);
}

fn add_rows(sum: f32, values: vec4<f32>, i: u32, num_tokens: u32) -> f32 {
    let with_x = add_row(sum, values.x, i, num_tokens);
    let with_y = add_row(with_x, values.y, i + 1u, num_tokens);
    let with_z = add_row(with_y, values.z, i + 2u, num_tokens);
    return add_row(with_z, values.w, i + 3u, num_tokens);
}

// Only if the row counts: what is not asked for may be of any size.
fn add_row(sum: f32, value: f32, i: u32, num_tokens: u32) -> f32 {
    if i >= num_tokens || values[i] == 0.0 {
        return sum;
    }
    return sum + value * values[i];
}

// With w[i] or c[i].
fn impact(weight: f32) -> f32 {
    return (1.0 - params.impact_weight) + params.impact_weight * weight;
}

fn top_k(local: u32, num_tokens: u32, scores_at: u32, k: u32, num_kept: f32) {
    for (var j = local; j < num_tokens; j += WIDTH) {
        let m = token_scores[scores_at + j] / num_kept;
        token_scores[scores_at + j] = m;
        values[j] = m;
    }
    workgroupBarrier();
    var kept_sum = 0.0;
    for (var j = local; j < num_tokens; j += WIDTH) {
        if rank(j, num_tokens) < k {
            mask[j] = 1.0;
        }
        kept_sum += values[j] * mask[j];
    }
    // All have their ranks when they know the sum.
    let total = workgroup_sum(local, kept_sum);
    for (var j = local; j < num_tokens; j += WIDTH) {
        values[j] = mask[j] * impact(values[j] / (total + params.top_k_eps));
    }
}

fn concrete(local: u32, num_tokens: u32, scores_at: u32, threshold: f32, mask_sum: f32) {
    var largest = -3.0e38;
    for (var j = local; j < num_tokens; j += WIDTH) {
        let u = token_scores[scores_at + j] / (mask_sum + params.concrete_eps);
        token_scores[scores_at + j] = u;
        largest = max(largest, u);
    }
    let maximum = workgroup_max(local, largest) + params.concrete_eps;
    for (var j = local; j < num_tokens; j += WIDTH) {
        let c = 0.01 + 0.99 * (token_scores[scores_at + j] / maximum);
        token_scores[scores_at + j] = c;
        mask[j] = max(mask[j], sigmoid((threshold + logit(c)) / params.temperature));
        values[j] = mask[j] * impact(c);
    }
}

// How many of the four tokens from token i on are kept and come before token j.
fn four_kept(i: u32, j: u32) -> u32 {
    let is = i + vec4(0u, 1u, 2u, 3u);
    return ones(vec4(is_kept(is.x), is_kept(is.y), is_kept(is.z), is_kept(is.w)) & (is < vec4(j)));
}

// Writes the sorted positions of K_layer, and their count.
fn store_layer(local: u32, sample: u32, first_row: u32, num_tokens: u32, layer: u32) {
    for (var j = local; j < num_tokens; j += WIDTH) {
        var place = 0u;
        for (var i = 0u; i < j; i += 8u) {
            place += four_kept(i, j) + four_kept(i + 4u, j);
        }
        let kept = is_kept(j);
        if kept {
            index[params.kept_at + layer * params.num_tokens + first_row + place] = j;
        }
        if j + 1u == num_tokens {
            index[params.counts_at + layer * params.num_samples + sample] = place + select(0u, 1u, kept);
        }
    }
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
    let num_anchors = min(params.num_anchors, num_tokens);
    for (var j = local; j < (num_tokens + 15u) / 16u * 16u; j += WIDTH) {
        mask[j] = select(0.0, 1.0, j < num_anchors);
        // w of Rule 1 sums to 1; c of Rule 2 is M.
        values[j] = mask[j] * impact(1.0 / select(1.0, f32(num_anchors), RULE == 0u));
    }
    if local < num_anchors {
        index[params.kept_at + params.num_layers * params.num_tokens + first_row + local] = local;
    }
    if local == 0u {
        index[params.counts_at + params.num_layers * params.num_samples + sample] = num_anchors;
    }
    for (var above = params.num_layers; above > 0u; above--) {
        let layer = above - 1u;
        workgroupBarrier();
        var own = 0.0;
        for (var j = local; j < num_tokens; j += WIDTH) {
            own += mask[j];
        }
        let mask_sum = workgroup_sum(local, own);
        let map_at = layer * params.num_map_values + index[params.map_offsets_at + sample];
        let scores_at = layer * params.scores_stride + first_row;
        score_columns(local, num_tokens, map_at, scores_at);
        workgroupBarrier();
        if RULE == 0u {
            top_k(local, num_tokens, scores_at, index[params.k_at + layer * params.num_samples + sample], mask_sum);
        } else {
            concrete(local, num_tokens, scores_at, thresholds[layer], mask_sum);
        }
        workgroupBarrier();
        store_layer(local, sample, first_row, num_tokens, layer);
    }
}
