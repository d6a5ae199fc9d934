// Offsets and row tables of levels, from the kept tokens of every sample.
// uses: common
//
//   offsets[level][s] = Σ_{s' < s} |K_l of s'|;  sample_of_row[level][row] = s
//   source_row[level][row] = offsets[parent][s] + the rank of the row's position in the parent's sorted set
//
// One workgroup owns a level, and walks the samples; kept tokens are strided over the invocations.

const WIDTH: u32 = 256;

struct Params {
    first_layer: u32,
    num_levels: u32,
    num_samples: u32,
    num_tokens: u32,
    all_offsets_at: u32,
    counts_at: u32,
    kept_at: u32,
    first_offsets_at: u32,
    first_tables_at: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read_write> index: array<u32>; // see ChunkLayout

// The rank of a position in the sorted positions [start, start + count).
fn rank_in(start: u32, count: u32, position: u32) -> u32 {
    var low = 0u;
    var high = count;
    while low < high {
        let middle = (low + high) / 2u;
        if index[start + middle] < position {
            low = middle + 1u;
        } else {
            high = middle;
        }
    }
    return low;
}

@compute @workgroup_size(WIDTH)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let level = workgroup_number(workgroup_id, num_workgroups);
    if level >= params.num_levels {
        return;
    }
    let layer = params.first_layer + level;
    let offsets_at = params.first_offsets_at + level * (params.num_samples + 1u);
    let sample_of_row_at = params.first_tables_at + level * 2u * params.num_tokens;
    let source_row_at = sample_of_row_at + params.num_tokens;
    let kept_at = params.kept_at + layer * params.num_tokens;
    var row = 0u;
    var parent_row = 0u;
    for (var sample = 0u; sample < params.num_samples; sample++) {
        if local == 0u {
            index[offsets_at + sample] = row;
        }
        let first_token = index[params.all_offsets_at + sample];
        let count = index[params.counts_at + layer * params.num_samples + sample];
        var parent_count = index[params.all_offsets_at + sample + 1u] - first_token;
        if layer > 0u {
            parent_count = index[params.counts_at + (layer - 1u) * params.num_samples + sample];
        }
        for (var place = local; place < count; place += WIDTH) {
            let position = index[kept_at + first_token + place];
            var source = position;
            if layer > 0u {
                source = rank_in(kept_at - params.num_tokens + first_token, parent_count, position);
            }
            index[sample_of_row_at + row + place] = sample;
            index[source_row_at + row + place] = parent_row + source;
        }
        row += count;
        parent_row += parent_count;
    }
    if local == 0u {
        index[offsets_at + params.num_samples] = row;
    }
}
