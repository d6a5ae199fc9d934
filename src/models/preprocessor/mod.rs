//! `preprocessor_config.json`: from a picture to the numbers that an image model reads.

mod keys;
mod size;

use serde_json::{Map, Value};

use super::fields::{Fields, json_object, shortened};
use super::files::ModelFiles;
use super::picture::{Filter, Middle, Picture};
use crate::error::{Error, Result};
use keys::{check_steps, filter, side_or_sides, three};
use size::Resize;

/// The files that hold one. transformers takes a processor's for images before the other.
const FILE: &str = "preprocessor_config.json";
const PROCESSOR_FILE: &str = "processor_config.json";
const PROCESSOR_KEY: &str = "image_processor";

/// The class of files that name none, and of models without a file.
const VIT: &str = "ViTImageProcessor";

/// timm's defaults.
const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

/// How an image model wants its pictures. This reads Hugging Face's `ViTImageProcessor`, `DeiTImageProcessor` and
/// `BitImageProcessor`, their older names, and those that end in `Fast` or `Pil`. It also reads timm's transform for
/// evaluation.
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

/// The settings in a `preprocessor_config.json`, or those for images in a `processor_config.json`.
fn fields_of(object: &Map<String, Value>) -> Fields<'_> {
    match object.get(PROCESSOR_KEY) {
        Some(Value::Object(object)) => Fields { file: PROCESSOR_FILE, path: "image_processor.", object },
        _ => Fields { file: FILE, path: "", object },
    }
}

/// The name of the file that says how pictures are made, if there is one.
///
/// # Errors
/// [`Error::File`] for a `processor_config.json` that is no JSON object.
pub(super) fn file_of(files: &ModelFiles) -> Result<&'static str> {
    let Some(json) = files.get(PROCESSOR_FILE) else { return Ok(FILE) };
    let object = json_object(PROCESSOR_FILE, json)?;
    Ok(if object.get(PROCESSOR_KEY).is_some_and(Value::is_object) { PROCESSOR_FILE } else { FILE })
}

impl Preprocessor {
    /// Reads `preprocessor_config.json` for a model that takes pictures of `image_size`, height and width. The
    /// `image_processor` in a `processor_config.json` has the same keys.
    ///
    /// Keys that are absent have the defaults of the class that the file names. If it names none, the class is
    /// `ViTImageProcessor`, and `size` is `image_size`. `None`, no file, is all of these defaults: a bilinear resize
    /// to `image_size`, without regard to the aspect ratio. Then mean and standard deviation are 0.5. See
    /// [`Self::is_default`].
    ///
    /// # Errors
    /// - [`Error::File`] if it is not a JSON object.
    /// - [`Error::Config`] names a key of a wrong type, out of range, or that gives another size than `image_size`.
    /// - [`Error::Unsupported`] names a class, step or filter that is not computed here.
    pub fn from_json(json: Option<&[u8]>, image_size: [usize; 2]) -> Result<Self> {
        match json {
            Some(json) => Self::of(VIT, json, image_size),
            None => Ok(Self { is_default: true, ..Self::of(VIT, b"{}", image_size)? }),
        }
    }

    /// The same of a model whose files are made by this class where they name none.
    pub(super) fn of(class: &str, json: &[u8], image_size: [usize; 2]) -> Result<Self> {
        let object = json_object(FILE, json)?;
        let fields = fields_of(&object);
        let preprocessor = Self::read(class, &fields, image_size)?;
        preprocessor.check_size(&fields)?;
        Ok(preprocessor)
    }

    /// Height and width of the pictures that a `preprocessor_config.json` makes, for models that take any size.
    /// DINOv2's files crop to 224, and its table of positions is for 518. `image_size` is the model's own, where the
    /// file leaves it open.
    ///
    /// # Errors
    /// Those of [`Self::from_json`], but for the size.
    pub fn output_size(json: Option<&[u8]>, image_size: [usize; 2]) -> Result<[usize; 2]> {
        Self::output_size_of(VIT, json, image_size)
    }

