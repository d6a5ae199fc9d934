//! `sttabt classify --image`: which files are read, and what is printed, drawn and refused.

use std::path::Path;
use std::process::Command;

use crate::command::*;
use crate::common::edit::{check_rows, save, tiny_vit_files};
use crate::common::{classify, engine, fixture, picture, read, tiny_vit};
use serde_json::{Value, json};
use sttabt::{BackendKind, Classification, Input, Picture};

const IMAGES: [&str; 3] =
    ["tests/fixtures/tiny-vit/image3.png", "tests/fixtures/tiny-vit/image0.png", "tests/fixtures/tiny-vit/image1.png"];

fn pictures() -> [Picture; 3] {
    IMAGES.map(|image| picture(&crate::common::root().join(image)))
}

fn computed(pictures: &[Picture], rule: &str) -> Vec<Classification> {
    let inputs: Vec<Input<'_>> = pictures.iter().map(Input::Image).collect();
    classify(&mut engine(&tiny_vit(), BackendKind::Cpu), &inputs, &rule.parse().expect("rule"))
}

/// The files that a report names.
fn files(report: &Value) -> Vec<&str> {
    let results = report["results"].as_array().expect("results");
    results.iter().map(|result| result["image"].as_str().expect("a file")).collect()
}

#[test]
fn json_has_exactly_its_shape() {
    for rule in ["dense", "topk:0.5", "topk:0.9,0.7,0.5,0.3", "concrete", "oracle:0.4", "forward:0.6"] {
        let report = run(tiny_images("classify", &["--json", "--prune", rule, "--image", IMAGES[0], IMAGES[1]])).json();
        check_report(&report, ("tests/fixtures/tiny-vit", rule), "image grid num_prefix_tokens", &[37, 37]);
        for result in report["results"].as_array().expect("results") {
            assert_eq!(result["grid"], json!([6, 6]));
            for kept in result["kept"].as_array().expect("kept") {
                let kept = numbers(kept);
                assert!(kept[0] == 0.0 && kept.iter().all(|&token| token < 37.0), "[CLS] is position 0: {kept:?}");
            }
        }
    }
}

/// The command prints what the library computes, in the order of its arguments.
#[test]
fn several_images_are_one_batch() {
    let report = run(tiny_images("classify", &[&["--json", "--prune", "topk:0.4", "--image"], &IMAGES[..]].concat()));
    let report = report.json();
    assert_eq!(files(&report), IMAGES);
    check_results(&report, &computed(&pictures(), "topk:0.4"));
}

/// Folders stand for the images in them and below them, in order of their names; a file named is read whatever its ending.
#[test]
fn folders_are_walked() {
    let folder = scratch("images_folders");
    let [a, b, c] = IMAGES.map(|image| read(&crate::common::root().join(image)));
    std::fs::create_dir_all(folder.join("m/deep")).expect("folders");
    std::fs::create_dir_all(folder.join("z empty")).expect("folders");
    for (name, bytes) in [
        ("n.png", &a),
        ("A.PNG", &b),
        // What is in a file counts, not its ending.
        ("m/b.jpg", &c),
        ("m/deep/c.webp", &a),
        ("m/a.jpeg", &b),
        ("m/notes.txt", &b"not an image".to_vec()),
        ("png", &b"not an image".to_vec()),
        ("picture.bin", &c),
    ] {
        file(&folder, name, bytes);
    }
    let inside = |name: &str| path(&folder.join(name));
    let (whole, named) = (path(&folder), inside("picture.bin"));
    std::fs::create_dir(folder.join(".thumbnails")).expect("a folder");
    file(&folder, ".thumbnails/a.png", &a);
    let ended = run(tiny_images("classify", &["--json", "--image", IMAGES[2], &whole, &named, IMAGES[2]]));
    let left_out = "3 files that are not PNG, JPEG, WebP, GIF or BMP (m/notes.txt, picture.bin, png); 1 hidden or helper file or folder";
    assert_eq!(ended.stderr, format!("note: {whole}: left out {left_out}\n"));
    let report: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    let walked = ["A.PNG", "m/a.jpeg", "m/b.jpg", "m/deep/c.webp", "n.png"].map(inside);
    let expected: Vec<&str> =
        [IMAGES[2]].into_iter().chain(walked.iter().map(String::as_str)).chain([&*named, IMAGES[2]]).collect();
    assert_eq!(files(&report), expected);
    let empty = inside("z empty");
    let failure = run(tiny_images("classify", &["--image", IMAGES[0], &empty])).failure();
    assert_eq!(
        failure,
        format!("1 error: no images in {empty}: expected files ending in png, jpg, jpeg, jpe, jfif, webp, gif, bmp")
    );
}

