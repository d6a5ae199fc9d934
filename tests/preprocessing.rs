//! Pictures come out as Pillow and Hugging Face make them, and bad ones as errors that say why.

mod common;

use common::{fixture, floats, read};
use serde_json::{Value, json};
use sttabt::{Picture, Preprocessor};

const IMAGE_SIZE: [usize; 2] = [32, 24];
/// Decoding and resizing are Pillow's, bit for bit.
const MAX_DIFFERENCE: u8 = 0;

fn file(name: &str) -> Vec<u8> {
    read(&fixture("preprocessing").join(name))
}

fn cases() -> Value {
    serde_json::from_slice(&file("cases.json")).expect("cases.json")
}

fn names() -> Vec<String> {
    let cases = cases();
    let images = cases["images"].as_array().expect("images");
    images.iter().map(|image| image["file"].as_str().expect("file").to_owned()).collect()
}

fn decode(name: &str) -> Picture {
    Picture::decode(name, &file(name)).unwrap_or_else(|error| panic!("{error}"))
}

fn preprocessor(config: &Value) -> Preprocessor {
    Preprocessor::from_json(Some(config.to_string().as_bytes()), IMAGE_SIZE).unwrap_or_else(|error| panic!("{error}"))
}

fn fnv1a(bytes: &[u8]) -> String {
    let value = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |value: u64, &byte| (value ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("{value:016x}")
}

/// The largest and the mean difference.
fn differences(found: &[u8], expected: &[u8]) -> (u8, f64) {
    assert_eq!(found.len(), expected.len(), "lengths differ");
    let differences: Vec<u8> = found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).collect();
    let sum: u64 = differences.iter().map(|&difference| u64::from(difference)).sum();
    (differences.iter().copied().max().unwrap_or(0), sum as f64 / found.len() as f64)
}

