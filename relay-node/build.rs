//! Makes sure that the folder of the built web client exists, and builds anew when it changes: without
//! node the relay builds all the same and serves a page that says what is missing.

fn main() {
    let dist = concat!(env!("CARGO_MANIFEST_DIR"), "/../web/dist");
    if let Err(error) = std::fs::create_dir_all(dist) {
        println!("cargo:warning={dist} cannot be made: {error}");
    }
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={dist}");
}
