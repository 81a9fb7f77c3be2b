//! What it costs to compute routes after a change of the mesh: graph, own paths, and the ways to twenty origins;
//! and the trees that records are flooded down.

use std::{hint::black_box, time::Instant};

use mesh_routing::sim::route_load::RouteLoad;

/// The median of some runs, in milliseconds.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn median<T>(runs: usize, what: impl Fn() -> T) -> f64 {
    let mut took: Vec<f64> = (0..runs)
        .map(|_| {
            let began = Instant::now();
            black_box(what());
            began.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    took.sort_by(f64::total_cmp);
    took[took.len() / 2]
}

fn main() {
    println!("| relays | graph and own paths | with the ways to 20 origins | with the flood trees |");
    println!("|---|---|---|---|");
    for (relays, runs) in [(50, 1001), (500, 201), (5000, 21)] {
        let load = RouteLoad::new(relays, 20, 7);
        let paths = median(runs, || load.compute_paths());
        let ways = median(runs, || load.compute());
        let trees = median(runs, || load.compute_flood_trees());
        println!("| {relays} | {paths:.3} ms | {ways:.3} ms | {trees:.3} ms |");
    }
}
