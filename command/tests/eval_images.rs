//! `sttabt eval --images`: what the class folders may be called, and what is measured.

use std::path::{Path, PathBuf};

use crate::command::*;
use crate::common::edit::{check_rows, edit_config, edit_tensors, save, tiny_vit_files};
use crate::common::{classify, engine, fixture, load, picture, root};
use serde_json::{Value, json};
use sttabt::{BackendKind, Classification, Input, Prune};

/// Class folders with copies of files.
fn data_set(name: &str, files: &[(&str, PathBuf)]) -> PathBuf {
    let folder = scratch(name);
    for (index, (class, image)) in files.iter().enumerate() {
        std::fs::create_dir_all(folder.join(class)).expect("a folder");
        std::fs::copy(image, folder.join(class).join(format!("{index}.png"))).expect("a copy");
    }
    folder
}

fn image(index: usize) -> PathBuf {
    fixture("tiny-vit").join(format!("image{index}.png"))
}

fn metric(report: &Value, rule: usize, name: &str) -> f64 {
    report["results"][rule]["metrics"][name].as_f64().expect("a metric")
}

/// Tiny-vit with seven labels, so that five are not all; the last two are sure to differ from each other in nothing.
fn seven_labels(folder: &Path) -> String {
    let mut files = tiny_vit_files();
    edit_config(&mut files, |config| {
        config["id2label"] =
            json!({"0": "zero", "1": "one", "2": "two", "3": "2", "4": "four", "5": "five", "6": "six"});
    });
    edit_tensors(&mut files, |tensors| {
        for name in ["classifier.weight", "classifier.bias"] {
            tensors.get_mut(name).expect("classifier").resize_rows(7);
        }
    });
    save(&files, folder);
    path(folder)
}

/// The rank of a label among the answers, 0 for the best; of equal ones the lower index is the better.
fn rank(result: &Classification, label: usize) -> usize {
    let own = result.logits[label];
    (0..result.logits.len()).filter(|&i| result.logits[i] > own || (result.logits[i] == own && i < label)).count()
}

/// Labels by name in any case, and a name that looks like an index is a name where all are names.
#[test]
fn metrics_of_known_answers() {
    let model = seven_labels(&scratch("eval_images_model"));
    let classes = [("Zero", 0), ("one", 1), ("TWO", 2), ("2", 3), ("Six", 6)];
    let files: Vec<(&str, PathBuf)> =
        classes.iter().flat_map(|(class, _)| [0, 1, 2, 3].map(|index| (*class, image(index)))).collect();
    let folder = data_set("eval_images_metrics", &files);
    let folder = path(&folder);
    let pictures = files.iter().map(|(_, file)| picture(file)).collect::<Vec<_>>();
    let inputs: Vec<Input<'_>> = pictures.iter().map(Input::Image).collect();
    let mut engine = engine(&load(Path::new(&model)), BackendKind::Cpu);
    let rules = ["topk:0.1", "dense"];
    let [pruned, dense] = rules.map(|rule| classify(&mut engine, &inputs, &rule.parse().expect("rule")));
    let share = |is_so: &dyn Fn(usize) -> bool| (0..20).filter(|&index| is_so(index)).count() as f64 / 20.0;
    let within =
        |results: &[Classification], limit: usize| share(&|index| rank(&results[index], classes[index / 4].1) < limit);
    let agreement = share(&|index| pruned[index].label_index == dense[index].label_index);
    assert!(within(&dense, 1) < within(&dense, 5) && within(&dense, 5) < 1.0, "metrics that tell something");
    for list in ["topk:0.1", "topk:0.1,dense", "dense,topk:0.1"] {
        let args = ["--json", "--prune", list, "--batch", "3", "--images", &folder];
        let report = run(with_model(&model, "eval", &args)).json();
        let rules: Vec<&str> = list.split(',').collect();
        assert_eq!(report["results"].as_array().expect("results").len(), rules.len(), "{list}");
        for (place, rule) in rules.iter().enumerate() {
            let result = &report["results"][place];
            assert_eq!(keys(result), names("prune metrics retention gflops gflops_dense ms samples"), "{list}");
            assert_eq!(keys(&result["metrics"]), names("top1 top5 agreement"));
            assert_eq!((&result["prune"], &result["samples"]), (&json!(rule), &json!(20)));
            let (results, agreement) = if *rule == "dense" { (&dense, 1.0) } else { (&pruned, agreement) };
            for (name, expected) in
                [("top1", within(results, 1)), ("top5", within(results, 5)), ("agreement", agreement)]
            {
                assert!((metric(&report, place, name) - expected).abs() < 1e-12, "{list}, {rule}, {name}");
            }
        }
    }
    let stdout = run(with_model(&model, "eval", &["--prune", "dense", "--images", &folder])).quiet();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[0], format!("20 samples of {folder} on cpu"));
    assert_eq!(lines[2], "rule   agreement   top1   top5  retention  GFLOPs  of dense    ms");
    assert!(lines[3].starts_with(&format!("dense     100.00  {:>5.2}", 100.0 * within(&dense, 1))), "{stdout}");
}

