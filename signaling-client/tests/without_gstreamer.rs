//! A build without the feature `gstreamer`: a feed source is refused with what to install, and everything else is there.

#![cfg(not(feature = "gstreamer"))]
#![allow(clippy::unwrap_used, reason = "a step of a test that fails says where by panicking")]

use std::process::Command;

#[test]
fn a_feed_source_is_refused_with_what_to_install_and_build() {
    for what in [&["http://127.0.0.1:9/whip/x", "--test"][..], &["--list-devices"]] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_signaling-client")).arg("publish").args(what).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{said}");
        assert!(said.starts_with("error: this build has no GStreamer: install "), "{said}");
        assert!(said.contains("--features gstreamer") && said.lines().count() == 1, "{said}");
    }
}

#[test]
fn one_source_is_wanted_and_not_two() {
    let url = "http://127.0.0.1:9/whip/x";
    let wrong: [&[&str]; 7] = [
        &[url],
        &[url, "--test", "--tone", "440"],
        &[url, "--test", "--demo"],
        &[url, "--test", "--file", "x.wav"],
        &[url, "--tone", "440", "--channels", "1"],
        &[url, "--test", "--list-devices"],
        &["--test"],
    ];
    for what in wrong {
        let output =
            Command::new(env!("CARGO_BIN_EXE_signaling-client")).arg("publish").args(what).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(64), "{what:?}: {said}");
        assert!(said.contains("Usage:"), "{what:?}: {said}");
    }
}
