//! What the GPU backend promises besides numbers: one mapping per chunk, no allocation for familiar sizes, and a lost device
//! or a cancelled run that leaves nothing behind.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use crate::common::*;
use sttabt::{BackendKind, BackendOptions, Engine, Error, Input, Outputs, Picture};

const TEXTS: [&str; 3] = ["w51 w41 w11 w19 w70", "w88", "w12 w13 w14 w15 w16 w17 w18 w19 w20 w21"];

fn pictures() -> [Picture; 3] {
    [1, 2, 3].map(|index| picture(&fixture("tiny-vit").join(format!("image{index}.png"))))
}

fn gpu_engine() -> Engine {
    engine(&tiny_bert(), BackendKind::Gpu)
}

#[test]
fn a_chunk_is_mapped_once() {
    check_maps(gpu_engine(), &TEXTS.map(Input::Text));
    check_maps(engine(&tiny_vit(), BackendKind::Gpu), &pictures().each_ref().map(Input::Image));
}

fn check_maps(mut engine: Engine, inputs: &[Input<'_>]) {
    for rule in EACH_RULE {
        let before = engine.gpu().expect("GPU").counters();
        let outputs = Outputs { token_scores: true, attention_maps: true, sigmoid: false, threshold: None };
        classify_with(&mut engine, inputs, &rule.parse().expect("rule"), &outputs);
        let after = engine.gpu().expect("GPU").counters();
        assert_eq!(after.maps - before.maps, 1, "{rule}");
        assert_eq!(after.submits - before.submits, 1, "{rule}: so little work fits one submit");
    }
}

#[test]
fn each_chunk_of_a_large_batch_is_mapped_once() {
    let text = "w12 w13 w14 w15 w16 w17 w18 w19 ".repeat(15);
    let inputs = [Input::Text(&text); 3];
    // The maps of one text of 122 tokens fit, those of two do not.
    let options = BackendOptions {
        kind: BackendKind::Gpu,
        max_buffer_bytes: Some(4 * 122 * 122 * 4 * 3 / 2),
        ..Default::default()
    };
    let mut engine = pollster::block_on(Engine::new(&tiny_bert(), &options)).expect("engine");
    let before = engine.gpu().expect("GPU").counters();
    classify(&mut engine, &inputs, &"topk:0.5".parse().expect("rule"));
    let after = engine.gpu().expect("GPU").counters();
    assert_eq!(after.maps - before.maps, 3);
}

/// Other texts, other lengths, other pictures, another number of inputs: the same capacity.
#[test]
fn a_familiar_size_allocates_nothing() {
    let others = [Input::Text("w22 w23 w24 w25"), Input::Text("w7 w8")];
    check_allocations(gpu_engine(), &TEXTS.map(Input::Text), &others);
    let pictures = pictures();
    let pictures = pictures.each_ref().map(Input::Image);
    check_allocations(engine(&tiny_vit(), BackendKind::Gpu), &pictures[..2], &pictures[2..]);
}

fn check_allocations(mut engine: Engine, inputs: &[Input<'_>], others: &[Input<'_>]) {
    // Twice: the scratch memory grows while the first round asks for more, and what was bound to the smaller one is gone.
    for rule in EACH_RULE.iter().chain(&EACH_RULE) {
        classify(&mut engine, inputs, &rule.parse().expect("rule"));
    }
    let before = engine.gpu().expect("GPU").counters();
    for rule in EACH_RULE {
        classify(&mut engine, others, &rule.parse().expect("rule"));
    }
    let after = engine.gpu().expect("GPU").counters();
    assert!(after.dispatches > before.dispatches);
    assert_eq!(after.buffers, before.buffers, "buffers");
    assert_eq!(after.bind_groups, before.bind_groups, "bind groups");
    assert_eq!(after.pipelines, before.pipelines, "pipelines");
}

#[test]
fn a_lost_device_is_an_error_and_a_new_engine_answers() {
    let model = tiny_bert();
    let mut engine = engine(&model, BackendKind::Gpu);
    let prune = "topk:0.5".parse().expect("rule");
    let expected = classify(&mut engine, &TEXTS.map(Input::Text), &prune);
    engine.gpu().expect("GPU").destroy_device();
    for _ in 0..2 {
        let lost = pollster::block_on(engine.classify(&TEXTS.map(Input::Text), &prune, &Outputs::default()));
        let error = lost.expect_err("the device is gone");
        assert!(matches!(error, Error::DeviceLost { .. }), "{error}");
        assert_eq!(error.to_string(), "GPU device lost: the device was destroyed");
    }
    let mut again = gpu_engine();
    assert_eq!(classify(&mut again, &TEXTS.map(Input::Text), &prune), expected);
}

#[test]
fn a_cancelled_run_leaves_nothing_behind() {
    for kind in BACKENDS {
        check_cancelling(engine(&tiny_bert(), kind), &TEXTS.map(Input::Text), &[Input::Text("w30 w31 w32")]);
        let pictures = pictures();
        let pictures = pictures.each_ref().map(Input::Image);
        check_cancelling(engine(&tiny_vit(), kind), &pictures[1..], &pictures[..1]);
    }
}

fn check_cancelling(mut engine: Engine, inputs: &[Input<'_>], other: &[Input<'_>]) {
    for rule in EACH_RULE {
        let prune = rule.parse().expect("rule");
        let expected = classify(&mut engine, inputs, &prune);
        // The second pause never ends, and the run is dropped there.
        let pauses = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&pauses);
        engine.set_pause(Box::new(move || {
            let is_stuck = counted.fetch_add(1, Ordering::Relaxed) == 1;
            Box::pin(async move {
                if is_stuck {
                    std::future::pending::<()>().await;
                }
            })
        }));
        {
            let outputs = Outputs::default();
            let mut run = std::pin::pin!(engine.classify(other, &prune, &outputs));
            let mut context = Context::from_waker(Waker::noop());
            assert!(matches!(run.as_mut().poll(&mut context), Poll::Pending), "{rule}");
        }
        assert_eq!(pauses.load(Ordering::Relaxed), 2, "{rule}");
        engine.set_pause(Box::new(|| Box::pin(async {})));
        let before = engine.gpu().map(|gpu| gpu.counters().submits);
        assert_eq!(classify(&mut engine, inputs, &prune), expected, "{rule}");
        let submits = engine.gpu().map(|gpu| gpu.counters().submits);
        assert_eq!(submits, before.map(|before| before + 1), "{rule}: what the cancelled run recorded was submitted");
    }
}

