//! What a relay at the edge of an area says to both sides. The shapes are in `wire/area.rs`; what the routes make of
//! other areas is in `route/inter_area.rs`.

pub mod border;
