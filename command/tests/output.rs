//! What people see of the command: adapters, colours, help, and a reader who leaves early.

use crate::command::*;
use crate::common::edit::{check_rows, config, save, tiny_files, tokenizer};
use serde_json::json;

/// A subcommand on tiny-bert with a backend.
fn on(backend: &str, args: &[&str]) -> std::process::Command {
    let model = tiny_folder();
    sttabt([&[args[0], "--model", &model, "--backend", backend], &args[1..]].concat())
}

/// No driver: the loader looks where nothing is.
fn without_drivers(mut command: std::process::Command) -> std::process::Command {
    command.env("VK_ICD_FILENAMES", "/nonexistent.json").env("VK_DRIVER_FILES", "/nonexistent.json");
    command
}

/// The name of an adapter of this machine; there must be one.
fn adapter() -> String {
    let adapters = pollster::block_on(sttabt::adapters());
    adapters.first().expect("this test needs a GPU adapter, if only lavapipe").name.clone()
}

#[test]
fn the_gpu_backend_names_its_adapter() {
    let name = adapter();
    let report = run(on("gpu", &["classify", "--json", "w7 w8"])).json();
    assert_eq!((&report["backend"], &report["adapter"]), (&json!("gpu"), &json!(name)));
    let stdout = run(on("gpu", &["classify", "w7 w8"])).quiet();
    assert!(stdout.contains(&format!("topk:0.5 on gpu ({name}): ")), "{stdout}");
    // Any part of the name, in any case; a named adapter counts for `auto` too.
    let part = name[..name.len().min(6)].to_uppercase();
    let report = run(on("auto", &["classify", "--json", "--adapter", &part, "w7"])).json();
    assert_eq!((&report["backend"], &report["adapter"]), (&json!("gpu"), &json!(name)));
}

