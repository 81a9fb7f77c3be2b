//! Makes sure that the folder of the built web client exists, and builds a release anew when it changes: without
//! node the relay builds all the same and serves a page that says what is missing. Other builds read the pages
//! from the folder while they run, so that pages and relay can be built side by side.

fn main() {
    let dist = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/dist");
    if let Err(error) = std::fs::create_dir_all(dist) {
        println!("cargo:warning={dist} cannot be made: {error}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo:rerun-if-changed={dist}");
    }
}
