//! Hellos read back as written, later ones too, and a million that were damaged do no harm.

use mesh_routing::UnderlayKind;
use proptest::prelude::*;

use super::*;

fn versions(lowest: u16, highest: u16) -> BridgeVersions {
    BridgeVersions::new(BridgeVersion(lowest), BridgeVersion(highest)).unwrap()
}

fn hello(versions: BridgeVersions) -> Hello {
    Hello {
        versions,
        zone: ZoneName::new("stage").unwrap(),
        festival: Some("a token".into()),
        updates: vec!["a list".into(), String::new()],
        underlay: Underlay { kind: UnderlayKind::Lte, metered: true, bias: 700 },
        incarnation: None,
    }
}

/// The versions of a hello, lowest first, and the fields of another one behind them.
fn with_versions(lowest: u16, highest: u16) -> Vec<u8> {
    let rest = hello(BridgeVersions::SPOKEN).to_frame();
    [&highest.to_be_bytes()[..], &lowest.to_be_bytes(), &rest[4..]].concat()
}

#[test]
fn a_hello_reads_back_as_written() {
    for range in [versions(1, 1), BridgeVersions::SPOKEN, versions(1, u16::MAX)] {
        let (read, _) = Hello::from_frame(&hello(range).to_frame()).unwrap();
        assert_eq!(read, hello(range));
    }
    let bare = Hello { festival: None, updates: vec![], ..hello(BridgeVersions::SPOKEN) };
    assert_eq!(Hello::from_frame(&bare.to_frame()).unwrap().0, bare);
}

#[test]
fn fields_of_a_later_version_are_passed_over_and_counted() {
    let mut frame = hello(BridgeVersions::SPOKEN).to_frame().to_vec();
    let (_, known) = Hello::from_frame(&frame).unwrap();
    fields::write(&mut frame, 90, &[0xff; 1000]);
    fields::write(&mut frame, 91, b"");
    let (read, unknown) = Hello::from_frame(&frame).unwrap();
    assert_eq!((read, unknown), (hello(BridgeVersions::SPOKEN), known + 2));
    frame.push(7);
    assert!(matches!(Hello::from_frame(&frame), Err(StreamError::NotHello)));
}

#[test]
fn an_underlay_that_is_not_known_is_one_of_which_nothing_is_said() {
    let mut frame = BridgeVersions::SPOKEN.highest().0.to_be_bytes().repeat(2);
    fields::write(&mut frame, ZONE, b"stage");
    fields::write(&mut frame, UNDERLAY, &[99, 1, 2]);
    assert_eq!(Hello::from_frame(&frame).unwrap().0.underlay, Underlay::default());
}

#[test]
fn a_range_that_is_empty_or_reversed_is_no_hello() {
    for (lowest, highest) in [(0, 0), (0, u16::MAX), (5, 4), (u16::MAX, 1), (u16::MAX, 0)] {
        let read = Hello::from_frame(&with_versions(lowest, highest));
        assert!(matches!(read, Err(StreamError::NoVersions { .. })), "{lowest} to {highest}: {read:?}");
    }
    assert_eq!(Hello::from_frame(&with_versions(1, u16::MAX)).unwrap().0.versions, versions(1, u16::MAX));
}

#[test]
fn a_hello_from_before_there_were_ranges_is_refused() {
    // Version 3, then the zone "stage" in postcard.
    let old = [&[0, 3, 5][..], b"stage", &[0, 0, 0, 0, 0]].concat();
    assert!(matches!(Hello::from_frame(&old), Err(StreamError::NoVersions { lowest: 1395, highest: 3 })));
}

/// Good ones, with ranges of every kind, changed in one to four places.
#[test]
fn a_million_damaged_hellos_do_no_harm() {
    let edges = [0, 1, 3, 4, 5, 6, 0x7fff, 0x8000, u16::MAX - 1, u16::MAX];
    let mut good = Vec::new();
    for lowest in edges {
        good.extend(edges.map(|highest| with_versions(lowest, highest)));
    }
    let bare = Hello { festival: None, updates: vec![], ..hello(BridgeVersions::SPOKEN) };
    good.push(bare.to_frame().to_vec());
    // A xorshift generator: the same hellos each time.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = move |bound: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % bound as u64) as usize
    };
    let (mut read, mut no_versions, mut no_hello, mut none_common) = (0, 0, 0, 0);
    for _ in 0..1_000_000 {
        let mut frame = good[below(good.len())].clone();
        for _ in 0..=below(4) {
            let at = below(frame.len());
            match below(6) {
                0 => frame[at] = below(256) as u8,
                1 => frame[at] ^= 1 << below(8),
                2 => frame.truncate(at.max(1)),
                3 => frame.insert(at, [0, 0x7f, 0x80, 0xff][below(4)]),
                4 => drop(frame.remove(at)),
                // In the versions.
                _ => frame[at % 4] = [0, 1, 4, 5, 0xff][below(5)],
            }
            if frame.is_empty() {
                break;
            }
        }
        match Hello::from_frame(&frame) {
            Ok((hello, _)) => {
                read += 1;
                none_common += u32::from(hello.versions.common(BridgeVersions::SPOKEN).is_none());
                let (again, _) = Hello::from_frame(&hello.to_frame()).unwrap();
                assert_eq!(again, hello);
            }
            Err(StreamError::NoVersions { .. }) => no_versions += 1,
            Err(_) => no_hello += 1,
        }
    }
    println!(
        "{read} were read, {none_common} of them without a common version, {no_versions} had none, {no_hello} were no hellos"
    );
    assert!(read > 50_000 && none_common > 10_000 && no_versions > 50_000 && no_hello > 50_000);
}

proptest! {
    #[test]
    fn no_bytes_make_the_hello_panic(bytes: Vec<u8>) {
        let _ = Hello::from_frame(&bytes);
    }
}