/// ImageNet's ids and a label, on photographs and DeiT's own preprocessing.
#[test]
fn imagenet_classes() {
    let photo = |name: &str| root().join("demo/photos").join(name);
    let files =
        [("n02124075", photo("chelsea.png")), ("n03063599", photo("coffee.png")), ("Missile", photo("rocket.jpg"))];
    let folder = path(&data_set("eval_images_imagenet", &files));
    let report =
        run(with_model("models/deit-tiny", "eval", &["--json", "--prune", "dense", "--images", &folder])).json();
    let model = load(&root().join("models/deit-tiny"));
    let pictures = files.each_ref().map(|(_, file)| picture(file));
    let results =
        classify(&mut engine(&model, BackendKind::Cpu), &pictures.each_ref().map(Input::Image), &Prune::Dense);
    let ranks: Vec<usize> = results.iter().zip([285, 504, 657]).map(|(result, label)| rank(result, label)).collect();
    assert_eq!(ranks[0], 0, "Egyptian cat");
    for (name, limit) in [("top1", 1), ("top5", 5)] {
        let expected = ranks.iter().filter(|&&rank| rank < limit).count() as f64 / 3.0;
        assert!((metric(&report, 0, name) - expected).abs() < 1e-12, "{name}: {ranks:?}");
    }
}

/// Four copies of one image in each of three classes: a limit of three takes one of each.
#[test]
fn a_limit_takes_images_of_every_class() {
    let classes = [("LABEL_0", 0), ("LABEL_1", 1), ("LABEL_2", 2)];
    let files: Vec<(&str, PathBuf)> =
        classes.iter().flat_map(|(class, _)| [(); 4].map(|()| (*class, image(1)))).collect();
    let folder = path(&data_set("eval_images_limit", &files));
    let result = classify(
        &mut engine(&crate::common::tiny_vit(), BackendKind::Cpu),
        &[Input::Image(&picture(&image(1)))],
        &Prune::Dense,
    )
    .remove(0);
    assert!(result.label_index.is_some_and(|label| label < 3), "the image is in one of the classes");
    for (limit, samples) in [("3", 3), ("6", 6), ("9", 9), ("12", 12), ("100", 12)] {
        let args = ["--json", "--prune", "dense", "--limit", limit, "--images", &folder];
        let report = run(tiny_images("eval", &args)).json();
        assert_eq!(report["results"][0]["samples"], samples);
        assert!((metric(&report, 0, "top1") - 1.0 / 3.0).abs() < 1e-12, "--limit {limit}: {report}");
    }
}