#[test]
fn an_adapter_that_is_not_there_is_named_with_those_that_are() {
    let options = BackendOptions { kind: BackendKind::Gpu, adapter: Some("Voodoo 2".into()), ..Default::default() };
    let error = pollster::block_on(Engine::new(&tiny_bert(), &options)).err().expect("no such adapter").to_string();
    let adapters = pollster::block_on(sttabt::adapters());
    assert!(error.starts_with("no GPU with `Voodoo 2` in its name; found: "), "{error}");
    assert!(!adapters.is_empty() && adapters.iter().all(|adapter| error.contains(&adapter.name)), "{error}");
}

#[test]
fn the_cpu_takes_no_adapter() {
    let options = BackendOptions { kind: BackendKind::Cpu, adapter: Some("llvmpipe".into()), ..Default::default() };
    let error = pollster::block_on(Engine::new(&tiny_bert(), &options)).err().expect("no adapter").to_string();
    assert_eq!(error, "no GPU `llvmpipe` for the backend `cpu`, which takes none; found: not looked for");
}

/// A buffer beyond the adapter's limit is refused before the device sees it.
#[test]
fn a_buffer_beyond_the_limit_is_refused() {
    use sttabt::backend::Backend;
    use sttabt::backend::gpu::{GpuBackend, GpuOptions};
    let options = GpuOptions { adapter: None, allow_software: true };
    let mut backend = pollster::block_on(GpuBackend::new(&options)).expect("a GPU adapter");
    let limit = backend.max_binding_bytes();
    let rows = (limit / 32 + 1) as usize;
    let error = backend.create_matrix("maps", rows, 8).expect_err("too large");
    let bytes = 32 * rows as u64;
    assert!(
        matches!(error, Error::TooLarge { needed, limit: found, .. } if found == limit && needed == bytes),
        "{error}"
    );
}

/// A measurement, or one that fails, leaves the variants as they were; software does not get those for hardware.
#[test]
fn the_variants_are_timed() {
    use sttabt::backend::gpu::{GpuBackend, GpuOptions, Variant, Variants};
    let open = || {
        let options = GpuOptions { adapter: None, allow_software: true };
        pollster::block_on(GpuBackend::new(&options)).expect("an adapter")
    };
    let chosen = Variants { linear: Variant::Tiled, attention: Variant::Wide };
    let mut backend = open();
    backend.set_variants(chosen);
    let times = pollster::block_on(backend.time_variants()).expect("times");
    println!("{}: {times:?}", backend.adapter().name);
    let has_clock = backend.adapter().features.iter().any(|feature| feature == "timestamps");
    for times in [times.linear, times.attention] {
        let variants: Vec<Variant> = times.iter().map(|(variant, _)| *variant).collect();
        assert_eq!(variants, Variant::ALL, "a variant computes something else");
        assert!(times.iter().all(|(_, ms)| (*ms > 0.0) == has_clock), "{times:?}");
    }
    assert_eq!(backend.variants(), chosen);
    backend.destroy_device();
    pollster::block_on(backend.time_variants()).expect_err("a lost device");
    assert_eq!(backend.variants(), chosen);
    let default = open();
    assert!(!default.adapter().software || default.variants() == Variants::all(Variant::Wide));
}
