//! `preprocessor_config.json`: from a picture to the numbers that an image model reads.

use serde_json::{Map, Value};

use super::fields::{Fields, json_object, shortened};
use super::picture::{Filter, Middle, Picture};
use crate::error::{Error, Result};

const FILE: &str = "preprocessor_config.json";
/// The longest side that a configuration may ask for.
const MAX_SIDE: usize = 1 << 14;

/// timm's defaults.
const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// How an image model wants its pictures: Hugging Face's `ViTImageProcessor`, `DeiTImageProcessor` and `BitImageProcessor`, their older names
/// and those that end in `Fast` or `Pil`; or timm's transform for evaluation.
///
/// The steps, in this order: resize, crop the middle, rescale, normalize.
#[derive(Debug, Clone, PartialEq)]
pub struct Preprocessor {
    /// Height and width that the model takes.
    image_size: [usize; 2],
    resize: Option<(Resize, Filter)>,
    center_crop: Option<([usize; 2], Middle)>,
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

/// What a class takes where a file is silent.
struct Defaults {
    resize: Resize,
    filter: Filter,
    /// Whether one number is the shortest edge's size, not a square's.
    is_shortest_edge: bool,
    center_crop: bool,
    crop_size: [usize; 2],
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
    /// another size than `image_size`; [`Error::Unsupported`] names a class, step or filter that is not computed here.
    pub fn from_json(json: Option<&[u8]>, image_size: [usize; 2]) -> Result<Self> {
        let object = json.map_or(Ok(Map::new()), |json| json_object(FILE, json))?;
        let fields = Fields { file: FILE, path: "", object: &object };
        let defaults = Defaults::of(&fields, image_size)?;
        check_steps(&fields, image_size)?;
        let (resize, filter) = (resize(&fields, &defaults)?, filter(&fields, defaults.filter)?);
        let crop_size = match side_or_sides(&fields, "crop_size", &[["height", "width"].as_slice()])?.as_deref() {
            Some(&[height, width]) => [height, width],
            Some(&[side]) => [side; 2],
            _ => defaults.crop_size,
        };
        let rescale_factor = fields.number("rescale_factor", 1.0 / 255.0, 1e-12..=1e12)?;
        let normalize = Normalize::read(&fields, ["image_mean", "image_std"], defaults.mean, defaults.std)?;
        let preprocessor = Self {
            image_size,
            resize: flag(&fields, "do_resize", true)?.then_some((resize, filter)),
            center_crop: flag(&fields, "do_center_crop", defaults.center_crop)?.then_some((crop_size, Middle::Floor)),
            rescale_factor: flag(&fields, "do_rescale", true)?.then_some(rescale_factor),
            normalize: flag(&fields, "do_normalize", true)?.then_some(normalize),
            is_default: json.is_none(),
        };
        preprocessor.check_size(&fields)?;
        Ok(preprocessor)
    }

    /// Reads the `pretrained_cfg` of a `config.json` that timm wrote: its transform for evaluation.
    ///
    /// The shortest edge becomes the model's size by `crop_pct`, and the middle is cut out.
    ///
    /// # Errors
    /// [`Error::Config`] names a key of a wrong type, out of range, or that gives another size than `image_size`;
    /// [`Error::Unsupported`] names a way of cropping or interpolating that is not computed here.
    pub fn from_timm(pretrained_cfg: &Map<String, Value>, image_size: [usize; 2]) -> Result<Self> {
        let fields = Fields { file: "config.json", path: "pretrained_cfg.", object: pretrained_cfg };
        if let Some(size) = pretrained_cfg.get("input_size").filter(|size| !size.is_null()) {
            let [height, width] = image_size;
            if *size != Value::from(vec![3, height, width]) {
                return Err(fields.error("input_size", size, &format!("[3, {height}, {width}], the model's image size")));
            }
        }
        fields.require("crop_mode", "timm's crop_mode", "center")?;
        let crop_pct = fields.number("crop_pct", 0.875, 0.01..=1.0)?;
        let edges = image_size.map(|size| (size as f64 / crop_pct).floor() as usize);
        if edges[0] != edges[1] {
            return Err(fields.error("input_size", format!("{image_size:?}"), "a square"));
        }
        let filter = match fields.text("interpolation")? {
            None | Some("bicubic") => Filter::Bicubic,
            Some("bilinear") => Filter::Bilinear,
            Some("nearest") => Filter::Nearest,
            Some("lanczos") => Filter::Lanczos,
            Some("box") => Filter::Box,
            Some("hamming") => Filter::Hamming,
            Some(other) => {
                return Err(Error::Unsupported {
                    what: "timm's interpolation",
                    found: shortened(other),
                    supported: "bicubic, bilinear, nearest, lanczos, box, hamming",
                });
            }
        };
        Ok(Self {
            image_size,
            resize: Some((Resize::ShortestEdge(edges[0]), filter)),
            center_crop: Some((image_size, Middle::Round)),
            rescale_factor: Some(1.0 / 255.0),
            normalize: Some(Normalize::read(&fields, ["mean", "std"], IMAGENET_MEAN, IMAGENET_STD)?),
            is_default: false,
        })
    }

