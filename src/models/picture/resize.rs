//! Resizing as Pillow does it: a convolution over all pixels under the filter (no aliasing), rows then columns, rounded to
//! 8 bits after each.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::{Filter, Picture};

pub(super) fn resize(picture: &Picture, width: usize, height: usize, filter: Filter) -> Result<Picture, String> {
    let algorithm = match filter {
        Filter::Nearest => ResizeAlg::Nearest,
        Filter::Lanczos => ResizeAlg::Convolution(FilterType::Lanczos3),
        Filter::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
        Filter::Bicubic => ResizeAlg::Convolution(FilterType::CatmullRom),
        Filter::Box => ResizeAlg::Convolution(FilterType::Box),
        Filter::Hamming => ResizeAlg::Convolution(FilterType::Hamming),
    };
    // At most `MAX_PIXELS` a side.
    let [from_width, from_height, to_width, to_height] =
        [picture.width, picture.height, width, height].map(|side| side as u32);
    let source = ImageRef::new(from_width, from_height, &picture.rgb, PixelType::U8x3);
    let source = source.map_err(|error| error.to_string())?;
    let mut target = Image::new(to_width, to_height, PixelType::U8x3);
    let options = ResizeOptions::new().resize_alg(algorithm);
    Resizer::new().resize(&source, &mut target, &options).map_err(|error| error.to_string())?;
    Ok(Picture { width, height, rgb: target.into_vec() })
}
