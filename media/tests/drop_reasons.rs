//! The table of docs/media.md and the reasons of the media plane are the same ones.

use media::DropReason;

const MANUAL: &str = include_str!("../../docs/media.md");

/// The labels in the first column of the table below this heading.
fn labels(heading: &str) -> Vec<&'static str> {
    let (_, section) = MANUAL.split_once(heading).expect("a heading of the manual");
    let (section, _) = section.split_once("\n#").expect("not the last heading");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once(" |"));
    rows.flat_map(|(first, _)| first.split('`').step_by(2)).collect()
}

#[test]
fn every_reason_is_in_the_manual_and_every_one_there_is_a_reason() {
    let mut told = labels("\n### Dropped by the media plane\n");
    let mut known: Vec<&str> = DropReason::ALL.iter().map(|reason| reason.label()).collect();
    told.sort_unstable();
    known.sort_unstable();
    assert_eq!(told, known);
    assert!(known.windows(2).all(|pair| pair[0] != pair[1]), "a label twice");
}
