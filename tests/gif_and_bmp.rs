//! GIF and BMP files of many kinds come out as Pillow shows them; what Pillow refuses is refused.

use crate::common::{fixture, read};
use serde_json::Value;
use sttabt::Picture;

fn file(name: &str) -> Vec<u8> {
    read(&fixture("pictures").join(name))
}

fn decode(name: &str) -> Picture {
    Picture::decode(name, &file(name)).unwrap_or_else(|error| panic!("{error}"))
}

fn fnv1a(bytes: &[u8]) -> String {
    let value = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |value: u64, &byte| (value ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    format!("{value:016x}")
}

#[test]
fn gif_and_bmp_are_pillows() {
    let cases: Vec<Value> = serde_json::from_slice(&file("gif_bmp.json")).expect("cases");
    assert!(cases.len() > 60, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in &cases {
        let name = case["file"].as_str().expect("file");
        let found = match Picture::decode(name, &file(name)) {
            Ok(picture) => format!("{} × {} {}", picture.width(), picture.height(), fnv1a(picture.rgb())),
            Err(error) => error.to_string(),
        };
        match case["pillow"].as_str() {
            Some(refused) if !found.starts_with(&format!("{name}: ")) => {
                wrong.push(format!("{name}: {found}; {refused}"))
            }
            Some(_) => println!("{found}"),
            None => {
                let expected =
                    format!("{} × {} {}", case["width"], case["height"], case["fnv1a"].as_str().expect("fnv1a"));
                if found != expected {
                    wrong.push(format!("{name}: {found}, expected {expected}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn refusals_say_why() {
    let rows = [
        ("no-frame.gif", "broken GIF image: it has no frame"),
        ("cut.gif", "truncated GIF image"),
        ("no-columns.gif", "the image has no pixels: 0 × 9"),
        ("thirteen-bits.gif", "broken GIF image: codes of 13 bits"),
        ("code.gif", "broken GIF image: a code that means nothing"),
        ("2-bits.bmp", "BMP image with an unsupported depth: 2 bits"),
        ("jpeg.bmp", "BMP image with an unsupported compression: 4"),
        ("masks.bmp", "BMP image with unsupported masks of its colours"),
        ("header-41.bmp", "BMP image with an unsupported header of 41 bytes"),
        ("cut.bmp", "truncated BMP image"),
        ("rle8-end.bmp", "truncated BMP image"),
        ("no-columns.bmp", "the image has no pixels: 0 × 17"),
        ("palette-of-70000.bmp", "BMP image with an unsupported palette of 70000 colours"),
    ];
    for (name, expected) in rows {
        let error = Picture::decode(name, &file(&format!("refused/{name}"))).expect_err(expected).to_string();
        assert_eq!(error, format!("{name}: {expected}"));
    }
    // A header that promises gigabytes, before anything is allocated.
    let mut bytes = file("24.bmp");
    bytes[18..26].fill(0x7f);
    let error = Picture::decode("huge.bmp", &bytes).expect_err("huge").to_string();
    assert!(error.ends_with(" pixels; the limit is 67108864"), "{error}");
    let mut bytes = file("part.gif");
    bytes[6..10].fill(0xff);
    let error = Picture::decode("huge.gif", &bytes).expect_err("huge").to_string();
    assert_eq!(error, "huge.gif: 65535 × 65535 = 4294836225 pixels; the limit is 67108864");
}

/// Cut anywhere, a file is the whole picture or an error.
#[test]
fn truncated_files_are_errors() {
    for name in ["interlaced.gif", "part-transparent.gif", "24.bmp", "4.bmp", "rle8.bmp", "32-header-108.bmp"] {
        let (whole, bytes) = (decode(name), file(name));
        for length in 0..bytes.len() {
            if let Ok(picture) = Picture::decode(name, &bytes[..length]) {
                assert!(picture == whole && length + 16 > bytes.len(), "{name} cut at {length}");
            }
        }
    }
}

/// Baseline JPEG with something else where its end should be: Pillow reads it, as all pixels are there.
#[cfg(feature = "jpeg")]
#[test]
fn a_jpeg_whose_end_was_overwritten_is_read() {
    let preprocessing = |name: &str| read(&fixture("preprocessing").join(name));
    let decode = |bytes: &[u8]| Picture::decode("jpeg", bytes).map_err(|error| error.to_string());
    let truncated = Err("jpeg: truncated JPEG image".to_owned());
    for name in ["edges-420.jpg", "grey.jpg", "orientation-6.jpg", "cmyk.jpg"] {
        let bytes = preprocessing(name);
        let whole = decode(&bytes);
        assert!(whole.is_ok(), "{name}");
        let length = bytes.len() - 2;
        assert_eq!(&bytes[length..], [0xff, 0xd9], "{name}");
        for end in [&[0, 0][..], &[0; 40], b"trailing text"] {
            assert_eq!(decode(&[&bytes[..length], end].concat()), whole, "{name}, {end:?}");
        }
        // Cut off, and not whole either.
        assert_eq!(decode(&bytes[..length]), truncated, "{name}");
        assert_eq!(decode(&[&bytes[..length - 40], &[0; 2]].concat()), truncated, "{name}");
    }
    // Scans that sharpen the picture may be missing.
    let bytes = preprocessing("progressive-422.jpg");
    assert_eq!(decode(&[&bytes[..bytes.len() - 2], &[0; 40]].concat()), truncated);
}
