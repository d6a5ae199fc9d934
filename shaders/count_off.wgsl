// The product counts nothing; see count_on.wgsl.
fn count_rows(num_rows: u32, multiply_adds_per_row: u32) {}
