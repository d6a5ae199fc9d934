//! The paper's figure: an image, and one panel per layer with removed patches darkened and the kept region outlined.

use std::path::Path;

use image::{ImageFormat, Rgb, RgbImage};
use sttabt::{Classification, Config, InputConfig, Picture};

use super::{Failure, Result};

/// Pixels between panels and around them.
const MARGIN: u32 = 6;
const BACKGROUND: Rgb<u8> = Rgb([255, 255, 255]);
/// An orange that people with any colour vision tell from most photographs.
const OUTLINE: Rgb<u8> = Rgb([255, 176, 0]);
/// Pixels of a figure at most, 3 bytes each.
const MAX_PIXELS: usize = 1 << 28;
/// What is left of a removed patch's brightness, in 256ths.
const DARKENED: u16 = 64;

/// Refuses, before anything is computed, a picture that could not be written.
pub fn check(path: &Path, num_images: usize, config: &Config) -> Result<()> {
    let is_png = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png"));
    if !is_png {
        return Err(Failure::Usage(format!("--save writes a PNG: {} does not end in .png", path.display())));
    }
    let InputConfig::Image(image) = &config.input else { return Ok(()) };
    let panel = image.image_size.iter().map(|&size| size + MARGIN as usize).product::<usize>();
    let max_images = MAX_PIXELS / (panel * (config.num_hidden_layers + 1));
    if num_images > max_images {
        let message = format!(
            "--save draws up to {max_images} images of this model into one picture, and there are {num_images}"
        );
        return Err(Failure::Usage(message));
    }
    Ok(())
}

/// Draws the panels of each image: the image as the model sees it, then K_0 to K_{L−1}. One image fills two rows, several have a row
/// each.
pub fn draw(images: &[(&Picture, &Classification)]) -> Option<RgbImage> {
    let (first, result) = images.first()?;
    let (width, height) = (first.width() as u32, first.height() as u32);
    let num_panels = result.kept.len();
    let per_row = if images.len() == 1 { num_panels.div_ceil(2) } else { num_panels };
    let num_rows = (images.len() * num_panels).div_ceil(per_row) as u32;
    let size = (MARGIN + per_row as u32 * (width + MARGIN), MARGIN + num_rows * (height + MARGIN));
    let mut canvas = RgbImage::from_pixel(size.0, size.1, BACKGROUND);
    for (index, (picture, result)) in images.iter().enumerate() {
        let image = RgbImage::from_raw(width, height, picture.rgb().to_vec())?;
        let (grid, first) = (result.grid?, result.num_prefix_tokens? as u32);
        let layers = result.kept[..result.kept.len() - 1].iter().map(|kept| panel(&image, grid, first, kept));
        for (place, panel) in std::iter::once(image.clone()).chain(layers).enumerate() {
            let place = index * num_panels + place;
            let at = |step: usize, size: u32| i64::from(MARGIN) + step as i64 * i64::from(size + MARGIN);
            image::imageops::replace(&mut canvas, &panel, at(place % per_row, width), at(place / per_row, height));
        }
    }
    Some(canvas)
}

/// One layer's panel; `kept` are token positions, patches from `first` on.
fn panel(image: &RgbImage, [grid_height, grid_width]: [usize; 2], first: u32, kept: &[u32]) -> RgbImage {
    let (patch_width, patch_height) = (image.width() / grid_width as u32, image.height() / grid_height as u32);
    let is_kept = |row: i64, column: i64| {
        let inside = (0..grid_height as i64).contains(&row) && (0..grid_width as i64).contains(&column);
        inside && kept.binary_search(&(first + row as u32 * grid_width as u32 + column as u32)).is_ok()
    };
    // A line of one pixel on small patches, two on the usual 16.
    let line = (patch_width.min(patch_height) / 8).max(1);
    let mut panel = image.clone();
    for (x, y, pixel) in panel.enumerate_pixels_mut() {
        let (row, column) = (i64::from(y / patch_height), i64::from(x / patch_width));
        let (dx, dy) = (x % patch_width, y % patch_height);
        if !is_kept(row, column) {
            pixel.0 = pixel.0.map(|value| (u16::from(value) * DARKENED / 256) as u8);
        } else if (dx < line && !is_kept(row, column - 1))
            || (dx >= patch_width - line && !is_kept(row, column + 1))
            || (dy < line && !is_kept(row - 1, column))
            || (dy >= patch_height - line && !is_kept(row + 1, column))
        {
            *pixel = OUTLINE;
        }
    }
    panel
}

/// Writes a PNG: beside its place first, so that a failure leaves nothing half-written.
pub fn save(figure: &RgbImage, path: &Path) -> Result<()> {
    let failed = |error: &dyn std::fmt::Display| Failure::Error(format!("cannot write {}: {error}", path.display()));
    let mut bytes = std::io::Cursor::new(Vec::new());
    figure.write_to(&mut bytes, ImageFormat::Png).map_err(|error| failed(&error))?;
    let beside = path.with_extension(format!("{}.partial", std::process::id()));
    let written = std::fs::write(&beside, bytes.into_inner()).and_then(|()| std::fs::rename(&beside, path));
    written.map_err(|error| {
        // Nothing to do if it is not there.
        let _ = std::fs::remove_file(&beside);
        failed(&error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Patches of 8 pixels, two by two; the upper left one is kept.
    #[test]
    fn removed_patches_are_dark_and_the_kept_region_has_a_border() {
        let image = RgbImage::from_pixel(16, 16, Rgb([200, 100, 40]));
        let panel = panel(&image, [2, 2], 1, &[0, 1]);
        assert_eq!(*panel.get_pixel(3, 3), Rgb([200, 100, 40]), "inside");
        assert_eq!(*panel.get_pixel(7, 3), OUTLINE, "its right border");
        assert_eq!(*panel.get_pixel(3, 7), OUTLINE, "its lower border");
        assert_eq!(*panel.get_pixel(8, 3), Rgb([50, 25, 10]), "a removed neighbour");
        assert_eq!(*panel.get_pixel(15, 15), Rgb([50, 25, 10]), "the far corner");
    }
}
