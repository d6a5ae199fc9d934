//! Mutated pictures: whatever the bytes are, decoding gives a picture or an error, in bounded memory.
//!
//! The JPEG decoder promises no memory safety, and PNG's and WebP's promise no error instead of a panic. GIF's and BMP's are our own. So this runs
//! at length when a version of theirs changes:
//!
//!     STTABT_FUZZ_PICTURES=0..1000000 cargo test --release --locked --test fuzz_pictures -- --nocapture
//!
//! This million of inputs passes with libjpeg-turbo-rs 0.9.0, png 0.18.1 and image-webp 0.2.4 (some 50 a millisecond). A number stands for the same
//! input as long as the fixtures are the same; what once failed is kept in `fixtures/pictures/broken`.

mod common;

use std::ops::Range;

use common::counting::{Counting, counted};
use common::fuzz::{Random, numbers};
use common::{fixture, read};
use sttabt::Picture;

/// Most of it is for the formats' own decoders: 8 bytes a pixel for 16-bit PNG, 12 for progressive JPEG, beside what comes out.
const MAX_BYTES: usize = 20 * Picture::MAX_PIXELS;

#[global_allocator]
static COUNTING: Counting = Counting;

/// The whole files that inputs are made of, each format's together.
fn seeds() -> Vec<Vec<Vec<u8>>> {
    ["jpg", "png", "webp", "gif", "bmp"]
        .map(|ending| {
            let mut paths: Vec<_> = ["preprocessing", "pictures"]
                .iter()
                .flat_map(|folder| std::fs::read_dir(fixture(folder)).expect("a folder"))
                .map(|entry| entry.expect("an entry").path())
                .filter(|path| path.extension().is_some_and(|found| found == ending))
                .collect();
            paths.sort();
            paths.iter().map(|path| read(path)).collect()
        })
        .into()
}

/// The parts that a file consists of: JPEG's segments (with the coded data behind one), PNG's and RIFF's chunks; of GIF and BMP the header, and
/// pieces of the rest.
fn parts(bytes: &[u8]) -> Vec<Range<usize>> {
    let mut starts = Vec::new();
    let big = |at: usize| bytes.get(at..at + 4).map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]));
    match bytes {
        [0xff, 0xd8, ..] => {
            let is_marker = |pair: &[u8]| pair[0] == 0xff && !matches!(pair[1], 0x00 | 0xd0..=0xd7 | 0xff);
            let mut at = 2;
            while let Some(step) = bytes.get(at..).and_then(|rest| rest.windows(2).position(is_marker)) {
                starts.push(at + step);
                let length =
                    bytes.get(at + step + 2..at + step + 4).map_or(0, |two| u16::from_be_bytes([two[0], two[1]]));
                at += step + 2 + usize::from(length);
            }
        }
        [0x89, b'P', ..] => {
            let mut at = 8;
            while let Some(length) = big(at) {
                starts.push(at);
                at = at.saturating_add(length as usize + 12);
            }
        }
        [b'G', b'I', ..] | [b'B', b'M', ..] => {
            starts
                .extend([0, 14].into_iter().chain((54..bytes.len()).step_by(40)).filter(|&start| start < bytes.len()));
        }
        _ => {
            let mut at = 12;
            while let Some(length) = big(at + 4).map(u32::swap_bytes) {
                starts.push(at);
                at = at.saturating_add((length as usize).next_multiple_of(2) + 8);
            }
        }
    }
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    starts.iter().copied().zip(ends).map(|(start, end)| start..end).collect()
}

/// The input of a number.
fn input(number: u64, seeds: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let mut random = Random::of(number);
    // Half are JPEG.
    let format = *random.pick(&[0, 0, 0, 0, 1, 2, 3, 4]);
    let kind = &seeds[format];
    let mut bytes = kind[random.below(kind.len())].clone();
    for _ in 0..random.few() {
        mutate(&mut bytes, &kind[random.below(kind.len())], &mut random);
    }
    // What the decoders look at first must not hide the rest from them.
    if random.below(8) > 0 {
        match format {
            0 => bytes.extend([0xff, 0xd9]),
            1 => mend_png(&mut bytes),
            2 => mend_webp(&mut bytes),
            _ => {}
        }
    }
    bytes
}

