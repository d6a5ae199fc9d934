//! How large a picture becomes: the forms of `size`.

use std::fmt;

use serde_json::Value;

use super::keys::side_or_sides;
use crate::error::Result;
use crate::models::fields::Fields;

/// The sets of keys that `size` may have.
const KEYS: &[&[&str]] =
    &[&["shortest_edge"], &["height", "width"], &["shortest_edge", "longest_edge"], &["max_height", "max_width"]];

/// What `size` asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Resize {
    /// Height and width, without regard to the picture's shape.
    To([usize; 2]),
    /// The shortest edge; the other one keeps the shape.
    ShortestEdge(usize),
    /// The shortest edge, unless the longest would be longer than this.
    Edges { shortest: usize, longest: usize },
    /// The largest picture of its shape in this height and width.
    Within([usize; 2]),
}

impl Resize {
    /// Reads `size`; `None` where the file has none. `is_shortest_edge` says what a single number is.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) names the key.
    pub fn read(fields: &Fields<'_>, is_shortest_edge: bool) -> Result<Option<Self>> {
        let is_number = fields.object.get("size").is_some_and(Value::is_number);
        let Some((names, sides)) = side_or_sides(fields, "size", KEYS)? else { return Ok(None) };
        Ok(match (names, &*sides) {
            ([], &[edge, _]) if is_number && is_shortest_edge => Some(Self::ShortestEdge(edge)),
            (["max_height", _], &[height, width]) => Some(Self::Within([height, width])),
            (["shortest_edge", _], &[shortest, longest]) => Some(Self::Edges { shortest, longest }),
            (_, &[edge]) => Some(Self::ShortestEdge(edge)),
            (_, &[height, width]) => Some(Self::To([height, width])),
            _ => None,
        })
    }

    /// The new height and width of a picture of `size`, rounded as Hugging Face's `image_transforms` rounds. A side may become 0.
    pub fn size(self, size: [usize; 2]) -> [usize; 2] {
        let [height, width] = size.map(|side| side as f64);
        let (short, long) = (height.min(width), height.max(width));
        match self {
            Self::To(size) => size,
            Self::ShortestEdge(edge) => {
                // 64 bits: also where `usize` has 32.
                let shortest = size[0].min(size[1]) as u64;
                size.map(|side| usize::try_from(edge as u64 * side as u64 / shortest).unwrap_or(usize::MAX))
            }
            Self::Edges { shortest, longest } => {
                let is_long = long / short * shortest as f64 > longest as f64;
                let exact = if is_long { longest as f64 * short / long } else { shortest as f64 };
                let edge = exact.round_ties_even();
                if short == edge {
                    size
                } else if width < height {
                    [exact * height / width, edge].map(|side| side as usize)
                } else {
                    [edge, exact * width / height].map(|side| side as usize)
                }
            }
            Self::Within([max_height, max_width]) => {
                let scale = (max_height as f64 / height).min(max_width as f64 / width);
                [height * scale, width * scale].map(|side| side as usize)
            }
        }
    }
}

/// In messages.
impl fmt::Display for Resize {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::To(size) => write!(formatter, "{size:?}"),
            Self::ShortestEdge(edge) => write!(formatter, "a shortest edge of {edge}"),
            Self::Edges { shortest, longest } => write!(formatter, "edges of {shortest} to {longest}"),
            Self::Within([height, width]) => write!(formatter, "a picture within {height} x {width}"),
        }
    }
}
