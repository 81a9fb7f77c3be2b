//! For the fuzzer: the parsers of what a relay says before it is known who it is.

use super::{admission, stream::Hello};

/// The frame of a hello; whether it is one. What is read is written as it was.
pub fn hello(frame: &[u8]) -> bool {
    match Hello::from_frame(frame) {
        Ok(hello) => {
            let again = Hello::from_frame(&hello.to_frame());
            assert!(matches!(again, Ok(again) if again == hello), "a hello reads back as written");
            true
        }
        Err(_) => false,
    }
}

/// A hello that shows this token and these papers.
pub fn sample(zone: protocol::ZoneName, token: Option<String>, papers: Vec<String>) -> Vec<u8> {
    Hello { zone, festival: token, papers, underlay: Default::default() }.to_frame().to_vec()
}

/// The frame of papers on a stream of their own.
pub fn papers(frame: &[u8]) -> Option<Vec<String>> {
    admission::papers_in(frame).ok()
}