fn mutate(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let parts = parts(bytes);
    let part = if parts.is_empty() { 0..bytes.len() } else { parts[random.below(parts.len())].clone() };
    // Segments are as likely as each other, and so their heads more likely than the coded data.
    let part_bytes = bytes[part.clone()].to_vec();
    let reach = *random.pick(&[12, 64, usize::MAX]);
    let at = part.start + random.below(part.len().min(reach));
    let put = |bytes: &mut Vec<u8>, value: u8| {
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value;
        }
    };
    match random.below(12) {
        0 => (0..random.few()).for_each(|_| {
            let at = random.below(bytes.len());
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }),
        1 => put(bytes, *random.pick(&[0, 1, 2, 3, 4, 0x11, 0x12, 0x21, 0x22, 0x41, 0x7f, 0x80, 0xfe, 0xff])),
        2 => put(bytes, random.below(256) as u8),
        3 => bytes.truncate(at),
        4 => drop(bytes.splice(part.start..part.start, part_bytes)),
        5 => drop(bytes.drain(part)),
        // A part at another's place.
        6 => {
            let to = parts.get(random.below(parts.len())).map_or(0, |part| part.start);
            drop(bytes.splice(to..to, part_bytes));
        }
        // A part of another file in its place, or beside it.
        7 => {
            let others = self::parts(other);
            let from = others.get(random.below(others.len())).cloned().unwrap_or_default();
            let end = if random.below(2) == 0 { part.start } else { part.end };
            drop(bytes.splice(part.start..end, other[from].iter().copied()));
        }
        // The length of a part: JPEG's behind its marker, PNG's first, RIFF's behind its name.
        8 => {
            let offset = *random.pick(&[0, 2, 3, 4, 5]);
            if let Some(byte) = bytes.get_mut(part.start + offset) {
                *byte = byte.wrapping_add(*random.pick(&[1, 2, 0xff, 0xfe, 0x10, 0x80]));
            }
        }
        // Sides, where a frame's header has them.
        9 => {
            let sides = [0_u16, 1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65, 255, 257, 600, 2_000];
            let side = random.pick(&sides).to_be_bytes();
            let is_frame = |part: &&Range<usize>| matches!(bytes[(*part).clone()], [0xff, 0xc0..=0xcf, ..]);
            let frame = parts.iter().find(is_frame).unwrap_or(&part).start + *random.pick(&[5, 7]);
            if let Some(place) = bytes.get_mut(frame..frame + 2) {
                place.copy_from_slice(&side);
            }
        }
        10 => drop(bytes.drain(at..(at + 1 + random.below(8)).min(bytes.len()))),
        _ => {
            let value = *random.pick(&[0, 0xff, 0x7f]);
            drop(bytes.splice(at..at, std::iter::repeat_n(value, 1 + random.below(4))));
        }
    }
}

/// Writes the checksums of all chunks.
fn mend_png(bytes: &mut [u8]) {
    for part in parts(bytes) {
        let Some(end) = part.end.checked_sub(4).filter(|&end| end >= part.start + 8) else { continue };
        let crc = !bytes[part.start + 4..end].iter().fold(u32::MAX, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
        });
        bytes[end..part.end].copy_from_slice(&crc.to_be_bytes());
    }
}

/// Writes the file's length.
fn mend_webp(bytes: &mut [u8]) {
    let length = (bytes.len().saturating_sub(8) as u32).to_le_bytes();
    if let Some(place) = bytes.get_mut(4..8) {
        place.copy_from_slice(&length);
    }
}

/// Whether it is a picture, or what decoding must not do.
fn check(bytes: &[u8]) -> Result<bool, String> {
    let (decoded, num_bytes, _) = counted(|| Picture::decode("mutated", bytes));
    match decoded {
        _ if num_bytes > MAX_BYTES => Err(format!("took {num_bytes} bytes")),
        Ok(picture) if picture.rgb().len() != 3 * picture.width() * picture.height() => Err(format!("{picture:?}")),
        Err(error) if error.to_string().contains("panicked") => Err(error.to_string()),
        decoded => Ok(decoded.is_ok()),
    }
}

#[test]
fn mutated_pictures_are_pictures_or_errors() {
    let seeds = seeds();
    for (index, seed) in seeds.iter().flatten().enumerate() {
        assert_eq!(check(seed), Ok(true), "seed {index}");
    }
    let numbers = numbers("STTABT_FUZZ_PICTURES");
    let (mut num_pictures, mut failures) = (0, Vec::new());
    for number in numbers.clone() {
        if number % 10_000 == 0 {
            println!("from {number}");
        }
        match check(&input(number, &seeds)) {
            Ok(is_picture) => num_pictures += u64::from(is_picture),
            Err(failure) => failures.push(format!("input {number}: {failure}")),
        }
    }
    println!("{num_pictures} of {} are pictures", numbers.end - numbers.start);
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    // Mutations that break every file would test no decoder.
    let num_inputs = numbers.end - numbers.start;
    assert!(num_inputs < 1_000 || num_pictures * 10 > num_inputs, "{num_pictures} pictures");
}

/// What mutations found: decoders that panicked, or allocated what a file of some hundred bytes promised.
#[test]
fn inputs_that_once_failed_are_errors() {
    let cases = [
        ("palette-of-64-bytes.png", "broken PNG image: a palette of 64 bytes, expected 3 for each colour"),
        (
            "metadata-of-2-gigabytes.webp",
            "broken WebP image: metadata of 2139029530 bytes, which the file does not have",
        ),
    ];
    for (name, expected) in cases {
        let bytes = read(&fixture("pictures/broken").join(name));
        assert_eq!(check(&bytes), Ok(false), "{name}");
        let error = Picture::decode(name, &bytes).expect_err(expected);
        assert_eq!(error.to_string(), format!("{name}: {expected}"));
    }
}
