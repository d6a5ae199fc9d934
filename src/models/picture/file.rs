//! What all formats of files have: a size that may be a lie, and an orientation.

use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};

use super::Picture;

/// Refuses a size that the header promises, before anything is allocated for it.
pub(super) fn check_size(width: u64, height: u64) -> Result<(), String> {
    let num_pixels = width.saturating_mul(height);
    if num_pixels == 0 {
        return Err(format!("the image has no pixels: {width} × {height}"));
    }
    if num_pixels > Picture::MAX_PIXELS as u64 {
        return Err(format!("{width} × {height} = {num_pixels} pixels; the limit is {}", Picture::MAX_PIXELS));
    }
    Ok(())
}

/// The orientation that EXIF names, else XMP.
pub(super) fn orientation(exif: Option<&[u8]>, xmp: Option<&[u8]>) -> Option<Orientation> {
    let exif = exif.map(|exif| exif.strip_prefix(b"Exif\0\0").unwrap_or(exif));
    exif.and_then(Orientation::from_exif_chunk).or_else(|| {
        let xmp = xmp?;
        let tag = b"tiff:Orientation";
        let at = xmp.windows(tag.len()).position(|window| window == tag)?;
        let value = &xmp[at + tag.len()..];
        let value = value.strip_prefix(b"=\"").or_else(|| value.strip_prefix(b">"))?;
        Orientation::from_exif(value.first()?.checked_sub(b'0')?)
    })
}

/// Turns the picture upright.
pub(super) fn oriented(width: usize, height: usize, rgb: Vec<u8>, orientation: Orientation) -> Result<Picture, String> {
    // The sides came from 32-bit numbers.
    let image = RgbImage::from_raw(width as u32, height as u32, rgb).ok_or("fewer pixels than the header promises")?;
    let mut image = DynamicImage::ImageRgb8(image);
    image.apply_orientation(orientation);
    let image = image.into_rgb8();
    Ok(Picture { width: image.width() as usize, height: image.height() as usize, rgb: image.into_raw() })
}

/// Reads a file from front to back.
pub(super) struct Reader<'a> {
    /// In messages.
    pub format: &'static str,
    /// What is still to be read.
    pub bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    pub fn take(&mut self, num_bytes: usize) -> Result<&'a [u8], String> {
        let (taken, rest) =
            self.bytes.split_at_checked(num_bytes).ok_or_else(|| format!("truncated {} image", self.format))?;
        self.bytes = rest;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// Both formats that are read so are little-endian.
    pub fn u16(&mut self) -> Result<u16, String> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }
}

/// The colours of indices.
pub(super) fn from_palette(indices: &[u8], palette: &[[u8; 3]; 256]) -> Vec<u8> {
    indices.iter().flat_map(|&index| palette[usize::from(index)]).collect()
}
