//! `preprocessor_config.json`: from a picture to the numbers that an image model reads.

use serde_json::{Map, Value};

use super::fields::{Fields, json_object};
use super::picture::{Filter, Picture};
use crate::error::{Error, Result};

const FILE: &str = "preprocessor_config.json";
/// The longest side that a configuration may ask for.
const MAX_SIDE: usize = 1 << 14;

/// How an image model wants its pictures: Hugging Face's `ViTImageProcessor`, `DeiTImageProcessor` and their older and
/// "fast" names.
///
/// The steps, in this order: resize, crop the middle, rescale, normalize.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocessor {
    /// Height and width that the model takes.
    image_size: [usize; 2],
    resize: Option<(Resize, Filter)>,
    center_crop: Option<[usize; 2]>,
    rescale_factor: Option<f64>,
    normalize: Option<Normalize>,
    is_default: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Resize {
    To([usize; 2]),
    ShortestEdge(usize),
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Normalize {
    mean: [f32; 3],
    std: [f32; 3],
}

impl Preprocessor {
    /// Reads `preprocessor_config.json` for a model that takes pictures of `image_size`, height and width.
    ///
    /// Keys that are absent have the defaults of the class that the file names, `ViTImageProcessor` if it names none; its
    /// `size` is then `image_size`. `None`, no file, is all of these defaults: a bilinear resize to `image_size`, without
    /// regard to the aspect ratio, then mean and standard deviation 0.5. See [`Self::is_default`].
    ///
    /// # Errors
    /// [`Error::File`] if it is not a JSON object; [`Error::Config`] names a key of a wrong type, out of range, or that gives
    /// another size than `image_size`; [`Error::Unsupported`] names a class or filter that is not computed here.
    pub fn from_json(json: Option<&[u8]>, image_size: [usize; 2]) -> Result<Self> {
        let object = json.map_or(Ok(Map::new()), |json| json_object(FILE, json))?;
        let fields = Fields { file: FILE, path: "", object: &object };
        let is_deit = is_deit(&fields)?;
        let default_size = if is_deit { [256; 2] } else { image_size };
        let default_crop = if is_deit { [224; 2] } else { image_size };
        let default_filter = if is_deit { Filter::Bicubic } else { Filter::Bilinear };
        let (resize, filter) = (resize(&fields, default_size)?, filter(&fields, default_filter)?);
        let crop_size = match side_or_sides(&fields, "crop_size", &[["height", "width"].as_slice()])?.as_deref() {
            Some(&[height, width]) => [height, width],
            _ => default_crop,
        };
        let rescale_factor = fields.number("rescale_factor", 1.0 / 255.0, 1e-12..=1e12)?;
        let normalize = Normalize {
            mean: three(&fields, "image_mean", "3 finite numbers", |mean| mean.is_finite())?,
            std: three(&fields, "image_std", "3 finite numbers above 0", |std| std.is_finite() && std > 0.0)?,
        };
        let preprocessor = Self {
            image_size,
            resize: flag(&fields, "do_resize", true)?.then_some((resize, filter)),
            center_crop: flag(&fields, "do_center_crop", is_deit)?.then_some(crop_size),
            rescale_factor: flag(&fields, "do_rescale", true)?.then_some(rescale_factor),
            normalize: flag(&fields, "do_normalize", true)?.then_some(normalize),
            is_default: json.is_none(),
        };
        preprocessor.check_size(&fields)?;
        Ok(preprocessor)
    }

    /// Whatever the picture is, the model's size must come out.
    fn check_size(&self, fields: &Fields<'_>) -> Result<()> {
        let expected = format!("{:?}, the model's image size", self.image_size);
        match (self.center_crop, self.resize) {
            (Some(size), _) if size != self.image_size => {
                Err(fields.error("crop_size", format!("{size:?}"), &expected))
            }
            (None, Some((Resize::To(size), _))) if size != self.image_size => {
                Err(fields.error("size", format!("{size:?}"), &expected))
            }
            (None, Some((Resize::ShortestEdge(side), _))) => {
                let found = format!("a shortest edge of {side} without `do_center_crop`");
                Err(fields.error("size", found, &expected))
            }
            _ => Ok(()),
        }
    }

    /// Whether there was no file, so that these are Hugging Face's defaults and not the model's own choice.
    pub fn is_default(&self) -> bool {
        self.is_default
    }

    /// The picture that the model sees: resized and cropped, `image_size` large.
    ///
    /// # Errors
    /// [`Error::Input`] with index 0: resizing would need more than [`Picture::MAX_PIXELS`], or nothing resizes a picture that
    /// has not the right size.
    pub fn resized(&self, picture: &Picture) -> Result<Picture> {
        let error = |reason| Error::Input { index: 0, reason };
        let size = [picture.height(), picture.width()];
        let mut resized = match self.resize {
            Some((resize, filter)) => picture.resized(resize.size(size), filter).map_err(error)?,
            None => picture.clone(),
        };
        if let Some(size) = self.center_crop {
            resized = resized.center_cropped(size);
        }
        let size = [resized.height(), resized.width()];
        if size != self.image_size {
            let expected = self.image_size;
            return Err(error(format!("the picture is {size:?}, the model takes {expected:?} and nothing resizes it")));
        }
        Ok(resized)
    }

    /// The model's input, `[3, height, width]`: each channel of [`Self::resized`] times `rescale_factor`, less the mean, by
    /// the standard deviation.
    ///
    /// # Errors
    /// Those of [`Self::resized`].
    pub fn pixel_values(&self, picture: &Picture) -> Result<Vec<f32>> {
        let resized = self.resized(picture)?;
        let mut pixel_values = Vec::with_capacity(resized.rgb().len());
        for (channel, values) in self.channel_values().iter().enumerate() {
            pixel_values.extend(resized.rgb()[channel..].iter().step_by(3).map(|&value| values[usize::from(value)]));
        }
        Ok(pixel_values)
    }

    /// What each of the 256 values of a channel becomes.
    pub(super) fn channel_values(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|channel| std::array::from_fn(|value| self.pixel_value(value, channel)))
    }

    fn pixel_value(&self, value: usize, channel: usize) -> f32 {
        // Hugging Face rescales in f64 and normalizes in f32.
        let rescaled = (value as f64 * self.rescale_factor.unwrap_or(1.0)) as f32;
        self.normalize.map_or(rescaled, |Normalize { mean, std }| (rescaled - mean[channel]) / std[channel])
    }
}

