// Shared by all kernels.

const INVOCATIONS: u32 = 64; // of a workgroup where all of them are numbered
const IDLE: u32 = 0x003fffff; // times 64 invocations times 8 rows is less than 2^32

// The number of a workgroup: more than 65535 of them are folded into two dimensions.
fn workgroup_number(workgroup_id: vec3<u32>, num_workgroups: vec3<u32>) -> u32 {
    return workgroup_id.x + workgroup_id.y * num_workgroups.x;
}

// The number of a workgroup among those with something to do, `num_busy`; for the others one beyond.
//
// They are spread evenly over all. Some drivers (llvmpipe) give every thread a range of workgroups. Threads whose
// range lies beyond the kept rows would be idle.
fn busy_workgroup(workgroup_id: vec3<u32>, num_workgroups: vec3<u32>, num_busy: u32) -> u32 {
    let number = workgroup_number(workgroup_id, num_workgroups);
    let total = num_workgroups.x * num_workgroups.y;
    // Products below are to stay within 32 bits.
    if num_busy >= total || total > 65535u {
        return number;
    }
    let before = number * num_busy / total;
    return select(IDLE, before, (number + 1u) * num_busy / total > before);
}

// The number of an invocation in workgroups of INVOCATIONS, if the first `num_busy` invocations have something to do.
fn invocation_number(workgroup_id: vec3<u32>, num_workgroups: vec3<u32>, local: u32, num_busy: u32) -> u32 {
    return busy_workgroup(workgroup_id, num_workgroups, (num_busy + INVOCATIONS - 1u) / INVOCATIONS) * INVOCATIONS + local;
}