    /// Whatever the picture is, the model's size must come out.
    fn check_size(&self, fields: &Fields<'_>) -> Result<()> {
        let expected = format!("{:?}, the model's image size", self.image_size);
        match (self.center_crop, self.resize) {
            (Some((size, _)), _) if size != self.image_size => {
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
        if let Some((size, middle)) = self.center_crop {
            resized = resized.center_cropped(size, middle);
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

impl Defaults {
    /// Those of the class that the file names.
    fn of(fields: &Fields<'_>, image_size: [usize; 2]) -> Result<Self> {
        let vit = Self {
            resize: Resize::To(image_size),
            filter: Filter::Bilinear,
            is_shortest_edge: false,
            center_crop: false,
            crop_size: image_size,
            mean: [0.5; 3],
            std: [0.5; 3],
        };
        let cropped = Self { filter: Filter::Bicubic, center_crop: true, crop_size: [224; 2], ..vit };
        let Some(name) = fields.text("image_processor_type")?.or(fields.text("feature_extractor_type")?) else {
            return Ok(vit);
        };
        let class = ["Fast", "Pil"].into_iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
        Ok(match class {
            "ViTImageProcessor" | "ViTFeatureExtractor" => vit,
            "DeiTImageProcessor" | "DeiTFeatureExtractor" => Self { resize: Resize::To([256; 2]), ..cropped },
            "BitImageProcessor" => Self {
                resize: Resize::ShortestEdge(224),
                is_shortest_edge: true,
                mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
                std: [0.268_629_54, 0.261_302_6, 0.275_777_1],
                ..cropped
            },
            _ => {
                return Err(Error::Unsupported {
                    what: "image processor",
                    found: shortened(name),
                    supported: "ViTImageProcessor, DeiTImageProcessor, BitImageProcessor",
                });
            }
        })
    }
}

/// Steps beside the four must be off, or do nothing.
fn check_steps(fields: &Fields<'_>, image_size: [usize; 2]) -> Result<()> {
    // Pictures are RGB by the time they come here.
    flag(fields, "do_convert_rgb", true)?;
    // Without a size, all pictures become as large as the largest; they are of one size already.
    if flag(fields, "do_pad", false)? {
        let keys = [["height", "width"].as_slice()];
        match side_or_sides(fields, "pad_size", &keys)? {
            Some(size) if size != image_size => {
                let expected = format!("{image_size:?}, the model's image size");
                return Err(fields.error("pad_size", format!("{size:?}"), &expected));
            }
            _ => {}
        }
    }
    const KNOWN: [&str; 6] =
        ["do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb", "do_pad"];
    let is_on = |(key, value): &(&String, &Value)| {
        key.starts_with("do_") && !KNOWN.contains(&key.as_str()) && **value == Value::Bool(true)
    };
    if let Some((key, _)) = fields.object.iter().find(is_on) {
        return Err(Error::Unsupported {
            what: "preprocessing step",
            found: shortened(key),
            supported: "do_resize, do_center_crop, do_rescale, do_normalize",
        });
    }
    fields.require("data_format", "data_format", "channels_first")
}

fn resize(fields: &Fields<'_>, defaults: &Defaults) -> Result<Resize> {
    let keys = [["shortest_edge"].as_slice(), ["height", "width"].as_slice()];
    let is_number = fields.object.get("size").is_some_and(Value::is_number);
    Ok(match side_or_sides(fields, "size", &keys)?.as_deref() {
        Some(&[edge, _]) if is_number && defaults.is_shortest_edge => Resize::ShortestEdge(edge),
        Some(&[edge]) => Resize::ShortestEdge(edge),
        Some(&[height, width]) => Resize::To([height, width]),
        _ => defaults.resize,
    })
}

/// `size` and its like: one number for a square, a list of height and width, or an object with one of the sets of `keys`. transformers writes
/// null for the others.
fn side_or_sides(fields: &Fields<'_>, key: &str, keys: &[&[&str]]) -> Result<Option<Vec<usize>>> {
    let object = match fields.object.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(sides)) if sides.len() == 2 => {
            return sides.iter().map(|side| fields.size_of(key, side, 1..=MAX_SIDE)).collect::<Result<_>>().map(Some);
        }
        Some(Value::Object(object)) => object,
        Some(_) => return fields.size(key, 1..=MAX_SIDE).map(|side| Some(vec![side; 2])),
    };
    let sides = Fields { file: fields.file, path: &format!("{key}."), object };
    let num_keys = object.values().filter(|value| !value.is_null()).count();
    for names in keys {
        if names.len() == num_keys && names.iter().all(|&name| object.get(name).is_some_and(|side| !side.is_null())) {
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

impl Normalize {
    fn read(fields: &Fields<'_>, [mean_key, std_key]: [&str; 2], mean: [f32; 3], std: [f32; 3]) -> Result<Self> {
        Ok(Self {
            mean: three(fields, mean_key, mean, "3 finite numbers", |mean| mean.is_finite())?,
            std: three(fields, std_key, std, "3 finite numbers above 0", |std| std.is_finite() && std > 0.0)?,
        })
    }
}

/// One number for each of red, green and blue, or one for all.
fn three(
    fields: &Fields<'_>,
    key: &str,
    default: [f32; 3],
    expected: &str,
    fits: impl Fn(f32) -> bool,
) -> Result<[f32; 3]> {
    let Some(value) = fields.object.get(key).filter(|value| !value.is_null()) else { return Ok(default) };
    let number = |value: &Value| value.as_f64().map(|number| number as f32).filter(|&number| fits(number));
    let numbers: Option<Vec<f32>> = match value {
        Value::Array(numbers) => numbers.iter().map(number).collect(),
        one => number(one).map(|number| vec![number; 3]),
    };
    numbers.and_then(|numbers| numbers.try_into().ok()).ok_or_else(|| fields.error(key, value, expected))
}