impl Resize {
    /// The new size of a picture of `size`; `get_resize_output_image_size` of Hugging Face's `image_transforms`.
    fn size(self, size: [usize; 2]) -> [usize; 2] {
        match self {
            Self::To(size) => size,
            Self::ShortestEdge(edge) => {
                let shortest = size[0].min(size[1]) as u64;
                // 64 bits: also where `usize` has 32.
                size.map(|side| usize::try_from(edge as u64 * side as u64 / shortest).unwrap_or(usize::MAX))
            }
        }
    }
}

fn is_deit(fields: &Fields<'_>) -> Result<bool> {
    let name = fields.text("image_processor_type")?.or(fields.text("feature_extractor_type")?);
    match name {
        None | Some("ViTImageProcessor" | "ViTImageProcessorFast" | "ViTFeatureExtractor") => Ok(false),
        Some("DeiTImageProcessor" | "DeiTImageProcessorFast" | "DeiTFeatureExtractor") => Ok(true),
        Some(other) => Err(Error::Unsupported {
            what: "image processor",
            found: other.to_owned(),
            supported: "ViTImageProcessor, DeiTImageProcessor",
        }),
    }
}

fn resize(fields: &Fields<'_>, default: [usize; 2]) -> Result<Resize> {
    let keys = [["shortest_edge"].as_slice(), ["height", "width"].as_slice()];
    Ok(match side_or_sides(fields, "size", &keys)?.as_deref() {
        Some(&[edge]) => Resize::ShortestEdge(edge),
        Some(&[height, width]) => Resize::To([height, width]),
        _ => Resize::To(default),
    })
}

/// `size` and `crop_size`: one number for a square, or an object with one of the sets of `keys`.
fn side_or_sides(fields: &Fields<'_>, key: &str, keys: &[&[&str]]) -> Result<Option<Vec<usize>>> {
    let object = match fields.object.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Object(object)) => object,
        Some(_) => return fields.size(key, 1..=MAX_SIDE).map(|side| Some(vec![side; 2])),
    };
    let sides = Fields { file: fields.file, path: &format!("{key}."), object };
    for names in keys {
        if names.len() == object.len() && names.iter().all(|&name| object.contains_key(name)) {
            return names.iter().map(|name| sides.size(name, 1..=MAX_SIDE)).collect::<Result<Vec<_>>>().map(Some);
        }
    }
    let names: Vec<String> = keys.iter().map(|names| format!("`{}`", names.join("` and `"))).collect();
    let found = Value::Object(object.clone());
    Err(fields.error(key, found, &format!("a number or an object with {}", names.join(", or with "))))
}

fn filter(fields: &Fields<'_>, default: Filter) -> Result<Filter> {
    let supported = "0 (nearest), 1 (Lanczos), 2 (bilinear), 3 (bicubic), 4 (box), 5 (Hamming)";
    match fields.object.get("resample") {
        None | Some(Value::Null) => Ok(default),
        Some(value) => match value.as_u64() {
            Some(0) => Ok(Filter::Nearest),
            Some(1) => Ok(Filter::Lanczos),
            Some(2) => Ok(Filter::Bilinear),
            Some(3) => Ok(Filter::Bicubic),
            Some(4) => Ok(Filter::Box),
            Some(5) => Ok(Filter::Hamming),
            Some(other) => Err(Error::Unsupported { what: "resample filter", found: other.to_string(), supported }),
            None => Err(fields.error("resample", value, supported)),
        },
    }
}

fn flag(fields: &Fields<'_>, key: &str, default: bool) -> Result<bool> {
    match fields.object.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(fields.error(key, other, "true or false")),
    }
}

/// One number for each of red, green and blue; 0.5 is the default of every class that is read here.
fn three(fields: &Fields<'_>, key: &str, expected: &str, fits: impl Fn(f32) -> bool) -> Result<[f32; 3]> {
    let Some(value) = fields.object.get(key).filter(|value| !value.is_null()) else { return Ok([0.5; 3]) };
    let numbers: Option<Vec<f32>> = value.as_array().and_then(|numbers| {
        numbers
            .iter()
            .map(|number| number.as_f64().map(|number| number as f32).filter(|&number| fits(number)))
            .collect()
    });
    numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(|| fields.error(key, value, expected))
}
