//! A picture in memory, and the one place that knows whether this build can decode files.

#[cfg(feature = "image")]
mod bmp;
#[cfg(feature = "image")]
mod decode;
#[cfg(feature = "image")]
mod file;
#[cfg(feature = "image")]
mod gif;
#[cfg(feature = "jpeg")]
mod jpeg;
mod resize;

use crate::error::{Error, Result};

/// An RGB picture, 8 bits a channel.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    width: usize,
    height: usize,
    rgb: Vec<u8>,
}

/// How pixels are weighted when a picture is resized: Pillow's filters, which Hugging Face names by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filter {
    Nearest,
    Lanczos,
    Bilinear,
    Bicubic,
    Box,
    Hamming,
}

/// Where the middle begins when it cannot be in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Middle {
    /// Hugging Face's: rounded down.
    Floor,
    /// torchvision's: Python's `round`, half to even.
    Round,
}

impl Picture {
    /// The most pixels that a picture may have, decoded or resized: 64 Mi.
    ///
    /// A larger one is refused before its pixels are allocated: a file of a few bytes can promise gigabytes.
    pub const MAX_PIXELS: usize = 1 << 26;

    /// A picture of `rgb`, `[height, width, 3]`.
    ///
    /// # Errors
    /// [`Error::Shape`] if a side is zero, if there are more than [`Self::MAX_PIXELS`], or if `rgb` has another length.
    pub fn from_rgb(width: usize, height: usize, rgb: Vec<u8>) -> Result<Self> {
        let error = |argument, found, expected| Error::Shape { kernel: "picture", argument, found, expected };
        let num_pixels = width.checked_mul(height).filter(|num_pixels| (1..=Self::MAX_PIXELS).contains(num_pixels));
        let Some(num_pixels) = num_pixels else {
            let expected = format!("1 to {} pixels", Self::MAX_PIXELS);
            return Err(error("width × height", format!("{width} × {height}"), expected));
        };
        if rgb.len() != num_pixels * 3 {
            let expected = format!("{} ({height} × {width} × 3)", num_pixels * 3);
            return Err(error("rgb", format!("{} bytes", rgb.len()), expected));
        }
        Ok(Self { width, height, rgb })
    }

    /// Decodes a PNG, JPEG, WebP, GIF or BMP file as Hugging Face's image pipeline does. With Pillow that is
    /// `ImageOps.exif_transpose(Image.open(file)).convert("RGB")`. `name` is for messages alone.
    ///
    /// The orientation of EXIF (else of XMP) is applied. Alpha is dropped, not blended. Colour profiles are ignored,
    /// and an animation gives its first frame. 16-bit channels give their high byte. For 16-bit greyscale alone
    /// Pillow would clip at 255 instead, which makes nearly every such picture white.
    ///
    /// # Errors
    /// [`Error::File`] for another format, a broken file, or more than [`Self::MAX_PIXELS`] pixels. Also for a JPEG
    /// in a build without the feature `jpeg`. A decoder that panics is such an error too, where panics unwind.
    #[cfg(feature = "image")]
    pub fn decode(name: &str, bytes: &[u8]) -> Result<Self> {
        decode::decode(bytes).map_err(|reason| Error::File { file: name.to_owned(), reason })
    }

    /// Pixels in a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// The pixels, `[height, width, 3]`.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// The picture at another size; the reason if that cannot be.
    pub(super) fn resized(&self, [height, width]: [usize; 2], filter: Filter) -> Result<Self, String> {
        if [self.height, self.width] == [height, width] {
            return Ok(self.clone());
        }
        if width == 0 || height == 0 {
            let size = format!("{} × {} pixels to {width} × {height}", self.width, self.height);
            return Err(format!("resizing {size} leaves nothing of it"));
        }
        // Where the convolution resizes rows first, the picture between the two steps must fit as well.
        let rows = if resize::columns_first(self, height) { height } else { self.height.max(height) };
        if width.checked_mul(rows).is_none_or(|num_pixels| num_pixels > Self::MAX_PIXELS) {
            return Err(format!(
                "resizing {} × {} pixels to {width} × {height} needs more than {} pixels",
                self.width,
                self.height,
                Self::MAX_PIXELS
            ));
        }
        Ok(resize::resize(self, width, height, filter))
    }

    /// The middle of the picture, black where it is too small: `center_crop` of Hugging Face's `image_transforms`, or torchvision's.
    pub(super) fn center_cropped(&self, [height, width]: [usize; 2], middle: Middle) -> Self {
        let mut rgb = vec![0; width * height * 3];
        // Odd differences: a crop drops the extra row below, padding adds it above.
        let place = |from: usize, to: usize| {
            let surplus = from.saturating_sub(to);
            let start = match middle {
                Middle::Round if surplus % 4 == 3 => surplus / 2 + 1,
                _ => surplus / 2,
            };
            (start, to.saturating_sub(from).div_ceil(2))
        };
        let (source_x, x) = place(self.width, width);
        let (source_y, y) = place(self.height, height);
        let row = 3 * self.width.min(width);
        for step in 0..self.height.min(height) {
            let source = 3 * ((source_y + step) * self.width + source_x);
            let target = 3 * ((y + step) * width + x);
            rgb[target..target + row].copy_from_slice(&self.rgb[source..source + row]);
        }
        Self { width, height, rgb }
    }
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Picture({} × {})", self.width, self.height)
    }
}
