//! Pictures come out as Pillow and Hugging Face make them; bad configurations are errors that say why.

use crate::common::{fixture, floats, read};
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
        let difference = crate::common::distance(&sampled, &floats(&config["pixel_values"]), 0.0);
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

/// All that Hugging Face's programs have written over the years.
#[test]
fn forms_of_a_file_mean_the_same() {
    let read = |config: &Value, size| {
        let preprocessor = Preprocessor::from_json(Some(config.to_string().as_bytes()), size);
        preprocessor.unwrap_or_else(|error| panic!("{config}: {error}"))
    };
    let equal: &[(Value, Value)] = &[
        (json!({"size": [32, 24]}), json!({"size": {"height": 32, "width": 24}})),
        (
            json!({"size": {"height": 32, "width": 24, "shortest_edge": null, "longest_edge": null}, "crop_size": null}),
            json!({"size": {"height": 32, "width": 24}}),
        ),
        (
            json!({"size": {"shortest_edge": 40, "height": null, "width": null}, "do_center_crop": true, "crop_size": [32, 24]}),
            json!({"size": {"shortest_edge": 40}, "do_center_crop": true, "crop_size": {"height": 32, "width": 24}}),
        ),
        (
            json!({"image_mean": 0.25, "image_std": 2}),
            json!({"image_mean": [0.25, 0.25, 0.25], "image_std": [2, 2, 2]}),
        ),
        (json!({"image_processor_type": "ViTImageProcessorPil"}), json!({})),
        (json!({"image_processor_type": "ViTImageProcessorFast", "do_convert_rgb": true, "do_pad": false}), json!({})),
        (json!({"feature_extractor_type": "ViTFeatureExtractor", "do_convert_rgb": false}), json!({})),
        (json!({"do_pad": true, "pad_size": null}), json!({})),
        (
            json!({"size": 40, "default_to_square": false, "do_center_crop": true, "crop_size": [32, 24]}),
            json!({"size": {"shortest_edge": 40}, "do_center_crop": true, "crop_size": [32, 24]}),
        ),
        (json!({"do_pad": true, "pad_size": [32, 24], "data_format": "channels_first"}), json!({})),
    ];
    for (one, other) in equal {
        assert_eq!(read(one, IMAGE_SIZE), read(other, IMAGE_SIZE), "{one}");
    }
    // BiT's, which DINOv2 uses: one number is the shortest edge.
    let bit = |config: Value| {
        let mut config = config;
        config["image_processor_type"] = json!("BitImageProcessor");
        read(&config, [224, 224])
    };
    let named = json!({
        "size": {"shortest_edge": 224}, "resample": 3, "do_center_crop": true, "crop_size": 224,
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
    });
    assert_eq!(bit(json!({})), read(&named, [224, 224]));
    assert_eq!(bit(json!({"size": 256})), bit(json!({"size": {"shortest_edge": 256}})));
    assert_eq!(read(&json!({"image_processor_type": "BitImageProcessorPil"}), [224, 224]), bit(json!({})));
    assert_ne!(bit(json!({"size": 256})), bit(json!({"size": [256, 256]})));
    assert_eq!(bit(json!({"size": 256, "default_to_square": true})), bit(json!({"size": [256, 256]})));
}

