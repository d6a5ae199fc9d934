//! Finding and decoding image files, and the classes of a labelled folder.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use sttabt::{Config, Picture};
use walkdir::WalkDir;

use super::args::ColumnArgs;
use super::labels::{Carrier, decide};
use super::model_dir::unreadable;
use super::{Failure, Result, note};

/// Endings of the files that a folder is searched for.
const ENDINGS: [&str; 8] = ["png", "jpg", "jpeg", "jpe", "jfif", "webp", "gif", "bmp"];
/// What systems and programs put beside people's files, besides all that begins with a dot.
const HELPERS: [&str; 9] = [
    "__MACOSX",
    "Icon\r",
    "Thumbs.db",
    "ehthumbs.db",
    "desktop.ini",
    "@eaDir",
    "$RECYCLE.BIN",
    "System Volume Information",
    "lost+found",
];
/// Names that a note lists of many.
const NUM_LISTED: usize = 5;

/// What is in folders.
#[derive(Default)]
struct Found {
    images: Vec<PathBuf>,
    num_hidden: usize,
    /// Files with other endings.
    others: Vec<PathBuf>,
    /// Files beside the class folders.
    beside: Vec<PathBuf>,
    empty_classes: Vec<PathBuf>,
}

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
        let mut found = Found::default();
        found.walk(path)?;
        found.say(path);
        if found.images.is_empty() {
            let message = format!("no images in {}: expected files ending in {}", path.display(), ENDINGS.join(", "));
            return Err(Failure::Error(message));
        }
        files.extend(found.images);
    }
    Ok(files)
}

/// By its ending.
fn is_image(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str());
    ending.is_some_and(|ending| ENDINGS.iter().any(|known| known.eq_ignore_ascii_case(ending)))
}

/// Hidden, or a helper of a system or program.
pub fn is_hidden(name: &OsStr) -> bool {
    let name = name.to_string_lossy();
    name.starts_with('.') || HELPERS.iter().any(|helper| helper.eq_ignore_ascii_case(&name))
}

impl Found {
    /// Adds what is below a folder, in order of the names, in folders below it too. What is hidden is counted and not entered.
    fn walk(&mut self, folder: &Path) -> Result<()> {
        let mut entries = WalkDir::new(folder).follow_links(true).sort_by_file_name().into_iter();
        while let Some(entry) = entries.next() {
            let (path, depth) = match &entry {
                Ok(entry) => (Some(entry.path()), entry.depth()),
                Err(error) => (error.path(), error.depth()),
            };
            if depth > 0 && path.and_then(Path::file_name).is_some_and(is_hidden) {
                self.num_hidden += 1;
                if entry.is_ok_and(|entry| entry.file_type().is_dir()) {
                    entries.skip_current_dir();
                }
                continue;
            }
            let entry = entry.map_err(|error| Failure::Error(format!("cannot read {}: {error}", folder.display())))?;
            if entry.file_type().is_dir() {
                continue;
            }
            // A pipe or a device is no image, whatever its ending.
            let files =
                if entry.file_type().is_file() && is_image(entry.path()) { &mut self.images } else { &mut self.others };
            files.push(entry.into_path());
        }
        Ok(())
    }

    /// Says on one line what was left out of a folder.
    fn say(&self, folder: &Path) {
        let mut parts = Vec::new();
        let mut list = |files: &[PathBuf], one: &str, many: &str| {
            if !files.is_empty() {
                let names =
                    files.iter().take(NUM_LISTED).map(|file| file.strip_prefix(folder).unwrap_or(file).display());
                let mut names: Vec<String> = names.map(|name| name.to_string()).collect();
                if files.len() > NUM_LISTED {
                    names.push(format!("{} more", files.len() - NUM_LISTED));
                }
                let what = if files.len() == 1 { one } else { many };
                parts.push(format!("{} {what} ({})", files.len(), names.join(", ")));
            }
        };
        list(
            &self.others,
            "file that is not PNG, JPEG, WebP, GIF or BMP",
            "files that are not PNG, JPEG, WebP, GIF or BMP",
        );
        list(&self.beside, "file beside the class folders", "files beside the class folders");
        list(&self.empty_classes, "class folder without images", "class folders without images");
        match self.num_hidden {
            0 => {}
            1 => parts.push("1 hidden or helper file or folder".to_owned()),
            number => parts.push(format!("{number} hidden or helper files and folders")),
        }
        if !parts.is_empty() {
            note(&format!("{}: left out {}", folder.display(), parts.join("; ")));
        }
    }
}

/// Reads and decodes an image file.
pub fn picture(path: &Path) -> Result<Picture> {
    let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
    Ok(Picture::decode(&path.display().to_string(), &bytes)?)
}

/// The images of a folder with one folder per class, and their labels. Says on stderr what was left out or assumed.
pub fn labelled(args: &ColumnArgs, folder: &Path, config: &Config) -> Result<Vec<(PathBuf, usize)>> {
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
        entries.push(entry.map_err(|error| unreadable(folder, &error))?.path());
    }
    entries.sort();
    let mut found = Found::default();
    let mut classes = Vec::new();
    for path in entries {
        if path.file_name().is_some_and(is_hidden) {
            found.num_hidden += 1;
        } else if path.is_dir() {
            classes.push(path);
        } else {
            found.beside.push(path);
        }
    }
    let names: Vec<String> =
        classes.iter().map(|class| class.file_name().unwrap_or_default().to_string_lossy().into_owned()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let place = |at: usize| classes[at].display().to_string();
    let decided = decide(Carrier::Folders, &names, place, &config.labels, args.labels).map_err(Failure::Error)?;
    let mut images = Vec::new();
    for (class, label) in classes.iter().zip(decided.labels) {
        found.walk(class)?;
        if found.images.is_empty() {
            found.empty_classes.push(class.clone());
        }
        images.extend(found.images.drain(..).map(|image| (image, label)));
    }
    found.say(folder);
    if images.is_empty() {
        let message = format!("no images in {}: expected one folder per class with images in it", folder.display());
        return Err(Failure::Error(message));
    }
    decided.note.iter().for_each(|what| note(&format!("{}: {what}", folder.display())));
    // A limit takes as many of every class as it can, so that a part of the set stands for the whole.
    let limit = args.limit.map_or(usize::MAX, |limit| limit as usize);
    if images.len() > limit {
        let step = images.len() as f64 / limit as f64;
        images = (0..limit).map(|index| images[(index as f64 * step) as usize].clone()).collect();
    }
    Ok(images)
}
