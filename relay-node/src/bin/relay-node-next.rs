//! A relay that speaks one bridge version more, for tests of how versions live together (feature `next`). Otherwise it is
//! `main.rs`.

use std::process::ExitCode;

#[path = "../main.rs"]
mod ordinary;

fn main() -> ExitCode {
    ordinary::main()
}
