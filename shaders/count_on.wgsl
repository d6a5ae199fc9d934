// For a test: every kernel adds the rows that it computed, times the multiply-adds of a row, to one 64-bit counter.
@group(1) @binding(0) var<storage, read_write> multiply_adds: array<atomic<u32>, 2>; // low word, high word

fn count_rows(num_rows: u32, multiply_adds_per_row: u32) {
    let added = num_rows * multiply_adds_per_row;
    let before = atomicAdd(&multiply_adds[0], added);
    if before + added < before {
        atomicAdd(&multiply_adds[1], 1u);
    }
}