/// Column and row of a patch in pixels, and whether it and its neighbours are kept: left, right, above, below.
fn neighbours(kept: &[u32], row: i64, column: i64) -> (bool, [bool; 4]) {
    let is_kept = |row: i64, column: i64| {
        let inside = (0..6).contains(&row) && (0..6).contains(&column);
        inside && kept.contains(&((1 + row * 6 + column) as u32))
    };
    let around = [(row, column - 1), (row, column + 1), (row - 1, column), (row + 1, column)];
    (is_kept(row, column), around.map(|(row, column)| is_kept(row, column)))
}

/// A panel of 48 x 48 pixels: kept patches as they were with a border where the kept region ends, the others darkened.
fn check_panel(figure: &Picture, [left, top]: [usize; 2], image: &Picture, kept: &[u32]) {
    let drawn = |x: usize, y: usize| &figure.rgb()[3 * ((top + y) * figure.width() + left + x)..][..3];
    let original = |x: usize, y: usize| &image.rgb()[3 * (y * 48 + x)..][..3];
    for (row, column) in (0..6).flat_map(|row| (0..6).map(move |column| (row, column))) {
        let (x, y) = (8 * column as usize, 8 * row as usize);
        let (is_kept, around) = neighbours(kept, row, column);
        let what = format!("patch {row}, {column} of the panel at {left}, {top}");
        // The middle of the patch, then of its sides.
        if is_kept {
            assert_eq!(drawn(x + 4, y + 4), original(x + 4, y + 4), "{what}");
        } else {
            let dark: Vec<u8> = original(x + 4, y + 4).iter().map(|value| value / 4).collect();
            assert_eq!(drawn(x + 4, y + 4), dark, "{what}");
        }
        let sides = [(x, y + 4), (x + 7, y + 4), (x + 4, y), (x + 4, y + 7)];
        for ((x, y), neighbour) in sides.into_iter().zip(around) {
            let is_border = drawn(x, y) == [255, 176, 0];
            assert_eq!(is_border, is_kept && !neighbour, "{what}: the side at {x}, {y}");
        }
    }
}

#[test]
fn saved_pictures_show_what_is_kept() {
    let out = path(&scratch("images_save").join("layers.png"));
    let pictures = pictures();
    let results = computed(&pictures, "topk:0.3");
    // Margins of 6 around panels of 48: one image in two rows of three, several with a row of five each.
    for (images, size, per_row) in [(&IMAGES[..1], [168, 114], 3), (&IMAGES[..], [276, 168], 5)] {
        let args = [&["--prune", "topk:0.3", "--save", &out, "--image"], images].concat();
        let stdout = run(tiny_images("classify", &args)).quiet();
        assert!(stdout.contains(&format!("\nthe layers are drawn in {out}\n")), "{stdout}");
        assert!(!stdout.contains(['█', '▀', '▄']), "no grids besides the picture: {stdout}");
        let figure = picture(Path::new(&out));
        assert_eq!([figure.width(), figure.height()], size);
        assert_eq!(figure.rgb()[..3], [255, 255, 255], "the margin");
        for (index, (image, result)) in pictures.iter().zip(&results).take(images.len()).enumerate() {
            let removed: usize = result.kept[..4].iter().map(|kept| 37 - kept.len()).sum();
            assert!(removed > 0, "nothing to draw");
            for panel in 0..5 {
                let place = 5 * index + panel;
                let at = [6 + 54 * (place % per_row), 6 + 54 * (place / per_row)];
                if panel > 0 {
                    check_panel(&figure, at, image, &result.kept[panel - 1]);
                } else {
                    let row = |y: usize| &figure.rgb()[3 * ((at[1] + y) * figure.width() + at[0])..][..3 * 48];
                    assert!((0..48).all(|y| row(y) == &image.rgb()[3 * 48 * y..][..3 * 48]), "the image itself");
                }
            }
        }
    }
}

