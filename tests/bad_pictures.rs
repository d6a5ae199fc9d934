//! A file that is no whole picture is an error that says why: never a panic, never half a picture.

use crate::common::{fixture, read};
use serde_json::Value;
use sttabt::{Picture, Preprocessor};

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

#[test]
fn raw_pixels_are_checked() {
    let error = |width, height, bytes| Picture::from_rgb(width, height, vec![0; bytes]).expect_err("size").to_string();
    assert_eq!(error(0, 5, 0), "picture: `width × height` is 0 × 5, expected 1 to 67108864 pixels");
    assert_eq!(error(2, 2, 11), "picture: `rgb` is 11 bytes, expected 12 (2 × 2 × 3)");
    let huge = format!("picture: `width × height` is {0} × {0}, expected 1 to 67108864 pixels", usize::MAX);
    assert_eq!(error(usize::MAX, usize::MAX, 0), huge);
}

/// A PNG's header chunk with these sides, and nothing after it; the size is looked at before the checksum.
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
        ("text", b"a picture".to_vec(), "not a PNG, JPEG, WebP, GIF or BMP image"),
        (
            "pointer",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 4\n".to_vec(),
            "a git-lfs pointer, not the file itself: run `git lfs pull` in its folder, or download it again",
        ),
        ("page", b"<!DOCTYPE html><html>".to_vec(), "a web page, not the file itself: download it again"),
        ("gif", b"GIF89a\x01\0\x01\0".to_vec(), "truncated GIF image"),
        ("gif", b"GIF88a\x01\0\x01\0".to_vec(), "not a PNG, JPEG, WebP, GIF or BMP image"),
        ("bmp", b"BM\0\0".to_vec(), "truncated BMP image"),
        ("tiff", b"II*\0".to_vec(), "TIFF images are not supported; supported: PNG, JPEG, WebP, GIF, BMP"),
        ("avif", b"\0\0\0\x1cftypavif".to_vec(), "AVIF images are not supported; supported: PNG, JPEG, WebP, GIF, BMP"),
        ("heic", b"\0\0\0\x1cftypheic".to_vec(), "HEIF images are not supported; supported: PNG, JPEG, WebP, GIF, BMP"),
        (
            "svg",
            b"<?xml version=\"1.0\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\"/>".to_vec(),
            "SVG images are not supported; supported: PNG, JPEG, WebP, GIF, BMP",
        ),
        ("wav", b"RIFF\x04\0\0\0WAVE".to_vec(), "not a PNG, JPEG, WebP, GIF or BMP image"),
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
    let preprocessor = Preprocessor::from_json(None, [32, 24]).expect("default");
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