/// Some models take pictures of any size; their files say which.
#[test]
fn a_file_says_the_size_of_what_comes_out() {
    let rows = [
        (json!({}), [518, 518]),
        (json!({"size": 48}), [48, 48]),
        (json!({"size": {"height": 70, "width": 56}}), [70, 56]),
        (json!({"do_resize": false, "size": 48}), [518, 518]),
        (json!({"do_center_crop": true, "crop_size": [42, 28]}), [42, 28]),
        (json!({"image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 256}}), [224, 224]),
        (json!({"size": {"shortest_edge": 256}}), [518, 518]),
    ];
    for (config, expected) in rows {
        let found = Preprocessor::output_size(Some(config.to_string().as_bytes()), [518, 518]);
        assert_eq!(found, Ok(expected), "{config}");
    }
    assert_eq!(Preprocessor::output_size(None, [518, 518]), Ok([518, 518]));
    assert!(Preprocessor::output_size(Some(b"[]"), [518, 518]).is_err());
}

/// timm's transform for evaluation: `transforms_imagenet_eval`.
#[test]
fn timms_configurations_are_read() {
    let timm = |config: Value, size: [usize; 2]| {
        Preprocessor::from_timm(config.as_object().expect("object"), size).map_err(|error| error.to_string())
    };
    let config = json!({
        "input_size": [3, 224, 224], "interpolation": "bicubic", "crop_pct": 0.9, "crop_mode": "center",
        "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5], "num_classes": 10,
    });
    let preprocessor = timm(config.clone(), [224, 224]).expect("a configuration");
    assert!(!preprocessor.is_default());
    // 224 by 0.9 is 248.9; the crop of a square of 248 begins at 12.
    let hugging_faces =
        json!({"size": {"shortest_edge": 248}, "resample": 3, "do_center_crop": true, "crop_size": 224});
    let hugging_faces = Preprocessor::from_json(Some(hugging_faces.to_string().as_bytes()), [224, 224]).expect("one");
    let picture = decode("alpha.png");
    assert_eq!(preprocessor.resized(&picture), hugging_faces.resized(&picture));
    assert_eq!(preprocessor.pixel_values(&picture), hugging_faces.pixel_values(&picture));
    // Odd surpluses: torchvision rounds half to even. Columns count from 0; 11 × 8 lose 3, 13 × 8 lose 5.
    for (width, first) in [(8, 0), (9, 0), (11, 2), (13, 2), (15, 4)] {
        let rgb = (0..8 * width).flat_map(|at| [(at % width) as u8; 3]).collect();
        let picture = Picture::from_rgb(width, 8, rgb).expect("a picture");
        let resized =
            timm(json!({"crop_pct": 1.0}), [8, 8]).expect("a configuration").resized(&picture).expect("resized");
        assert_eq!(resized.rgb()[0], first, "{width}");
    }
    // timm's defaults.
    let named = json!({"interpolation": "bicubic", "crop_pct": 0.875, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]});
    assert_eq!(timm(json!({}), [224, 224]), timm(named, [224, 224]));
    let refused: &[(&str, Value, &str)] = &[
        (
            "input_size",
            json!([3, 256, 256]),
            "config.json: `pretrained_cfg.input_size` is [3,256,256], expected [3, 224, 224], the model's image size",
        ),
        ("crop_mode", json!("squash"), "timm's crop_mode `squash` is not supported; supported: center"),
        ("crop_pct", json!(1.5), "config.json: `pretrained_cfg.crop_pct` is 1.5, expected a number from 1e-2 to 1e0"),
        (
            "interpolation",
            json!("random"),
            "timm's interpolation `random` is not supported; supported: bicubic, bilinear, nearest, lanczos, box, hamming",
        ),
        ("std", json!([0, 1, 1]), "config.json: `pretrained_cfg.std` is [0,1,1], expected 3 finite numbers above 0"),
    ];
    for (key, value, expected) in refused {
        let mut config = config.clone();
        config[*key] = value.clone();
        assert_eq!(timm(config, [224, 224]), Err((*expected).to_owned()));
    }
    let expected = "config.json: `pretrained_cfg.input_size` is [32, 24], expected a square";
    assert_eq!(timm(json!({}), IMAGE_SIZE), Err(expected.to_owned()));
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
    // Columns first: the picture between the two passes is 1 wide and 32 high.
    let high = preprocessor(&json!({})).resized(&line(1, 6_000_000)).expect("6000000 pixels high");
    assert!(high.rgb().iter().all(|&value| value == 9));
    for (size, expected) in [
        (
            json!({"shortest_edge": 40, "longest_edge": 80}),
            "input 1: resizing 3000 × 2 pixels to 80 × 0 leaves nothing of it",
        ),
        (
            json!({"max_height": 48, "max_width": 64}),
            "input 1: resizing 3000 × 2 pixels to 64 × 0 leaves nothing of it",
        ),
    ] {
        let config = json!({"size": size, "do_center_crop": true, "crop_size": IMAGE_SIZE});
        let error = preprocessor(&config).resized(&line(3000, 2)).expect_err("nothing").to_string();
        assert_eq!(error, expected);
    }
    let error = preprocessor(&json!({"do_resize": false})).resized(&line(3, 2)).expect_err("size").to_string();
    assert_eq!(error, "input 1: the picture is [2, 3], the model takes [32, 24] and nothing resizes it");
}

#[test]
fn bad_configurations_say_why() {
    let cases: [(Value, &str); 29] = [
        (json!({"do_resize": 1}), "`do_resize` is 1, expected true or false"),
        (json!({"size": 0}), "`size` is 0, expected an integer from 1 to 16384"),
        (json!({"size": "big"}), "`size` is \"big\", expected an integer from 1 to 16384"),
        (
            json!({"size": {"longest_edge": 9}}),
            "`size` is {\"longest_edge\":9}, expected a number or an object with `shortest_edge`, or with `height` and `width`, or with `shortest_edge` and `longest_edge`, or with `max_height` and `max_width`",
        ),
        (
            json!({"size": {"height": 9}}),
            "`size` is {\"height\":9}, expected a number or an object with `shortest_edge`, or with `height` and `width`, or with `shortest_edge` and `longest_edge`, or with `max_height` and `max_width`",
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
        (json!({"image_mean": "0.5"}), "`image_mean` is \"0.5\", expected 3 finite numbers"),
        (json!({"image_mean": [0.5]}), "`image_mean` is [0.5], expected 3 finite numbers"),
        (json!({"image_std": 0}), "`image_std` is 0, expected 3 finite numbers above 0"),
        (json!({"size": [32, 24, 3]}), "`size` is [32,24,3], expected an integer from 1 to 16384"),
        (json!({"size": [32, -1]}), "`size` is -1, expected an integer from 1 to 16384"),
        (json!({"size": [24, 32]}), "`size` is [24, 32], expected [32, 24], the model's image size"),
        (
            json!({"size": {"shortest_edge": 40, "longest_edge": 80}}),
            "`size` is edges of 40 to 80 without `do_center_crop`, expected [32, 24], the model's image size",
        ),
        (
            json!({"size": {"max_height": 40, "max_width": 80}}),
            "`size` is a picture within 40 x 80 without `do_center_crop`, expected [32, 24], the model's image size",
        ),
        (json!({"default_to_square": "no"}), "`default_to_square` is \"no\", expected true or false"),
        (
            json!({"do_pad": true, "pad_size": {"height": 40, "width": 40}}),
            "`pad_size` is [40, 40], expected [32, 24], the model's image size",
        ),
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
        "image processor `CLIPImageProcessor` is not supported; supported: ViTImageProcessor, DeiTImageProcessor, BitImageProcessor"
    );
    assert_eq!(
        error(r#"{"do_flip_channel_order": true}"#),
        "preprocessing step `do_flip_channel_order` is not supported; supported: do_resize, do_center_crop, do_rescale, do_normalize"
    );
    assert_eq!(
        error(r#"{"data_format": "channels_last"}"#),
        "data_format `channels_last` is not supported; supported: channels_first"
    );
    assert_eq!(
        error(r#"{"image_mean": [NaN, 0, 0]}"#),
        "preprocessor_config.json: `image_mean` is [\"NaN\",0,0], expected 3 finite numbers"
    );
    assert_eq!(error("[]"), "preprocessor_config.json: expected a JSON object");
    assert!(error("{").starts_with("preprocessor_config.json: not JSON: "));
}