#[test]
fn folders_that_are_no_classes() {
    const TINY: &str = "tests/fixtures/tiny-vit";
    const DEIT: &str = "models/deit-tiny";
    let rows: [(&str, &str, &[&str], &str); 10] = [
        (
            "unknown",
            TINY,
            &["LABEL_0", "zebra"],
            "FOLDER/zebra: no class `zebra`, expected an index from 0 to 4 or one of the model's labels",
        ),
        (
            "an index too far",
            TINY,
            &["5"],
            "FOLDER/5: no class `5`, expected an index from 0 to 4 or one of the model's labels",
        ),
        (
            "negative",
            TINY,
            &["-1"],
            "FOLDER/-1: no class `-1`, expected an index from 0 to 4 or one of the model's labels",
        ),
        (
            "an ImageNet id of another model",
            TINY,
            &["n01440764"],
            "FOLDER/n01440764: no class `n01440764`, expected an index from 0 to 4 or one of the model's labels",
        ),
        (
            "unknown to ImageNet",
            DEIT,
            &["n99999999"],
            "FOLDER/n99999999: no class `n99999999`, expected an index from 0 to 999, an ImageNet id or one of the model's labels",
        ),
        ("two cranes", DEIT, &["crane"], "FOLDER/crane: labels 134 and 517 are called `crane`; give the index instead"),
        (
            "two maillots",
            DEIT,
            &["Maillot"],
            "FOLDER/Maillot: labels 638 and 639 are called `Maillot`; give the index instead",
        ),
        ("empty", TINY, &[], "no images in FOLDER: expected one folder per class with images in it"),
        ("a file in a class", TINY, &["LABEL_0"], "FOLDER/LABEL_0/broken.png: not a PNG, JPEG, WebP, GIF or BMP image"),
        ("missing", TINY, &[], "cannot read FOLDER: No such file or directory (os error 2)"),
    ];
    check_rows(rows.into_iter().enumerate().map(|(index, (what, model, classes, expected))| {
        let files: Vec<(&str, PathBuf)> = classes.iter().map(|class| (*class, image(1))).collect();
        let folder = data_set(&format!("eval_images_classes_{index}"), &files);
        match what {
            "a file in a class" => drop(file(&folder, "LABEL_0/broken.png", "a text")),
            "missing" => std::fs::remove_dir(&folder).expect("removed"),
            _ => {}
        }
        let folder = path(&folder);
        let failure = run(with_model(model, "eval", &["--prune", "dense", "--images", &folder])).failure();
        (what.to_owned(), failure, format!("1 error: {}", expected.replace("FOLDER", &folder)))
    }));
}

/// What the label of a folder is, and what is said: for the whole set, not folder by folder.
#[test]
fn classes_are_read_as_a_whole() {
    let model = seven_labels(&scratch("eval_images_readings"));
    const NUMBERED: &str = "is ambiguous";
    let rows: [(&str, &[&str], &[&str], &str); 7] = [
        ("names", &["zero", "2"], &[], ""),
        ("indices", &["0", "1"], &[], ""),
        ("indices, one of them a name", &["0", "2"], &[], "labels are read as indices, so that 0 is `zero`; "),
        ("a name that is an index too", &["2"], &[], NUMBERED),
        ("by name", &["2"], &["--labels", "name"], ""),
        ("by index", &["2"], &["--labels", "index"], ""),
        ("a name and an index", &["zero", "1"], &[], "labels are read by name and by index: `1` is an index"),
    ];
    for (index, (what, classes, args, expected)) in rows.into_iter().enumerate() {
        let files: Vec<(&str, PathBuf)> = classes.iter().map(|class| (*class, image(1))).collect();
        let folder = path(&data_set(&format!("eval_images_readings_{index}"), &files));
        let args = [&["--json", "--prune", "dense", "--images", &folder], args].concat();
        let ended = run(with_model(&model, "eval", &args));
        if expected.is_empty() {
            assert_eq!(ended.json()["results"][0]["samples"], classes.len(), "{what}");
        } else {
            assert!(ended.stderr.contains(expected), "{what}: {}", ended.stderr);
        }
    }
}

