//! JPEG as Pillow's libjpeg-turbo decodes it, bit for bit. Alone knows the crate that does so.
//!
//! That crate promises no memory safety. What it is known to get wrong is refused here before it sees it, and `tests/fuzz_pictures.rs` looks for
//! more.

use image::metadata::Orientation;
use libjpeg_turbo_rs::{ComponentInfo, DecodeLimits, Decoder, JpegError, PixelFormat};

use super::Picture;
use super::file::{check_size, orientation, oriented};

/// Far above any encoder's script; a file of thousands of scans costs minutes.
const MAX_SCANS: usize = 500;

pub(super) fn decode(bytes: &[u8]) -> Result<Picture, String> {
    // Sizes are checked below, where the message has the limit.
    let limits = DecodeLimits {
        max_width: usize::from(u16::MAX),
        max_height: usize::from(u16::MAX),
        max_pixels: u64::MAX,
        max_scans: MAX_SCANS,
        max_memory: None,
    };
    let markers = markers(bytes);
    // Something may stand where the end should be: one scan is whole if nothing of that is needed.
    let bytes = match bytes {
        [whole @ .., _, _] if !markers.has_end && markers.is_one_scan => whole,
        _ if markers.has_end => bytes,
        _ => return Err(reason(JpegError::UnexpectedEof)),
    };
    let mut decoder = Decoder::new_with_limits(bytes, limits).map_err(reason)?;
    let header = decoder.header();
    let (width, height) = (usize::from(header.width), usize::from(header.height));
    check_size(width as u64, height as u64)?;
    let is_cmyk = header.components.len() == 4;
    if is_cmyk && !has_plain_sampling(&header.components) {
        return Err(reason(JpegError::Unsupported("the subsampling of a CMYK image".to_owned())));
    }
    let orientation = orientation(decoder.exif_data(), decoder.xmp_data());
    decoder.set_output_format(if is_cmyk { PixelFormat::Cmyk } else { PixelFormat::Rgb });
    let pixels = decoder.decode_image().map_err(reason)?.data;
    let rgb = if is_cmyk { rgb_of_cmyk(&pixels) } else { pixels };
    oriented(width, height, rgb, orientation.unwrap_or(Orientation::NoTransforms))
}

/// Whether the first and last of four planes are whole and the others are alike; the decoder indexes them as if they were.
fn has_plain_sampling(components: &[ComponentInfo]) -> bool {
    let sampling: Vec<[u8; 2]> =
        components.iter().map(|plane| [plane.horizontal_sampling, plane.vertical_sampling]).collect();
    sampling[0] == sampling[3]
        && sampling[1] == sampling[2]
        && sampling[0].iter().zip(sampling[1]).all(|(&whole, part)| part > 0 && whole % part == 0)
}

/// Where the file goes on.
#[derive(Default)]
struct Markers {
    /// Whether "end of image" is there; without it lines, or scans that sharpen the picture, may be missing.
    has_end: bool,
    /// Whether one scan of baseline coding has it all.
    is_one_scan: bool,
}

fn markers(bytes: &[u8]) -> Markers {
    let mut markers = Markers::default();
    let mut num_planes = None;
    let mut rest = bytes.get(2..).unwrap_or_default();
    // Between segments, and inside entropy-coded data, the next marker is the next 0xFF that no 0 or 0xFF follows.
    while let Some(position) = rest.iter().position(|&byte| byte == 0xff) {
        rest = &rest[position + 1..];
        match rest.first() {
            None => break,
            Some(0xd9) => return Markers { has_end: true, ..markers },
            Some(0xff) => {}
            Some(0x00 | 0x01 | 0xd0..=0xd8) => rest = &rest[1..],
            Some(&marker) => {
                let Some(&[_, high, low]) = rest.get(..3) else { break };
                match marker {
                    // Baseline and extended sequential coding.
                    0xc0 | 0xc1 => num_planes = rest.get(8),
                    0xda => markers.is_one_scan = num_planes.is_some() && num_planes == rest.get(3),
                    _ => {}
                }
                let length = usize::from(u16::from_be_bytes([high, low]));
                rest = rest.get(1 + length..).unwrap_or_default();
            }
        }
    }
    markers
}

/// Pillow's conversion. JPEG stores ink inverted (Adobe's habit): 255 is no ink.
fn rgb_of_cmyk(pixels: &[u8]) -> Vec<u8> {
    let channel = |ink: u8, black: u8| {
        let product = u32::from(255 - ink) * u32::from(black) + 128;
        black.saturating_sub((((product >> 8) + product) >> 8) as u8)
    };
    pixels.as_chunks().0.iter().flat_map(|&[c, m, y, k]| [channel(c, k), channel(m, k), channel(y, k)]).collect()
}

fn reason(error: JpegError) -> String {
    match error {
        JpegError::UnexpectedEof => "truncated JPEG image".to_owned(),
        JpegError::Unsupported(what) => format!("JPEG image with an unsupported feature: {what}"),
        other => format!("broken JPEG image: {other}"),
    }
}
