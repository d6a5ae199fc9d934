//! From the bytes of a file to RGB: which format it is, its size before its pixels, its orientation.

use std::io::{Cursor, ErrorKind};
use std::panic::{UnwindSafe, catch_unwind};

use image::codecs::png::PngDecoder;
use image::codecs::webp::WebPDecoder;
use image::metadata::Orientation;
use image::{ImageDecoder, ImageError, Limits};

use super::Picture;
use super::bmp::decode as bmp;
use super::file::{check_size, orientation, oriented};
use super::gif::decode as gif;
#[cfg(feature = "jpeg")]
use super::jpeg::decode as jpeg;
use crate::models::download::what_it_is;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";
const JPEG: &[u8] = b"\xff\xd8\xff";
const GIF: [&[u8]; 2] = [b"GIF87a", b"GIF89a"];
const BMP: &[u8] = b"BM";
const SUPPORTED: &str = if cfg!(feature = "jpeg") { "PNG, JPEG, WebP, GIF, BMP" } else { "PNG, WebP, GIF, BMP" };

/// The reason is the error.
pub(super) fn decode(bytes: &[u8]) -> Result<Picture, String> {
    if bytes.starts_with(PNG) {
        caught("PNG", || png(bytes))
    } else if bytes.starts_with(JPEG) {
        caught("JPEG", || jpeg(bytes))
    } else if is_riff(bytes) {
        caught("WebP", || webp(bytes))
    } else if GIF.iter().any(|start| bytes.starts_with(start)) {
        gif(bytes)
    } else if bytes.starts_with(BMP) {
        bmp(bytes)
    } else if bytes.is_empty() {
        Err("the file is empty".to_owned())
    } else {
        Err(match unsupported_format(bytes) {
            Some(format) => format!("{format} images are not supported; supported: {SUPPORTED}"),
            None => what_it_is(bytes).unwrap_or_else(|| "not a PNG, JPEG, WebP, GIF or BMP image".to_owned()),
        })
    }
}

/// What a decoder returns. A panic inside it is an error, if panics unwind in this build and on this target.
fn caught(format: &str, decode: impl FnOnce() -> Result<Picture, String> + UnwindSafe) -> Result<Picture, String> {
    catch_unwind(decode).unwrap_or_else(|panic| {
        let message = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(format!("broken {format} image: its decoder panicked: {}", message.unwrap_or("it did not say why")))
    })
}

#[cfg(not(feature = "jpeg"))]
fn jpeg(_bytes: &[u8]) -> Result<Picture, String> {
    Err(format!("JPEG images are not supported in a build without the feature `jpeg`; supported: {SUPPORTED}"))
}

/// The name of a format that people may well try.
fn unsupported_format(bytes: &[u8]) -> Option<&'static str> {
    let brand = bytes.get(4..12).and_then(|box_type| box_type.strip_prefix(b"ftyp"));
    let start = bytes.get(..1024).unwrap_or(bytes);
    let is_markup = start.trim_ascii_start().strip_prefix(b"\xef\xbb\xbf").unwrap_or(start.trim_ascii_start());
    match brand {
        Some(b"avif" | b"avis") => return Some("AVIF"),
        Some(b"heic" | b"heix" | b"hevc" | b"mif1" | b"msf1") => return Some("HEIF"),
        _ => {}
    }
    let svg = is_markup.starts_with(b"<") && start.windows(4).any(|window| window == b"<svg");
    let prefixes: [(&[u8], &str); 4] =
        [(b"II*\0", "TIFF"), (b"MM\0*", "TIFF"), (b"\xff\x0a", "JPEG XL"), (b"\0\0\0\x0cJXL ", "JPEG XL")];
    let prefix = prefixes.iter().find(|(prefix, _)| bytes.starts_with(prefix));
    if svg { Some("SVG") } else { prefix.map(|&(_, format)| format) }
}

fn png(bytes: &[u8]) -> Result<Picture, String> {
    // The header chunk is always the first: 8 bytes of signature, length, "IHDR", width, height.
    let side = |at: usize| {
        let side = bytes.get(at..at + 4).and_then(|side| side.try_into().ok()).map(u32::from_be_bytes);
        side.map(u64::from).ok_or_else(|| "truncated PNG image".to_owned())
    };
    check_size(side(16)?, side(20)?)?;
    check_palette(&bytes[PNG.len()..])?;
    let mut limits = Limits::no_limits();
    limits.max_alloc = Some(8 * Picture::MAX_PIXELS as u64);
    let decoder = PngDecoder::with_limits(Cursor::new(bytes), limits).map_err(|error| reason("PNG", &error))?;
    pixels("PNG", decoder)
}

/// Three bytes a colour: the decoder reads past the end of another palette, and panics.
fn check_palette(mut chunks: &[u8]) -> Result<(), String> {
    while let Some((&[a, b, c, d, ref kind @ ..], rest)) = chunks.split_first_chunk::<8>() {
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if kind == b"PLTE" && !length.is_multiple_of(3) {
            return Err(format!("broken PNG image: a palette of {length} bytes, expected 3 for each colour"));
        }
        chunks = rest.get(length.saturating_add(4)..).unwrap_or_default();
    }
    Ok(())
}

