//! What the host writes between two kernels: the first one sees what was there before, the second one what was written.

use sttabt::Result;
use sttabt::backend::cpu::CpuBackend;
use sttabt::backend::{ALL, Backend, MatrixShape, Region};

use crate::data::{Chunk, Level, POISON};
use crate::harness::{gpu, index, matrix, poisoned};
use crate::rows::rows;

const WIDTH: usize = 8;
const NUM_ROWS: usize = 6;

/// The rows of four outputs of `gather_rows`, by the value that fills each. Before each but the first, the host writes something.
async fn gathered<B: Backend>(backend: &mut B) -> Result<Vec<Vec<f32>>> {
    let chunk = Chunk::new(&[NUM_ROWS], 1);
    let shorter = Chunk::new(&[2], 1);
    let mut index = index(backend, &chunk, &chunk.words())?;
    let values: Vec<f32> = (0..NUM_ROWS).flat_map(|row| [row as f32; WIDTH]).collect();
    let mut input = matrix(backend, WIDTH, &values, 0)?;
    let mut outputs = Vec::new();
    for _ in 0..4 {
        outputs.push(poisoned(backend, NUM_ROWS, WIDTH)?);
    }
    backend.gather_rows(&input, 0..WIDTH, &index, rows(&chunk, Level::All), &mut outputs[0])?;
    backend.write_matrix(&mut input, 2, &[7.0; 2 * WIDTH])?;
    backend.gather_rows(&input, 0..WIDTH, &index, rows(&chunk, Level::All), &mut outputs[1])?;
    backend.write_index(&mut index, chunk.layout.source_row(ALL), &[5, 4, 3, 2, 1, 0])?;
    backend.gather_rows(&input, 0..WIDTH, &index, rows(&chunk, Level::All), &mut outputs[2])?;
    backend.begin_chunk(&mut index, shorter.layout, &shorter.words())?;
    backend.gather_rows(&input, 0..WIDTH, &index, rows(&shorter, Level::All), &mut outputs[3])?;
    let regions: Vec<Region<'_, B>> = outputs.iter().map(|output| Region::Matrix(output, NUM_ROWS)).collect();
    let stride = outputs[0].stride();
    let first = |words: Vec<u32>| words.iter().step_by(stride).map(|&word| f32::from_bits(word)).collect();
    Ok(backend.read(&regions).await?.into_iter().map(first).collect())
}

device_test!(writes_wait_for_the_kernels_before, check_writes());

async fn check_writes() {
    let untouched = f32::from_bits(POISON);
    let expected = [
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0],
        [0.0, 1.0, 7.0, 7.0, 4.0, 5.0],
        [5.0, 4.0, 7.0, 7.0, 1.0, 0.0],
        [0.0, 1.0, untouched, untouched, untouched, untouched],
    ];
    let bits = |rows: &[f32]| rows.iter().map(|value| value.to_bits()).collect::<Vec<u32>>();
    let results = [("twin", gathered(&mut CpuBackend::new()).await), ("GPU", gathered(&mut gpu().await).await)];
    for (backend, found) in results {
        let found = found.unwrap_or_else(|error| panic!("{backend}: {error}"));
        assert_eq!(found.len(), expected.len(), "{backend}");
        for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert_eq!(bits(found), bits(expected), "{backend}, output {place}: {found:?}, expected {expected:?}");
        }
    }
}
