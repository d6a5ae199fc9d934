//! A kernel that a GPU has run before allocates nothing on the host when it is called again.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use sttabt::Result;
use sttabt::backend::gpu::{GpuBackend, GpuIndex, GpuLayerNorm, GpuLinear, GpuMatrix, GpuOptions};
use sttabt::backend::{
    ALL, Activation, Attention, AttentionMap, BackTracking, BackTrackingRule, Backend, ChunkLayout, Linear, MapKind,
    Region, Rows, SelectTokens, Selection, kept_level,
};
use sttabt::tensor::{DType, HeadSide, Heads, PackedLayerNorm, PackedLinear, Tensor};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, which counts for each thread.
struct Counting;

// SAFETY: the system's allocator does the work.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const LENGTHS: [usize; 2] = [7, 4];
const NUM_ROWS: usize = 11;
const NUM_LAYERS: usize = 2;
const HEADS: Heads = Heads { num_heads: 2, head_size: 8 };
const WIDTH: usize = 16;

struct Memory {
    index: GpuIndex,
    layer_norm: GpuLayerNorm,
    linear: GpuLinear,
    hidden_states: GpuMatrix,
    qkv: GpuMatrix,
    output: GpuMatrix,
    stats: GpuMatrix,
    maps: GpuMatrix,
    thresholds: GpuMatrix,
    token_scores: GpuMatrix,
}

impl Memory {
    fn new(gpu: &mut GpuBackend) -> Result<Self> {
        let (layout, words) =
            ChunkLayout::host_words(&LENGTHS, NUM_LAYERS, &vec![vec![2; LENGTHS.len()]; NUM_LAYERS], 1);
        let mut index = gpu.create_index(layout.num_words())?;
        gpu.begin_chunk(&mut index, layout, &words)?;
        let bytes = [0; 4 * WIDTH * WIDTH];
        let tensor = |shape: &[usize]| {
            let num_bytes = 4 * shape.iter().product::<usize>();
            Tensor { dtype: DType::F32, shape: shape.to_vec(), bytes: &bytes[..num_bytes], scales: &[] }
        };
        let (weight, bias) = (tensor(&[WIDTH, WIDTH]), tensor(&[WIDTH]));
        let layer_norm = PackedLayerNorm::new(&bias, &bias, 1e-12);
        Ok(Self {
            index,
            layer_norm: gpu.create_layer_norm("layer norm", &layer_norm)?,
            linear: gpu.create_linear("linear", &PackedLinear::stack(&[(weight, bias)], HeadSide::None)?)?,
            hidden_states: gpu.create_matrix("hidden states", NUM_ROWS, WIDTH)?,
            qkv: gpu.create_matrix("qkv", NUM_ROWS, 3 * WIDTH)?,
            output: gpu.create_matrix("output", NUM_ROWS, WIDTH)?,
            stats: gpu.create_matrix("stats", NUM_ROWS, 2 * HEADS.num_heads)?,
            maps: gpu.create_matrix("maps", 1, NUM_LAYERS * layout.num_map_values)?,
            thresholds: gpu.create_matrix("thresholds", 1, NUM_LAYERS)?,
            token_scores: gpu.create_matrix("token_scores", NUM_LAYERS, NUM_ROWS)?,
        })
    }

    /// Calls a kernel.
    fn call(&mut self, gpu: &mut GpuBackend, kernel: &str) -> Result<()> {
        let rows = Rows { level: ALL, bound: NUM_ROWS };
        let Self { index, hidden_states, qkv, output, maps, token_scores, .. } = self;
        match kernel {
            "gather_rows" => gpu.gather_rows(hidden_states, 0..WIDTH, index, rows, output),
            "layer_norm" => gpu.layer_norm(hidden_states, &self.layer_norm, index, rows, output),
            "linear" => {
                let call = Linear {
                    input: hidden_states,
                    linear: &self.linear,
                    features: 0..WIDTH,
                    activation: Activation::Gelu,
                    residual: None,
                    rows,
                    output_column: 0,
                };
                gpu.linear(call, index, output)
            }
            "attention" => {
                let call = Attention { query: qkv, qkv, heads: HEADS, query_rows: rows, key_rows: rows };
                gpu.attention(call, index, output)
            }
            "attention_maps" => {
                let call = AttentionMap { qkv, heads: HEADS, kind: MapKind::MeanPhi, rows, layer: 0 };
                gpu.attention_maps(call, index, &mut self.stats, maps, Some(output))
            }
            "back_tracking" => {
                let rule = BackTrackingRule::TopK { impact_weight: 0.1 };
                let call = BackTracking { rule, maps, thresholds: &self.thresholds, num_anchors: 1 };
                gpu.back_tracking(call, index, token_scores)
            }
            "select_tokens" => {
                let call = SelectTokens { maps, layer: 0, selection: Selection::Largest, num_anchors: 1 };
                gpu.select_tokens(call, index, token_scores)
            }
            "pack_rows" => gpu.pack_rows(kept_level(0)..kept_level(1), index),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_familiar_dispatch_allocates_nothing() {
    let options = GpuOptions { adapter: None, allow_software: true };
    let mut gpu = pollster::block_on(GpuBackend::new(&options)).unwrap_or_else(|error| panic!("{error}"));
    let mut memory = Memory::new(&mut gpu).expect("memory");
    let mut failures = Vec::new();
    for kernel in [
        "gather_rows",
        "layer_norm",
        "linear",
        "attention",
        "attention_maps",
        "back_tracking",
        "select_tokens",
        "pack_rows",
    ] {
        let mut count = 0;
        for _ in 0..2 {
            let before = ALLOCATIONS.get();
            memory.call(&mut gpu, kernel).unwrap_or_else(|error| panic!("{kernel}: {error}"));
            count = ALLOCATIONS.get() - before;
            pollster::block_on(gpu.read(&[Region::Matrix(&memory.output, 1)])).expect("a result");
        }
        if count > 0 {
            failures.push(format!("{kernel} allocates {count} times"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