/// An image of another size is drawn as the model saw it, in its place among others.
#[test]
fn saved_pictures_are_the_resized_ones() {
    let out = path(&scratch("images_save_resized").join("layers.png"));
    let large = "tests/fixtures/preprocessing/odd.png";
    run(tiny_images("classify", &["--save", &out, "--image", IMAGES[0], large])).quiet();
    let seen = tiny_vit().preprocessor().expect("a preprocessor").resized(&picture(&crate::common::root().join(large)));
    let (figure, seen) = (picture(Path::new(&out)), seen.expect("resized"));
    assert_eq!([seen.width(), seen.height()], [48; 2]);
    let row = |y: usize| &figure.rgb()[3 * ((60 + y) * figure.width() + 6)..][..3 * 48];
    assert!((0..48).all(|y| row(y) == &seen.rgb()[3 * 48 * y..][..3 * 48]), "the second row's first panel");
}

#[test]
fn a_picture_that_cannot_be_saved_leaves_nothing_behind() {
    let folder = scratch("images_unsaved");
    std::fs::create_dir(folder.join("taken.png")).expect("a folder");
    let rows =
        [("missing/out.png", "No such file or directory (os error 2)"), ("taken.png", "Is a directory (os error 21)")];
    check_rows(rows.iter().map(|(name, why)| {
        let out = path(&folder.join(name));
        let failure = run(tiny_images("classify", &["--image", IMAGES[1], "--save", &out])).failure();
        ((*name).to_owned(), failure, format!("1 error: cannot write {out}: {why}"))
    }));
    let left: Vec<_> =
        std::fs::read_dir(&folder).expect("the folder").map(|entry| entry.expect("an entry").file_name()).collect();
    assert_eq!(left, ["taken.png"]);
}

/// The grids in lines no wider than 100, five labels from the best, what it cost; nothing that commands a terminal.
#[test]
fn what_people_see() {
    let report = run(tiny_images("classify", &["--json", "--prune", "topk:0.3", "--image", IMAGES[0]])).json();
    let result = &report["results"][0];
    let stdout = run(tiny_images("classify", &["--prune", "topk:0.3", "--image", IMAGES[0], IMAGES[1]])).quiet();
    assert!(!stdout.contains('\x1b'), "{stdout:?}");
    let lines: Vec<&str> = stdout.lines().collect();
    assert!(lines.iter().all(|line| *line == line.trim_end()), "spaces at the end: {stdout:?}");
    assert_eq!((lines[0], lines[9]), (IMAGES[0], IMAGES[1]));
    let kept: Vec<Vec<u32>> = serde_json::from_value(result["kept"].clone()).expect("kept");
    let titles: Vec<String> = (0..4).map(|layer| format!("L{layer} {}/37", kept[layer].len())).collect();
    assert_eq!(lines[1], titles.iter().map(|title| format!("{title:<10}")).collect::<String>().trim_end());
    for (line, row) in lines[2..5].iter().zip([0, 2, 4]) {
        let cells: Vec<char> = line.chars().collect();
        for (layer, column) in (0..4).flat_map(|layer| (0..6).map(move |column| (layer, column))) {
            let is_kept = |row: u32| kept[layer].contains(&(1 + 6 * row + column as u32));
            let expected = match (is_kept(row), is_kept(row + 1)) {
                (true, true) => '█',
                (true, false) => '▀',
                (false, true) => '▄',
                (false, false) => '·',
            };
            let cell_width = titles.iter().map(String::len).max().expect("layers") + 2;
            assert_eq!(cells[cell_width * layer + column], expected, "layer {layer}, row {row}:\n{stdout}");
        }
    }
    let mut probs: Vec<(f64, String)> = numbers(&result["probs"])
        .into_iter()
        .enumerate()
        .map(|(label, prob)| (prob, format!("LABEL_{label}")))
        .collect();
    probs.sort_by(|a, b| b.0.total_cmp(&a.0));
    let answers: Vec<String> = probs.iter().map(|(prob, label)| format!("{label} {:.1} %", 100.0 * prob)).collect();
    assert_eq!((lines[5], lines[6]), ("", answers.join("   ").as_str()));
    let retention = 100.0 * result["retention"].as_f64().expect("retention");
    assert!(lines[7].starts_with(&format!("retention {retention:.1} %   ")), "{stdout}");
    assert!(lines[7].contains(" MFLOPs of ") && lines[7].ends_with(" % to find the tokens)"), "{stdout}");
    let last = lines.last().expect("a line");
    assert!(last.starts_with("topk:0.3 on cpu: ") && last.ends_with(" ms for 2 inputs"), "{stdout}");
}