/// What is no class and no image is left out, and said on one line; folders below a class are of it.
#[test]
fn what_is_left_out_is_said() {
    let folder = data_set("eval_images_left_out", &[("0", image(1)), ("3", image(2))]);
    let put = |name: &str| {
        let to = folder.join(name);
        std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        std::fs::copy(image(1), to).expect("a copy");
    };
    let folder_name = path(&folder);
    let eval = || run(tiny_images("eval", &["--json", "--prune", "dense", "--images", &folder_name]));
    let check = |samples: u64, left_out: &str| {
        let ended = eval();
        let report: Value = serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{}", ended.stderr));
        let note = format!("note: {folder_name}: left out {left_out}\n");
        let expected = if left_out.is_empty() { String::new() } else { note };
        assert_eq!((&report["results"][0]["samples"], ended.stderr), (&json!(samples), expected));
    };
    check(2, "");
    for name in ["0/deep/er/b.PNG", "3/c.JPG", "3/d.jpe", "3/e.jfif", "3/f.JPEG", "3/g.webp"] {
        put(name);
    }
    check(8, "");
    put(".ipynb_checkpoints/a-checkpoint.png");
    check(8, "1 hidden or helper file or folder");
    for name in ["0/.ipynb_checkpoints/a.png", "__MACOSX/0/._a.png", "3/Thumbs.db", "0/deep/.DS_Store", "3/DESKTOP.INI"]
    {
        put(name);
    }
    // An editor's lock is a link to nothing.
    std::os::unix::fs::symlink("nowhere", folder.join("0/.#lock.png")).expect("a link");
    check(8, "7 hidden or helper files and folders");
    put("stray.png");
    put("labels.tsv");
    std::fs::create_dir(folder.join("2")).expect("a folder");
    put("0/notes.txt");
    check(
        8,
        "1 file that is not PNG, JPEG, WebP, GIF or BMP (0/notes.txt); 2 files beside the class folders (labels.tsv, stray.png); \
         1 class folder without images (2); 7 hidden or helper files and folders",
    );
    for name in ["a.tiff", "b.heic", "c", "d.png.part", "e.avif"] {
        put(&format!("3/{name}"));
    }
    let stderr = eval().stderr;
    assert!(
        stderr.contains(
            "6 files that are not PNG, JPEG, WebP, GIF or BMP (0/notes.txt, 3/a.tiff, 3/b.heic, 3/c, 3/d.png.part, 1 more); "
        ),
        "{stderr}"
    );
}

#[test]
fn arguments_that_make_no_sense() {
    let data = file(&scratch("eval_images_usage"), "data.tsv", "sentence\tlabel\nw7\t0\n");
    let folder = path(&data_set("eval_images_usage_folder", &[("LABEL_0", image(1))]));
    let other_kind = format!("1 error: {data}, line 2: a text, but the model classifies images");
    let first =
        std::fs::read_dir(format!("{folder}/LABEL_0")).expect("a folder").next().expect("an image").expect("an entry");
    let wrong_kind = format!("1 error: {}: an image, but the model classifies texts", path(&first.path()));
    let rows: [(std::process::Command, &str); 6] = [
        (
            tiny_images("eval", &["--images", &folder, &data]),
            "2 error: the argument '--images <DIR>' cannot be used with '[DATA]'",
        ),
        (
            tiny_images("eval", &["--images", &folder, "--no-header"]),
            "2 error: the argument '--images <DIR>' cannot be used with '--no-header'",
        ),
        (tiny_images("eval", &[]), "2 error: the following required arguments were not provided:"),
        (tiny_images("eval", &["--images"]), "2 error: a value is required for '--images <DIR>' but none was supplied"),
        (tiny_images("eval", &[&data]), &other_kind),
        (tiny("eval", &["--images", &folder]), &wrong_kind),
    ];
    check_rows(rows.into_iter().map(|(command, expected)| {
        let what = format!("{:?}", command.get_args().skip(5).collect::<Vec<_>>());
        (what, run(command).failure(), expected.to_owned())
    }));
}