#[test]
fn decoding_is_pillows() {
    let mut wrong = Vec::new();
    for image in cases()["images"].as_array().expect("images") {
        let name = image["file"].as_str().expect("file");
        let picture = decode(name);
        let size = [picture.width(), picture.height()].map(Some);
        let expected = ["width", "height"].map(|side| image[side].as_u64().map(|side| side as usize));
        if size != expected || fnv1a(picture.rgb()) != image["fnv1a"].as_str().expect("fnv1a") {
            wrong.push(format!("{name}: {size:?}, expected {expected:?}, or other pixels"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn resized_pictures_are_hugging_faces() {
    let cases = cases();
    let configs: Vec<Preprocessor> = cases["configs"].as_array().expect("configs").iter().map(preprocessor).collect();
    let mut wrong = Vec::new();
    for name in names() {
        let picture = decode(&name);
        for (index, expected) in file(&format!("{name}.rgb")).chunks(3 * IMAGE_SIZE[0] * IMAGE_SIZE[1]).enumerate() {
            let resized = configs[index].resized(&picture).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!([resized.height(), resized.width()], IMAGE_SIZE, "{name}");
            let (max, mean) = differences(resized.rgb(), expected);
            println!("{name}, configuration {index}: at most {max}, mean {mean:.4}");
            if max > MAX_DIFFERENCE {
                wrong.push(format!("{name}, configuration {index}: at most {max}, mean {mean:.4}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn pixel_values_are_hugging_faces() {
    let cases = cases();
    let picture = decode(&names()[0]);
    for (index, config) in cases["configs"].as_array().expect("configs").iter().enumerate() {
        let pixel_values = preprocessor(config).pixel_values(&picture).expect("pixel values");
        assert_eq!(pixel_values.len(), 3 * IMAGE_SIZE[0] * IMAGE_SIZE[1]);
        let sampled: Vec<f32> = pixel_values.into_iter().step_by(101).collect();
        let difference = common::distance(&sampled, &floats(&config["pixel_values"]), 0.0);
        println!("configuration {index}: {difference:.2e}");
        assert!(difference == 0.0, "configuration {index}: {difference}");
    }
}

/// With nothing to resize the numbers are Hugging Face's to the last bit.
#[test]
fn normalization_is_exact() {
    let rgb: Vec<u8> = (0..3 * 16 * 16).map(|index| (index / 3) as u8).collect();
    let picture = Picture::from_rgb(16, 16, rgb).expect("picture");
    let config = br#"{"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}"#;
    let preprocessor = Preprocessor::from_json(Some(config), [16, 16]).expect("configuration");
    assert_eq!(preprocessor.resized(&picture).expect("resized"), picture);
    let pixel_values = preprocessor.pixel_values(&picture).expect("pixel values");
    let (mean, std) = ([0.485_f32, 0.456, 0.406], [0.229_f32, 0.224, 0.225]);
    for (index, value) in pixel_values.iter().enumerate() {
        let (channel, byte) = (index / 256, index % 256);
        let expected = ((byte as f64 * (1.0 / 255.0)) as f32 - mean[channel]) / std[channel];
        assert_eq!(value.to_bits(), expected.to_bits(), "channel {channel}, {byte}");
    }
}

#[test]
fn no_file_means_hugging_faces_defaults() {
    let default = Preprocessor::from_json(None, IMAGE_SIZE).expect("default");
    assert!(default.is_default());
    let named = preprocessor(&json!({
        "do_resize": true, "size": {"height": 32, "width": 24}, "resample": 2, "do_center_crop": false,
        "do_rescale": true, "rescale_factor": 0.00392156862745098, "do_normalize": true,
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "do_convert_rgb": null,
    }));
    assert!(!named.is_default());
    let picture = decode("odd.png");
    assert_eq!(default.pixel_values(&picture), named.pixel_values(&picture));
    // An integer is a square, for `size` as for `crop_size`.
    let square =
        |config: Value| Preprocessor::from_json(Some(config.to_string().as_bytes()), [24, 24]).expect("square");
    let named = square(json!({"size": {"height": 30, "width": 30}, "do_center_crop": true, "crop_size": 24}));
    assert_eq!(named, square(json!({"size": 30, "do_center_crop": true, "crop_size": {"height": 24, "width": 24}})));
    // DeiT's defaults are other ones.
    let deit = json!({"feature_extractor_type": "DeiTFeatureExtractor"}).to_string();
    let named = json!({"size": 256, "resample": 3, "do_center_crop": true, "crop_size": 224}).to_string();
    let read = |json: &str| Preprocessor::from_json(Some(json.as_bytes()), [224, 224]).expect("configuration");
    assert_eq!(read(&deit), read(&named));
}

#[test]
fn a_constant_picture_stays_constant() {
    for color in [[0, 0, 0], [255, 255, 255], [1, 128, 254], [77, 3, 200]] {
        for [width, height] in [[1, 1], [2, 500], [500, 2], [31, 47], [24, 32], [640, 480]] {
            let picture = Picture::from_rgb(width, height, color.repeat(width * height)).expect("picture");
            for resample in 0..=5 {
                let config = json!({"resample": resample});
                let resized = preprocessor(&config).resized(&picture).expect("resized");
                let is_constant = resized.rgb().as_chunks().0.iter().all(|pixel| *pixel == color);
                assert!(is_constant, "{width} × {height}, {color:?}, filter {resample}");
            }
        }
    }
}

#[test]
fn what_cannot_be_resized_is_an_error() {
    let config = json!({"size": {"shortest_edge": 40}, "do_center_crop": true});
    let line =
        |width: usize, height: usize| Picture::from_rgb(width, height, vec![9; 3 * width * height]).expect("line");
    let long = preprocessor(&config).resized(&line(6_000, 1)).expect("6000 pixels wide");
    assert!(long.rgb().iter().all(|&value| value == 9));
    let error = preprocessor(&config).resized(&line(50_000, 1)).expect_err("too wide").to_string();
    assert_eq!(error, "input 1: resizing 50000 × 1 pixels to 2000000 × 40 needs more than 67108864 pixels");
    // Rows first: the picture between the two passes is 24 wide and 6000000 high.
    let error = preprocessor(&json!({})).resized(&line(1, 6_000_000)).expect_err("too high").to_string();
    assert_eq!(error, "input 1: resizing 1 × 6000000 pixels to 24 × 32 needs more than 67108864 pixels");
    let error = preprocessor(&json!({"do_resize": false})).resized(&line(3, 2)).expect_err("size").to_string();
    assert_eq!(error, "input 1: the picture is [2, 3], the model takes [32, 24] and nothing resizes it");
}

#[test]
fn raw_pixels_are_checked() {
    let error = |width, height, bytes| Picture::from_rgb(width, height, vec![0; bytes]).expect_err("size").to_string();
    assert_eq!(error(0, 5, 0), "picture: `width × height` is 0 × 5, expected 1 to 67108864 pixels");
    assert_eq!(error(2, 2, 11), "picture: `rgb` is 11 bytes, expected 12 (2 × 2 × 3)");
    let huge = format!("picture: `width × height` is {0} × {0}, expected 1 to 67108864 pixels", usize::MAX);
    assert_eq!(error(usize::MAX, usize::MAX, 0), huge);
}

/// A PNG's header chunk with these sides, its sum right, and nothing after it.
fn png_header(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = file("odd.png")[..33].to_vec();
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    bytes
}

#[test]
fn bad_files_say_why() {
    let with = |name: &str, at: usize, bytes: &[u8]| {
        let mut file = file(name);
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    let frame = |name: &str| file(name).windows(2).position(|marker| marker == [0xff, 0xc0]).expect("frame header") + 5;
    let webp_chunk = |name: &str, kind: &[u8]| file(name).windows(4).position(|id| id == kind).expect("chunk") + 8;
    let vp8 = webp_chunk("orientation-7.webp", b"VP8 ");
    let vp8l = webp_chunk("animated.webp", b"VP8L");
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty", vec![], "the file is empty"),
        ("text", b"a picture".to_vec(), "not a PNG, JPEG or WebP image"),
        ("gif", b"GIF89a\x01\0\x01\0".to_vec(), "GIF images are not supported; supported: PNG, JPEG, WebP"),
        ("bmp", b"BM\0\0".to_vec(), "BMP images are not supported; supported: PNG, JPEG, WebP"),
        ("avif", b"\0\0\0\x1cftypavif".to_vec(), "AVIF images are not supported; supported: PNG, JPEG, WebP"),
        ("heic", b"\0\0\0\x1cftypheic".to_vec(), "HEIF images are not supported; supported: PNG, JPEG, WebP"),
        (
            "svg",
            b"<?xml version=\"1.0\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\"/>".to_vec(),
            "SVG images are not supported; supported: PNG, JPEG, WebP",
        ),
        ("wav", b"RIFF\x04\0\0\0WAVE".to_vec(), "not a PNG, JPEG or WebP image"),
        ("png", png_header(0, 7), "the image has no pixels: 0 × 7"),
        ("png", png_header(65_536, 1_025), "65536 × 1025 = 67174400 pixels; the limit is 67108864"),
        (
            "png",
            png_header(u32::MAX, u32::MAX),
            "4294967295 × 4294967295 = 18446744065119617025 pixels; the limit is 67108864",
        ),
        ("png", file("odd.png")[..20].to_vec(), "truncated PNG image"),
        ("png", file("odd.png")[..2_000].to_vec(), "truncated PNG image"),
        ("png", with("odd.png", 24, &[3]), "broken PNG image: "),
        (
            "jpeg",
            with("grey.jpg", frame("grey.jpg"), &[0xff; 4]),
            "65535 × 65535 = 4294836225 pixels; the limit is 67108864",
        ),
        ("jpeg", with("grey.jpg", frame("grey.jpg") + 2, &[0; 2]), "broken JPEG image: "),
        (
            "jpeg",
            with("cmyk.jpg", frame("cmyk.jpg") + 6, &[0x22]),
            "JPEG image with an unsupported feature: the subsampling of a CMYK image",
        ),
        ("jpeg", file("edges-420.jpg")[..1_000].to_vec(), "truncated JPEG image"),
        ("jpeg", file("progressive-422.jpg")[..1_200].to_vec(), "truncated JPEG image"),
        ("webp", file("lossy.webp")[..10].to_vec(), "truncated WebP image"),
        ("webp", file("lossy.webp")[..500].to_vec(), "truncated WebP image"),
        (
            "webp",
            with("orientation-7.webp", vp8 + 6, &[0xff; 4]),
            "16383 × 16383 = 268402689 pixels; the limit is 67108864",
        ),
        (
            "webp",
            with("animated.webp", vp8l + 1, &[0xff; 4]),
            "16384 × 16384 = 268435456 pixels; the limit is 67108864",
        ),
        ("webp", with("lossless.webp", 12, b"VP8?"), "broken WebP image: "),
    ];
    for (name, bytes, expected) in cases {
        let error = Picture::decode(name, &bytes).expect_err(expected).to_string();
        println!("{error}");
        assert!(error.starts_with(&format!("{name}: {expected}")), "{error}\nexpected {name}: {expected}");
        assert!(error.ends_with(expected) || expected.ends_with(": "), "{error}\nexpected {name}: {expected}");
    }
}

/// Cut anywhere, a file is an error and no half picture.
#[test]
fn truncated_files_are_errors() {
    for name in names() {
        let whole = decode(&name);
        let bytes = file(&name);
        for length in 0..bytes.len() {
            match Picture::decode(&name, &bytes[..length]) {
                Err(_) => {}
                // A PNG whose pixels are all there; Pillow takes it as well.
                Ok(picture) => assert!(picture == whole && name.ends_with(".png"), "{name} cut at {length}"),
            }
        }
    }
}

/// Whatever the bytes are: a picture or an error.
#[test]
fn mutated_files_never_panic() {
    let mut state = 0x5eed_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let names = names();
    let files: Vec<Vec<u8>> = names.iter().map(|name| file(name)).collect();
    let preprocessor = preprocessor(&json!({}));
    let mut num_pictures = 0;
    for index in 0..600 {
        let mut bytes = files[index % files.len()].clone();
        for _ in 0..=random(4) {
            // Headers are short: half of the mutations go there.
            let at = if random(2) == 0 { random(bytes.len().min(120)) } else { random(bytes.len()) };
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => bytes[at] ^= 1 << random(8),
                2 => drop(bytes.drain(at..(at + 1 + random(4)).min(bytes.len()))),
                _ => bytes.insert(at, [0, 0xff, 0x7f][random(3)]),
            }
            if bytes.is_empty() {
                break;
            }
        }
        if let Ok(picture) = Picture::decode("mutated", &bytes) {
            assert_eq!(picture.rgb().len(), 3 * picture.width() * picture.height());
            num_pictures += 1;
            // Errors are fine: a mutated header can promise a very long line.
            let _ = preprocessor.pixel_values(&picture);
        }
    }
    println!("{num_pictures} of 600 mutated files are still pictures");
}

#[test]
fn bad_configurations_say_why() {
    let cases: [(Value, &str); 20] = [
        (json!({"do_resize": 1}), "`do_resize` is 1, expected true or false"),
        (json!({"size": 0}), "`size` is 0, expected an integer from 1 to 16384"),
        (json!({"size": "big"}), "`size` is \"big\", expected an integer from 1 to 16384"),
        (
            json!({"size": {"longest_edge": 9}}),
            "`size` is {\"longest_edge\":9}, expected a number or an object with `shortest_edge`, or with `height` and `width`",
        ),
        (
            json!({"size": {"height": 9}}),
            "`size` is {\"height\":9}, expected a number or an object with `shortest_edge`, or with `height` and `width`",
        ),
        (json!({"size": {"shortest_edge": -4}}), "`size.shortest_edge` is -4, expected an integer from 1 to 16384"),
        (json!({"size": {"height": 2.5, "width": 1}}), "`size.height` is 2.5, expected an integer from 1 to 16384"),
        (
            json!({"crop_size": {"shortest_edge": 9}}),
            "`crop_size` is {\"shortest_edge\":9}, expected a number or an object with `height` and `width`",
        ),
        (json!({"size": 32}), "`size` is [32, 32], expected [32, 24], the model's image size"),
        (
            json!({"size": {"shortest_edge": 40}}),
            "`size` is a shortest edge of 40 without `do_center_crop`, expected [32, 24], the model's image size",
        ),
        (
            json!({"do_center_crop": true, "crop_size": 24}),
            "`crop_size` is [24, 24], expected [32, 24], the model's image size",
        ),
        (
            json!({"resample": "bicubic"}),
            "`resample` is \"bicubic\", expected 0 (nearest), 1 (Lanczos), 2 (bilinear), 3 (bicubic), 4 (box), 5 (Hamming)",
        ),
        (json!({"rescale_factor": 0}), "`rescale_factor` is 0, expected a number from 1e-12 to 1e12"),
        (json!({"rescale_factor": "1/255"}), "`rescale_factor` is \"1/255\", expected a number from 1e-12 to 1e12"),
        (json!({"image_mean": 0.5}), "`image_mean` is 0.5, expected 3 finite numbers"),
        (json!({"image_mean": [0.5, 0.5]}), "`image_mean` is [0.5,0.5], expected 3 finite numbers"),
        (json!({"image_mean": [0, 1e300, 0]}), "`image_mean` is [0,1e+300,0], expected 3 finite numbers"),
        (json!({"image_std": [1, 0, 1]}), "`image_std` is [1,0,1], expected 3 finite numbers above 0"),
        (json!({"image_std": [1, 1, -0.5]}), "`image_std` is [1,1,-0.5], expected 3 finite numbers above 0"),
        (json!({"image_processor_type": 3}), "`image_processor_type` is 3, expected a string"),
    ];
    let error = |json: &str| Preprocessor::from_json(Some(json.as_bytes()), IMAGE_SIZE).expect_err(json).to_string();
    for (config, expected) in cases {
        assert_eq!(error(&config.to_string()), format!("preprocessor_config.json: {expected}"));
    }
    assert_eq!(
        error(r#"{"resample": 6}"#),
        "resample filter `6` is not supported; supported: 0 (nearest), 1 (Lanczos), 2 (bilinear), 3 (bicubic), 4 (box), 5 (Hamming)"
    );
    assert_eq!(
        error(r#"{"image_processor_type": "CLIPImageProcessor"}"#),
        "image processor `CLIPImageProcessor` is not supported; supported: ViTImageProcessor, DeiTImageProcessor"
    );
    assert_eq!(error("[]"), "preprocessor_config.json: expected a JSON object");
    assert!(error("{").starts_with("preprocessor_config.json: not JSON: "));
}