fn is_riff(bytes: &[u8]) -> bool {
    bytes.starts_with(b"RIFF") && bytes.get(8..12).is_none_or(|kind| kind == b"WEBP")
}

fn webp(bytes: &[u8]) -> Result<Picture, String> {
    let length = bytes.get(4..8).and_then(|length| length.try_into().ok()).map(u32::from_le_bytes);
    if bytes.len() < 12 || length.is_none_or(|length| (bytes.len() as u64) < u64::from(length) + 8) {
        return Err("truncated WebP image".to_owned());
    }
    check_frames(&bytes[12..], true)?;
    let decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(|error| reason("WebP", &error))?;
    pixels("WebP", decoder)
}

/// The bitstreams' own sizes, in `chunks` and in the animation's frames: the container's header may promise less. And metadata's, which the
/// decoder allocates before it reads them.
fn check_frames(mut chunks: &[u8], is_outermost: bool) -> Result<(), String> {
    while let Some((&[a, b, c, d, size @ ..], rest)) = chunks.split_first_chunk::<8>() {
        let size = u32::from_le_bytes(size) as usize;
        let body = rest.get(..size).unwrap_or(rest);
        match (&[a, b, c, d], body) {
            (b"VP8 ", &[_, _, _, _, _, _, width_low, width_high, height_low, height_high, ..]) => {
                let side = |low, high| u64::from(u16::from_le_bytes([low, high]) & 0x3fff);
                check_size(side(width_low, width_high), side(height_low, height_high))?;
            }
            (b"VP8L", &[_, first, second, third, fourth, ..]) => {
                let sides = u32::from_le_bytes([first, second, third, fourth]);
                check_size(u64::from(sides & 0x3fff) + 1, u64::from((sides >> 14) & 0x3fff) + 1)?;
            }
            (b"EXIF" | b"XMP ", metadata) if metadata.len() < size => {
                return Err(format!("broken WebP image: metadata of {size} bytes, which the file does not have"));
            }
            (b"ANMF", frame) if is_outermost => check_frames(frame.get(16..).unwrap_or_default(), false)?,
            _ => {}
        }
        chunks = rest.get(size.saturating_add(size % 2)..).unwrap_or_default();
    }
    Ok(())
}

fn pixels(format: &str, mut decoder: impl ImageDecoder) -> Result<Picture, String> {
    let (width, height) = decoder.dimensions();
    check_size(u64::from(width), u64::from(height))?;
    // Metadata that cannot be read does not make the picture unreadable.
    let exif = decoder.exif_metadata().ok().flatten();
    let xmp = decoder.xmp_metadata().ok().flatten();
    let orientation = orientation(exif.as_deref(), xmp.as_deref()).unwrap_or(Orientation::NoTransforms);
    let color = decoder.color_type();
    let num_channels = usize::from(color.channel_count());
    let pixel_bytes = usize::from(color.bytes_per_pixel());
    let mut pixels = vec![0; width as usize * height as usize * pixel_bytes];
    decoder.read_image(&mut pixels).map_err(|error| reason(format, &error))?;
    let channels = if num_channels < 3 { [0, 0, 0] } else { [0, 1, 2] };
    let rgb = match (num_channels, pixel_bytes) {
        (3, 3) => pixels,
        _ if pixel_bytes == num_channels => {
            pixels.chunks_exact(pixel_bytes).flat_map(|pixel| channels.map(|channel| pixel[channel])).collect()
        }
        _ => {
            let high = |pixel: &[u8], channel: usize| {
                (u16::from_ne_bytes([pixel[2 * channel], pixel[2 * channel + 1]]) >> 8) as u8
            };
            pixels.chunks_exact(pixel_bytes).flat_map(|pixel| channels.map(|channel| high(pixel, channel))).collect()
        }
    };
    oriented(width as usize, height as usize, rgb, orientation)
}

fn reason(format: &str, error: &ImageError) -> String {
    match error {
        ImageError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => format!("truncated {format} image"),
        error => format!("broken {format} image: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panicking_decoder_is_an_error() {
        for (panic, why) in [
            ((|| panic!("index {} of 3", 5)) as fn() -> _, "index 5 of 3"),
            (|| panic!("no table"), "no table"),
            (|| std::panic::panic_any(7), "it did not say why"),
        ] {
            let expected = format!("broken JPEG image: its decoder panicked: {why}");
            assert_eq!(caught("JPEG", panic), Err(expected));
        }
    }

    #[cfg(not(feature = "jpeg"))]
    #[test]
    fn a_build_without_jpeg_names_the_feature() {
        let error = |bytes: &[u8]| Picture::decode("cat", bytes).expect_err("an error").to_string();
        let expected =
            "JPEG images are not supported in a build without the feature `jpeg`; supported: PNG, WebP, GIF, BMP";
        assert_eq!(error(b"\xff\xd8\xff\xe0"), format!("cat: {expected}"));
        assert_eq!(error(b"II*\0"), "cat: TIFF images are not supported; supported: PNG, WebP, GIF, BMP");
    }
}