/// Files that are no images; the message names the file, and nothing is printed of those before it.
#[test]
fn files_that_cannot_be_read() {
    let folder = scratch("images_broken");
    let whole = read(&crate::common::root().join(IMAGES[0]));
    let rows: [(&str, &[u8], &str); 4] = [
        ("text.png", b"a text", "FILE: not a PNG, JPEG, WebP, GIF or BMP image"),
        ("empty.jpg", b"", "FILE: the file is empty"),
        ("cut.png", &whole[..whole.len() / 2], "FILE: truncated PNG image"),
        ("missing.png", b"", "cannot read FILE: No such file or directory (os error 2)"),
    ];
    check_rows(rows.iter().flat_map(|(name, bytes, expected)| {
        let name = if *name == "missing.png" { path(&folder.join(name)) } else { file(&folder, name, bytes) };
        [&[][..], &["--json"]].map(|json: &[&str]| {
            let args = [json, &["--image", IMAGES[1], &name]].concat();
            let expected = format!("1 error: {}", expected.replace("FILE", &name));
            (name.clone(), run(tiny_images("classify", &args)).failure(), expected)
        })
    }));
}

#[test]
fn arguments_that_make_no_sense() {
    let (image, save) = (IMAGES[0], "2 error: --save draws images: it needs --image");
    let rows: [(Command, &str); 12] = [
        (
            tiny_images("classify", &["--image", image, "a film. good"]),
            "2 error: there is no file or folder `a film. good`: all that follows --image are images, and texts are classified without it",
        ),
        (tiny_images("classify", &["--save", "out.png"]), save),
        (tiny("classify", &["--save", "out.png", "w7"]), save),
        (
            tiny_images("classify", &["w7", "--image", image]),
            "2 error: the argument '[TEXT]...' cannot be used with '--image <FILE>...'",
        ),
        (
            tiny_images("classify", &["--image", image, "--", "w7"]),
            "2 error: the argument '--image <FILE>...' cannot be used with '[TEXT]...'",
        ),
        (
            tiny_images("classify", &["--file", "texts.txt", "--image", image]),
            "2 error: the argument '--file <FILE>' cannot be used with '--image <FILE>...'",
        ),
        (
            tiny_images("classify", &["--pair", "--image", image]),
            "2 error: the argument '--pair' cannot be used with '--image <FILE>...'",
        ),
        (
            tiny_images("classify", &["--image"]),
            "2 error: a value is required for '--image <FILE>...' but none was supplied",
        ),
        (
            tiny_images("classify", &[]),
            "2 error: nothing to classify: give a TEXT, `-`, --file or --image (see sttabt classify --help)",
        ),
        (tiny_images("classify", &["w7"]), "1 error: input 1: a text, but the model classifies images"),
        (
            tiny("classify", &["--image", image]),
            "1 error: tests/fixtures/tiny-vit/image3.png: an image, but the model classifies texts",
        ),
        (
            tiny_images("classify", &["--save", "out.jpg", "--image", image]),
            "2 error: --save writes a PNG: out.jpg does not end in .png",
        ),
    ];
    check_rows(rows.into_iter().map(|(command, expected)| {
        let what = format!("{:?}", command.get_args().skip(5).collect::<Vec<_>>());
        (what, run(command).failure(), expected.to_owned())
    }));
}

/// Without the file, what is taken for it is said: once, on stderr.
#[test]
fn a_missing_preprocessor_is_noted() {
    let folder = scratch("images_no_preprocessor");
    let mut files = tiny_vit_files();
    files.remove("preprocessor_config.json");
    save(&files, &folder);
    let folder = path(&folder);
    let ended = run(with_model(&folder, "classify", &["--json", "--image", IMAGES[0], IMAGES[1]]));
    let note = format!(
        "note: no preprocessor_config.json in {folder}: images are resized to the model's size (bilinear), with mean and deviation 0.5\n"
    );
    assert_eq!((ended.code, ended.stderr), (0, note));
    // These are tiny-vit's own settings.
    let with = run(tiny_images("classify", &["--json", "--image", IMAGES[0], IMAGES[1]])).json();
    let without: Value = serde_json::from_str(&ended.stdout).expect("JSON");
    for (with, without) in [0, 1].map(|index| (&with["results"][index], &without["results"][index])) {
        assert_eq!((&with["logits"], &with["kept"]), (&without["logits"], &without["kept"]));
    }
    assert!(fixture("tiny-vit").join("preprocessor_config.json").exists());
}
