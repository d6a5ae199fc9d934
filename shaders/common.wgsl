// Shared by all kernels.

// The number of a workgroup: more than 65535 of them are folded into two dimensions.
fn workgroup_number(workgroup_id: vec3<u32>, num_workgroups: vec3<u32>) -> u32 {
    return workgroup_id.x + workgroup_id.y * num_workgroups.x;
}
