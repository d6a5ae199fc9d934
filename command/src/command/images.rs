//! Finding and decoding image files, and the classes of a labelled folder.

use std::path::{Path, PathBuf};

use sttabt::{Config, Picture};
use walkdir::WalkDir;

use super::model_dir::unreadable;
use super::{Failure, Result};

/// Endings of the files that a folder is searched for.
const ENDINGS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];
/// ImageNet's class ids in the order of its 1000 labels.
const IMAGENET_WNIDS: &str = include_str!("imagenet_wnids.txt");

/// The files that are meant: those named, whatever their ending, and the images in folders named, in order of their names.
pub fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        // Very likely a text behind the images.
        if !is_image(path) && !path.exists() {
            return Err(Failure::Usage(format!(
                "there is no file or folder `{}`: all that follows --image are images, and texts are classified without it",
                path.display()
            )));
        }
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let found = images_below(path)?;
        if found.is_empty() {
            let message = format!("no images in {}: expected files ending in {}", path.display(), ENDINGS.join(", "));
            return Err(Failure::Error(message));
        }
        files.extend(found);
    }
    Ok(files)
}

/// By its ending.
fn is_image(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.iter().any(|known| known.eq_ignore_ascii_case(ending)))
}

fn images_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|error| Failure::Error(format!("cannot read {}: {error}", folder.display())))?;
        if entry.file_type().is_file() && is_image(entry.path()) {
            files.push(entry.into_path());
        }
    }
    Ok(files)
}

/// Reads and decodes an image file.
pub fn picture(path: &Path) -> Result<Picture> {
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    Ok(Picture::decode(&path.display().to_string(), &bytes)?)
}

/// The images of a folder with one folder per class, and their labels.
pub fn labelled(folder: &Path, config: &Config, limit: usize) -> Result<Vec<(PathBuf, usize)>> {
    let entries = std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    let mut classes: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    classes.sort();
    let mut images = Vec::new();
    for class in classes {
        let name = class.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let label = label(&name, config).map_err(|what| Failure::Error(format!("{}: {what}", class.display())))?;
        images.extend(images_below(&class)?.into_iter().map(|image| (image, label)));
    }
    if images.is_empty() {
        let message = format!("no images in {}: expected one folder per class with images in it", folder.display());
        return Err(Failure::Error(message));
    }
    // A limit takes as many of every class as it can, so that a part of the set stands for the whole.
    if images.len() > limit {
        let step = images.len() as f64 / limit as f64;
        images = (0..limit).map(|index| images[(index as f64 * step) as usize].clone()).collect();
    }
    Ok(images)
}

/// A class folder's label: by name, ImageNet id or index.
fn label(name: &str, config: &Config) -> std::result::Result<usize, String> {
    let labels = &config.labels;
    let named: Vec<usize> = (0..labels.len()).filter(|&label| labels[label].eq_ignore_ascii_case(name)).collect();
    match (named.as_slice(), name.parse::<usize>()) {
        ([label], _) => return Ok(*label),
        ([first, others @ ..], _) if !others.is_empty() => {
            let others: Vec<String> = others.iter().map(|label| format!(" and {label}")).collect();
            let message = format!("labels {first}{} are called `{name}`; name the folder by index", others.join(""));
            return Err(message);
        }
        ([], Ok(label)) if label < labels.len() => return Ok(label),
        _ => {}
    }
    let by_wnid = || IMAGENET_WNIDS.lines().position(|wnid| wnid == name);
    if labels.len() == IMAGENET_WNIDS.lines().count()
        && let Some(label) = by_wnid()
    {
        return Ok(label);
    }
    let ids = if labels.len() == IMAGENET_WNIDS.lines().count() { ", an ImageNet id" } else { "" };
    Err(format!(
        "no class `{name}`, expected an index from 0 to {}{ids} or one of the model's labels",
        labels.len() - 1
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_imagenet_ids_is_whole() {
        let wnids: Vec<&str> = IMAGENET_WNIDS.lines().collect();
        assert_eq!(wnids.len(), 1000);
        assert!(wnids.is_sorted_by(|a, b| a < b), "labels are in order of their ids");
        assert_eq!((wnids[0], wnids[217], wnids[999]), ("n01440764", "n02102040", "n15075141"));
    }
}