#[test]
fn adapters_that_are_not_there() {
    let nonsense = run(on("gpu", &["classify", "--adapter", "nonsense", "w7"])).failure();
    assert!(nonsense.starts_with("1 error: no GPU with `nonsense` in its name; found: "), "{nonsense}");
    assert!(nonsense.contains(&adapter()), "{nonsense}");
    let rows = [
        ("gpu", None, "1 error: no GPU; found: none"),
        ("gpu", Some("llvmpipe"), "1 error: no GPU with `llvmpipe` in its name; found: none"),
        ("auto", Some("llvmpipe"), "1 error: no GPU with `llvmpipe` in its name; found: none"),
    ];
    check_rows(rows.into_iter().map(|(backend, adapter, expected)| {
        let adapter = adapter.map_or(vec![], |name| vec!["--adapter", name]);
        let ended = run(without_drivers(on(backend, &[&["classify", "w7"], &adapter[..]].concat())));
        (format!("{backend} {adapter:?}"), ended.failure(), expected.to_owned())
    }));
    let auto = run(without_drivers(on("auto", &["classify", "--json", "w7"])));
    assert_eq!((auto.code, auto.stderr.as_str()), (0, "note: running on the CPU: no hardware GPU; found: none\n"));
    assert!(auto.stdout.contains(r#""backend":"cpu","adapter":"CPU""#), "{}", auto.stdout);
    // The CPU backend does not even look.
    run(without_drivers(on("cpu", &["classify", "w7"]))).quiet();
}

#[test]
fn info_lists_adapters_and_the_model() {
    let model = tiny_folder();
    let stdout = run(sttabt(["info", "--model", &model])).quiet();
    assert!(stdout.starts_with(&format!("adapter {}\n  type ", adapter())), "{stdout}");
    let about = stdout.split_once(&format!("\nmodel {model}\n")).expect("the model's part").1;
    assert_eq!(
        about,
        "  Bert, 4 layers, hidden size 48, 4 heads, intermediate size 96\n\
         \x20 weights    91.0 k as f32\n\
         \x20 input      texts of up to 160 tokens, vocabulary of 97\n\
         \x20 output     LABEL_0, LABEL_1, LABEL_2, LABEL_3, LABEL_4\n\
         \x20 ApproxNet  26.5 k, hidden size 24 (reduction factor 2)\n\
         \x20 p_logit    -1.748 -0.598 -0.282 0.242\n\
         \x20 default    topk:0.5\n"
    );
    let stdout = run(without_drivers(sttabt(["info", "--model", &model]))).quiet();
    assert!(stdout.starts_with("no GPU adapter found; sttabt computes on the CPU\n\nmodel "), "{stdout}");
    let stdout = run(sttabt(["info", "--model", &path(&crate::common::fixture("tiny-vit"))])).quiet();
    assert!(stdout.contains("\n  Vit, 4 layers, hidden size 48, 4 heads, intermediate size 96\n"), "{stdout}");
    assert!(stdout.contains("\n  input      images of 48 x 48 pixels in patches of 8, 37 tokens\n"), "{stdout}");
    // What rounds to zero has no sign.
    let stdout = run(sttabt(["info", "--model", "models/deit-tiny"])).quiet();
    assert!(stdout.contains("\n  p_logit    0.000 -0.060 -0.061 "), "{stdout}");
    // A bare model: what is missing is said.
    let folder = scratch("info_bare");
    let mut files = tiny_files();
    files.remove_folder("approx");
    crate::common::edit::edit_tensors(&mut files, |tensors| tensors.retain(|name, _| !name.ends_with("p_logit")));
    save(&files, &folder);
    let stdout = run(sttabt(["info", "--model", &path(&folder)])).quiet();
    assert!(
        stdout
            .ends_with("  ApproxNet  none: no topk, no concrete\n  p_logit    none: no concrete\n  default    dense\n"),
        "{stdout}"
    );
    // Adapters are worth knowing without a model.
    let ended = run(sttabt(["info", "--model", "/nonexistent"]));
    assert!(ended.stdout.starts_with("adapter "), "{}", ended.stdout);
    assert_eq!((ended.code, &*ended.stderr), (1, "error: no model folder at /nonexistent (given by --model)\n"));
}

#[test]
fn help_and_version() {
    for (args, begins) in [
        (
            &["--help"][..],
            "Classify with transformers that compute only the tokens that matter\n\nUsage: sttabt <COMMAND>\n",
        ),
        (&["-h"], "Classify with transformers that compute only the tokens that matter\n\nUsage: sttabt <COMMAND>\n"),
        (&["--version"], concat!("sttabt ", env!("CARGO_PKG_VERSION"), "\n")),
        (
            &["classify", "--help"],
            "Classify texts or images, and show which tokens or patches survive each layer\n\nUsage: sttabt classify [OPTIONS] [TEXT]...\n",
        ),
        (&["eval", "--help"], "Measure rules on a labelled data set\n\nUsage: sttabt eval [OPTIONS] [DATA]\n"),
        (&["info", "--help"], "List the GPU adapters, and what a model folder holds\n\nUsage: sttabt info [OPTIONS]\n"),
    ] {
        let stdout = run(sttabt(args.iter().copied())).quiet();
        assert!(stdout.starts_with(begins), "{args:?}: {stdout}");
    }
    let ended = run(sttabt([]));
    assert_eq!((ended.code, &*ended.stdout), (2, ""));
    assert!(ended.stderr.contains("Usage: sttabt <COMMAND>"), "{}", ended.stderr);
    assert_eq!(run(sttabt(["train"])).failure(), "2 error: unrecognized subcommand 'train'");
    assert_eq!(run(sttabt(["info", "--json"])).failure(), "2 error: unexpected argument '--json' found");
}

#[test]
fn a_picture_that_reads_without_colour() {
    let stdout = run(on("cpu", &["classify", "--prune", "topk:0.3", "w51 w41 w11 w19 unknown", "w7"])).quiet();
    let lines: Vec<&str> = stdout.lines().collect();
    assert_eq!(lines[0], "text      [CLS] w51 w41 w11 w19 [UNK] [SEP]");
    assert!(lines[1].starts_with("L0   ") && lines[4].starts_with("L3   "), "{stdout}");
    assert_eq!(lines[5], "head 1/7  [CLS] ··· ··· ··· ··· ····· ·····");
    assert!(
        lines[7].starts_with("LABEL_")
            && lines[7].contains(" %   retention ")
            && lines[7].contains(" % to find the tokens)")
    );
    assert_eq!(lines[9], "text      [CLS] w7 [SEP]");
    let last = lines.last().expect("a line");
    assert!(last.starts_with("topk:0.3 on cpu: ") && last.ends_with(" ms for 2 inputs"), "{stdout}");
}

#[test]
fn colour_only_where_it_is_wanted() {
    let rows: [(&[(&str, &str)], bool); 6] = [
        (&[], false),
        (&[("NO_COLOR", "1")], false),
        (&[("CLICOLOR_FORCE", "1")], true),
        (&[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")], false),
        (&[("CLICOLOR", "1")], false),
        (&[("TERM", "xterm-256color")], false),
    ];
    check_rows(rows.into_iter().map(|(variables, expected)| {
        let mut command = on("cpu", &["classify", "w7 w8 w9"]);
        command.envs(variables.iter().copied());
        (format!("{variables:?}"), run(command).quiet().contains('\x1b').to_string(), expected.to_string())
    }));
}

/// Tokens, labels and messages cannot command the terminal.
#[test]
fn control_characters_do_not_reach_the_terminal() {
    let folder = scratch("output_control");
    let mut files = tiny_files();
    config("id2label", json!({"0": "\u{1b}[2J", "1": "\u{1b}[2J", "2": "\u{1b}[2J", "3": "\u{9b}2J", "4": "\u{7}"}))(
        &mut files,
    );
    tokenizer(|json| {
        json["normalizer"] = json!(null);
        json["pre_tokenizer"] = json!({"type": "WhitespaceSplit"});
        json["model"]["vocab"].as_object_mut().expect("vocabulary").remove("w96");
        json["model"]["vocab"]["\u{1b}[31mred"] = json!(96);
    })(&mut files);
    // Under BERT's own class its normalizer would come back, as in transformers.
    files.insert("tokenizer_config.json", br#"{"tokenizer_class": "PreTrainedTokenizerFast"}"#.to_vec());
    save(&files, &folder);
    let folder = path(&folder);
    let text = "w7 \u{1b}[31mred \u{1b}]0;title\u{7} w8";
    let mut command = sttabt(["classify", "--backend", "cpu", "--model", &folder, text]);
    // Colours on: otherwise every escape is stripped, whoever wrote it.
    command.env("CLICOLOR_FORCE", "1");
    let stdout = run(command).quiet();
    assert!(stdout.contains("\u{fffd}[31mred"), "{stdout:?}");
    for (place, _) in stdout.match_indices(|c: char| c.is_control() && c != '\n') {
        let ours = ["\x1b[1m", "\x1b[0m", "\x1b[36m", "\x1b[90m"];
        assert!(ours.iter().any(|ours| stdout[place..].starts_with(ours)), "{:?}", &stdout[place..]);
    }
    let clean = |text: &str| !text.contains(|c: char| c.is_control() && c != '\n');
    assert!(clean(&run(sttabt(["info", "--model", &folder])).quiet()));
    let ended = run(sttabt(["classify", "--model", "\u{1b}[2J\u{9b}", "w7"]));
    assert_eq!(ended.failure(), "1 error: no model folder at \u{fffd}[2J\u{fffd} (given by --model)");
    // In JSON they are escaped, and come back as they were.
    let report = run(sttabt(["classify", "--backend", "cpu", "--json", "--model", &folder, text]));
    assert!(clean(&report.stdout));
    assert_eq!(report.json()["results"][0]["text"], text);
}

/// The reader may be gone before the first byte.
#[test]
fn a_closed_pipe_is_no_error() {
    let model = tiny_folder();
    let data = file(&scratch("output_pipe"), "data.tsv", "sentence\tlabel\nw7\t0\n");
    let passages = file(&scratch("output_pipe_rank"), "passages.txt", "w7 w8\n".repeat(500));
    let many: Vec<&str> = std::iter::repeat_n("w7 w8 w9 w10 w11 w12", 500).collect();
    let rows: [Vec<&str>; 11] = [
        ["rank", "--backend", "cpu", "--model", &model, "--label", "0", "--query", "w7", &passages].to_vec(),
        ["rank", "--json", "--backend", "cpu", "--model", &model, "--label", "0", "--query", "w7", &passages].to_vec(),
        [&["classify", "--backend", "cpu", "--model", &model], &many[..]].concat(),
        [&["classify", "--backend", "cpu", "--json", "--model", &model], &many[..]].concat(),
        vec!["eval", "--backend", "cpu", "--model", &model, &data],
        vec!["eval", "--backend", "cpu", "--json", "--model", &model, &data],
        vec!["info", "--model", &model],
        vec!["--help"],
        vec!["classify", "--help"],
        vec!["eval", "--help"],
        vec!["--version"],
    ];
    check_rows(rows.into_iter().map(|args| {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = sttabt(args.iter().copied());
        command.stdout(writer).stderr(std::process::Stdio::piped());
        let ended = command.spawn().expect("a process").wait_with_output().expect("output");
        let found = format!("{:?} {}", ended.status.code(), String::from_utf8_lossy(&ended.stderr));
        (args[..args.len().min(4)].join(" "), found, "Some(0) ".to_owned())
    }));
}

/// Any other failure to write is one.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_an_error() {
    for json in [&[][..], &["--json"]] {
        let mut command = tiny("classify", &[json, &["w7"]].concat());
        command.stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").expect("/dev/full"));
        let failure = run(command).failure();
        assert_eq!(failure, "1 error: writing the output: No space left on device (os error 28)");
    }
}
