// output[r, c] = input[source_row[r], first_column + c]
// uses: common
//
// One invocation copies four columns of a row.

struct Params {
    num_rows_at: u32,
    source_row_at: u32,
    width4: u32,
    first_column4: u32,
    input_stride4: u32,
    output_stride4: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(0) @binding(1) var<storage, read> input: array<vec4<f32>>; // [parent rows, input_stride]
@group(0) @binding(2) var<storage, read> index: array<u32>; // see ChunkLayout
@group(0) @binding(3) var<storage, read_write> output: array<vec4<f32>>; // [rows, output_stride]

@compute @workgroup_size(INVOCATIONS)
fn main(
    @builtin(workgroup_id) workgroup_id: vec3<u32>,
    @builtin(num_workgroups) num_workgroups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    let num_rows = index[params.num_rows_at];
    let id = invocation_number(workgroup_id, num_workgroups, local, num_rows * params.width4);
    let row = id / params.width4;
    let column = id % params.width4;
    if row >= num_rows {
        return;
    }
    let source = index[params.source_row_at + row];
    output[row * params.output_stride4 + column] =
        input[source * params.input_stride4 + params.first_column4 + column];
}
