use super::*;

fn names(list: &str) -> Vec<String> {
    list.split('|').map(str::to_owned).collect()
}

/// Labels as digits, and the note; or the error. The place of a label is its number from 1.
fn decided(carrier: Carrier, model: &str, written: &str, asked: Option<Reading>) -> String {
    let written: Vec<&str> = written.split_whitespace().collect();
    match decide(carrier, &written, |at| (at + 1).to_string(), &names(model), asked) {
        Ok(Decided { labels, note }) => {
            let labels: Vec<String> = labels.iter().map(usize::to_string).collect();
            labels.join(" ") + &note.map_or(String::new(), |note| format!(", {note}"))
        }
        Err(error) => error,
    }
}

#[test]
fn labels_are_read_as_a_whole() {
    const STARS: &str = "1 star|2 stars|3 stars|4 stars|5 stars";
    const INDICES: &str = "labels are read as indices, so that 0 is";
    const NAMES: &str = "with --labels name they are the model's names";
    const WAYS: &str = "and all labels can be read both ways; say which with --labels name or --labels index";
    let (name, index) = (Some(Reading::Name), Some(Reading::Index));
    let rows = [
        ("no|yes", "no YES yes", None, "0 1 1".to_owned()),
        ("no|yes", "0 1 1.0 0.", None, "0 1 1 0".to_owned()),
        (
            "no|yes",
            "yes 1 no",
            None,
            "2: `1` is an index, and `yes` (1) is a name; expected all names or all indices".to_owned(),
        ),
        ("no|yes", "yes 1", name, "2: label `1`, expected one of: no, yes".to_owned()),
        ("no|yes", "1 yes", index, "2: label `yes`, expected 0 to 1".to_owned()),
        ("no|yes", "1 2", None, "2: label `2`, expected 0 to 1 or one of: no, yes".to_owned()),
        ("no|yes", "1 0.5", None, "2: label `0.5`, expected 0 to 1 or one of: no, yes".to_owned()),
        ("no|yes", "-1", None, "1: label `-1`, expected 0 to 1 or one of: no, yes".to_owned()),
        ("no|yes", "+1", None, "1: label `+1`, expected 0 to 1 or one of: no, yes".to_owned()),
        ("no|No|yes", "No no yes", None, "1 0 2".to_owned()),
        ("no|No|yes", "yes NO", None, "2: labels 0 and 1 are called `NO`; give the index instead".to_owned()),
        ("LABEL_0|LABEL_1", "1 0", None, "1 0".to_owned()),
        ("0|1", "1 0", None, "1 0".to_owned()),
        ("1|0", "1 1", None, format!("1: label `1` is ambiguous: as a name it is `1`, as an index `0`, {WAYS}")),
        ("1|0", "1 0", name, "0 1".to_owned()),
        ("1|0", "1 0", index, "1 0".to_owned()),
        ("1|2|3|4|5", "0 4 1", None, format!("0 4 1, {INDICES} `1`; {NAMES}")),
        ("1|2|3|4|5", "5 1", None, "4 0".to_owned()),
        ("1|2|3|4|5", "1 4", None, format!("1: label `1` is ambiguous: as a name it is `1`, as an index `2`, {WAYS}")),
        (
            "1|2|3|4|5",
            "1.0 4.0",
            None,
            format!("1: label `1.0` is ambiguous: as a name it is `1`, as an index `2`, {WAYS}"),
        ),
        (
            "1|2|3|4|5",
            "5 0",
            None,
            "2: `0` is an index, and `5` (1) is a name; expected all names or all indices".to_owned(),
        ),
        (STARS, "5 1", None, "4 0, labels are read as the numbers in the model's names: `5` is `5 stars`".to_owned()),
        (STARS, "0 4", None, format!("0 4, {INDICES} `1 star`; {NAMES}")),
        (
            STARS,
            "2 3",
            None,
            format!("1: label `2` is ambiguous: as a name it is `2 stars`, as an index `3 stars`, {WAYS}"),
        ),
        (STARS, "2 3", name, "1 2".to_owned()),
        ("a 1|b 1", "1 0", None, "1 0".to_owned()),
        ("zero|one|two|2", "0 2", None, format!("0 2, {INDICES} `zero`; {NAMES}")),
        ("zero|one|two|2", "zero 2", None, "0 3".to_owned()),
    ];
    for (model, written, asked, expected) in rows {
        let found = decided(Carrier::Rows, model, written, asked);
        assert_eq!(found, expected, "{model}: {written}");
    }
    let written = ["2 stars", "5 Stars"];
    let found = decide(Carrier::Rows, &written, |at| at.to_string(), &names(STARS), None);
    assert_eq!(found, Ok(Decided { labels: vec![1, 4], note: None }));
}

/// Folders may be called by index where a name is not enough, and it is said.
#[test]
fn folders_mix_in_the_open() {
    let rows = [
        ("no|yes|yes", "no 2", "0 2, labels are read by name and by index: `2` is an index, and `no` (1) is a name"),
        ("no|yes|yes", "no yes", "2: labels 1 and 2 are called `yes`; give the index instead"),
        ("1|2|3", "0 3", "1: `0` is an index, and `3` (2) is a name; expected all names or all indices"),
        ("one|2|3", "0 3", "1: `0` is an index, and `3` (2) is a name; expected all names or all indices"),
        ("no|yes", "maybe", "1: no class `maybe`, expected an index from 0 to 1 or one of the model's labels"),
    ];
    for (model, written, expected) in rows {
        assert_eq!(decided(Carrier::Folders, model, written, None), expected, "{model}: {written}");
    }
}

#[test]
fn the_list_of_imagenet_ids_is_whole() {
    let wnids: Vec<&str> = IMAGENET_WNIDS.lines().collect();
    assert_eq!(wnids.len(), 1000);
    assert!(wnids.is_sorted_by(|a, b| a < b), "labels are in order of their ids");
    assert_eq!((wnids[0], wnids[217], wnids[999]), ("n01440764", "n02102040", "n15075141"));
}
