//! The keys of `preprocessor_config.json` that have more than one form.

use serde_json::Value;

use crate::error::{Error, Result};
use crate::models::fields::{Fields, shortened};
use crate::models::picture::Filter;

/// The longest side that a configuration may ask for.
const MAX_SIDE: usize = 1 << 14;

/// Steps beside the four must be off, or do nothing.
pub fn check_steps(fields: &Fields<'_>, image_size: [usize; 2]) -> Result<()> {
    // Pictures are RGB by the time they come here, whatever it says: transparency was dropped, as Pillow's `convert("RGB")` drops it.
    fields.flag("do_convert_rgb")?;
    // Without a size, all pictures become as large as the largest; they are of one size already.
    if fields.flag("do_pad")?.unwrap_or(false) {
        match side_or_sides(fields, "pad_size", &[&["height", "width"]])? {
            Some((_, size)) if size != image_size => {
                let expected = format!("{image_size:?}, the model's image size");
                return Err(fields.error("pad_size", format!("{size:?}"), &expected));
            }
            _ => {}
        }
    }
    const KNOWN: [&str; 6] = ["do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb", "do_pad"];
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

/// Sides, and the names under which they stand: none for a number or a list.
pub type Sides = (&'static [&'static str], Vec<usize>);

/// `size` and its like: one number for a square, a list of height and width, or an object with one of the sets of `keys`. transformers writes
/// null for the others.
pub fn side_or_sides(fields: &Fields<'_>, key: &str, keys: &[&'static [&'static str]]) -> Result<Option<Sides>> {
    let object = match fields.object.get(key) {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(sides)) if sides.len() == 2 => {
            let sides: Result<_> = sides.iter().map(|side| fields.size_of(key, side, 1..=MAX_SIDE)).collect();
            return Ok(Some((&[], sides?)));
        }
        Some(Value::Object(object)) => object,
        Some(_) => return fields.size(key, 1..=MAX_SIDE).map(|side| Some((&[][..], vec![side; 2]))),
    };
    let sides = Fields { file: fields.file, path: &format!("{key}."), object };
    let num_keys = object.values().filter(|value| !value.is_null()).count();
    for names in keys.iter().copied() {
        if names.len() == num_keys && names.iter().all(|&name| object.get(name).is_some_and(|side| !side.is_null())) {
            let sides: Result<_> = names.iter().map(|name| sides.size(name, 1..=MAX_SIDE)).collect();
            return Ok(Some((names, sides?)));
        }
    }
    let names: Vec<String> = keys.iter().map(|names| format!("`{}`", names.join("` and `"))).collect();
    let found = Value::Object(object.clone());
    Err(fields.error(key, found, &format!("a number or an object with {}", names.join(", or with "))))
}

pub fn filter(fields: &Fields<'_>, default: Filter) -> Result<Filter> {
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

/// One number for each of red, green and blue, or one for all.
pub fn three(
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