    pub(super) fn output_size_of(class: &str, json: Option<&[u8]>, image_size: [usize; 2]) -> Result<[usize; 2]> {
        let Some(json) = json else { return Ok(image_size) };
        let preprocessor = Self::read(class, &fields_of(&json_object(FILE, json)?), image_size)?;
        Ok(match (preprocessor.center_crop, preprocessor.resize) {
            (Some((size, _)), _) | (None, Some((Resize::To(size), _))) => size,
            _ => image_size,
        })
    }

    fn read(class: &str, fields: &Fields<'_>, image_size: [usize; 2]) -> Result<Self> {
        let defaults = Defaults::of(class, fields, image_size)?;
        check_steps(fields, image_size)?;
        let is_shortest_edge = !fields.flag("default_to_square")?.unwrap_or(!defaults.is_shortest_edge);
        let resize = Resize::read(fields, is_shortest_edge)?.unwrap_or(defaults.resize);
        let filter = filter(fields, defaults.filter)?;
        let crop_size = match side_or_sides(fields, "crop_size", &[&["height", "width"]])? {
            Some((_, sides)) => sides.try_into().unwrap_or(defaults.crop_size),
            None => defaults.crop_size,
        };
        let rescale_factor = fields.number("rescale_factor", 1.0 / 255.0, 1e-12..=1e12)?;
        let normalize = Normalize::read(fields, ["image_mean", "image_std"], defaults.mean, defaults.std)?;
        Ok(Self {
            image_size,
            resize: fields.flag("do_resize")?.unwrap_or(true).then_some((resize, filter)),
            center_crop: fields
                .flag("do_center_crop")?
                .unwrap_or(defaults.center_crop)
                .then_some((crop_size, Middle::Floor)),
            rescale_factor: fields.flag("do_rescale")?.unwrap_or(true).then_some(rescale_factor),
            normalize: fields.flag("do_normalize")?.unwrap_or(true).then_some(normalize),
            is_default: false,
        })
    }

    /// Reads the `pretrained_cfg` of a `config.json` that timm wrote: its transform for evaluation.
    ///
    /// The shortest edge becomes the model's size by `crop_pct`, and the middle is cut out.
    ///
    /// # Errors
    /// - [`Error::Config`] names a key of a wrong type, out of range, or that gives another size than `image_size`.
    /// - [`Error::Unsupported`] names a way of cropping or interpolating that is not computed here.
    pub fn from_timm(pretrained_cfg: &Map<String, Value>, image_size: [usize; 2]) -> Result<Self> {
        let fields = Fields { file: "config.json", path: "pretrained_cfg.", object: pretrained_cfg };
        if let Some(size) = pretrained_cfg.get("input_size").filter(|size| !size.is_null()) {
            let [height, width] = image_size;
            if *size != Value::from(vec![3, height, width]) {
                return Err(fields.error(
                    "input_size",
                    size,
                    &format!("[3, {height}, {width}], the model's image size"),
                ));
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
            (None, Some((resize, _))) if !matches!(resize, Resize::To(_)) => {
                Err(fields.error("size", format!("{resize} without `do_center_crop`"), &expected))
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

impl Defaults {
    /// Those of the class that the file names, else of this one.
    fn of(class: &str, fields: &Fields<'_>, image_size: [usize; 2]) -> Result<Self> {
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
        let named = fields.text("image_processor_type")?.or(fields.text("feature_extractor_type")?);
        let name = named.unwrap_or(class);
        let class = ["Fast", "Pil"].into_iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name);
        Ok(match class {
            VIT | "ViTFeatureExtractor" => vit,
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

impl Normalize {
    fn read(fields: &Fields<'_>, [mean_key, std_key]: [&str; 2], mean: [f32; 3], std: [f32; 3]) -> Result<Self> {
        Ok(Self {
            mean: three(fields, mean_key, mean, "3 finite numbers", |mean| mean.is_finite())?,
            std: three(fields, std_key, std, "3 finite numbers above 0", |std| std.is_finite() && std > 0.0)?,
        })
    }
}
