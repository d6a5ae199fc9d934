// Shared by all kernels.

const IDLE: u32 = 0x0fffffff; // more than there are rows

// The number of a workgroup: more than 65535 of them are folded into two dimensions.
fn workgroup_number(workgroup_id: vec3<u32>, num_workgroups: vec3<u32>) -> u32 {
    return workgroup_id.x + workgroup_id.y * num_workgroups.x;
}

// The number of an invocation in workgroups of 64, of which the first `num_busy` invocations have something to do.
//
// The busy workgroups are spread evenly over all: drivers that give every thread a range of workgroups (llvmpipe) would otherwise leave
// those threads idle whose range lies beyond the kept rows.
fn invocation_number(workgroup_id: vec3<u32>, num_workgroups: vec3<u32>, local: u32, num_busy: u32) -> u32 {
    let number = workgroup_number(workgroup_id, num_workgroups);
    let total = num_workgroups.x * num_workgroups.y;
    let busy = (num_busy + 63u) / 64u;
    if busy >= total || total > 65535u {
        return number * 64u + local;
    }
    let before = number * busy / total;
    return select(IDLE, before * 64u + local, (number + 1u) * busy / total > before);
}
