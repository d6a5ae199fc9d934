//! Mutated preprocessor files: whatever they hold, reading gives a preprocessor or an error, and a picture becomes the model's input or an error.
//!
//!     STTABT_FUZZ_PREPROCESSORS=0..1000000 cargo test --release --locked --test library fuzz_preprocessor -- --nocapture
//!
//! This million of inputs passes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::common::fuzz::{Random, mutated, numbers};
use serde_json::{Value, json};
use sttabt::{Picture, Preprocessor};

/// A file may ask for a picture of [`Picture::MAX_PIXELS`] on the way.
const MAX_TIME: Duration = Duration::from_secs(30);
const IMAGE_SIZE: [usize; 2] = [24, 24];

fn seeds() -> Vec<Value> {
    let timm = json!({"input_size": [3, 24, 24], "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center",
        "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]});
    vec![
        json!({"image_processor_type": "ViTImageProcessor", "do_resize": true, "size": {"height": 24, "width": 24}, "resample": 2,
            "do_rescale": true, "rescale_factor": 0.00392156862745098, "do_normalize": true, "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5], "do_center_crop": false, "do_convert_rgb": null}),
        json!({"feature_extractor_type": "DeiTFeatureExtractor", "size": 28, "do_center_crop": true, "crop_size": 24, "resample": 3}),
        json!({"image_processor_type": "BitImageProcessorFast", "size": {"shortest_edge": 30, "height": null}, "do_pad": false,
            "crop_size": {"height": 24, "width": 24}, "do_center_crop": true}),
        timm,
    ]
}

fn others() -> Vec<Value> {
    vec![
        json!([24, 24]),
        json!({"shortest_edge": 26}),
        json!({"height": 24, "width": 24}),
        json!(24),
        json!("left"),
        json!(true),
        json!([1, 2, 3]),
        json!(0.5),
        json!("ViTImageProcessorPil"),
    ]
}

/// Whether it is a preprocessor, or what went wrong.
fn check(number: u64, seeds: &[Value], others: &[Value], picture: &Picture) -> Result<bool, String> {
    let mut random = Random::of(number);
    let seed = random.below(seeds.len());
    let bytes = mutated(&seeds[seed], others, &mut random);
    let json = serde_json::from_slice::<Value>(&bytes).ok();
    let preprocessor = match json.as_ref().and_then(Value::as_object) {
        Some(timm) if seed == 3 => Preprocessor::from_timm(timm, IMAGE_SIZE),
        _ => Preprocessor::from_json(Some(&bytes), IMAGE_SIZE),
    };
    let Ok(preprocessor) = preprocessor else { return Ok(false) };
    match preprocessor.pixel_values(picture) {
        Ok(values) if values.len() != 3 * 24 * 24 => Err(format!("{} values", values.len())),
        _ => Ok(true),
    }
}

#[test]
fn mutated_preprocessors_are_preprocessors_or_errors() {
    let (seeds, others) = (seeds(), others());
    let rgb = (0..3 * 7 * 5).map(|value| value as u8).collect();
    let picture = Picture::from_rgb(7, 5, rgb).expect("a picture");
    let numbers = numbers("STTABT_FUZZ_PREPROCESSORS");
    let (mut num_preprocessors, mut failures) = (0, Vec::new());
    for number in numbers.clone() {
        let started = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| check(number, &seeds, &others, &picture))) {
            Ok(Ok(is_preprocessor)) => num_preprocessors += u64::from(is_preprocessor),
            Ok(Err(failure)) => failures.push(format!("input {number}: {failure}")),
            Err(_) => failures.push(format!("input {number}: panicked")),
        }
        if started.elapsed() > MAX_TIME {
            failures.push(format!("input {number}: {:?}", started.elapsed()));
        }
    }
    println!("{num_preprocessors} of {} are preprocessors", numbers.end - numbers.start);
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    let num_inputs = numbers.end - numbers.start;
    assert!(num_inputs < 1_000 || num_preprocessors * 10 > num_inputs, "{num_preprocessors} preprocessors");
}
