//! The figures of a festival as tables.

use std::fmt::Write;

use super::trial::{Delivery, Figures};

/// Everything, for people.
pub fn tables(figures: &Figures) -> String {
    let mut out = String::new();
    let rows = figures.delivery.iter().map(|d| {
        let hops = d.hops.map_or("-".into(), |hops| hops.to_string());
        vec![d.stream.clone(), d.at.clone(), hops, format!("{:.2} %", d.share * 100.0), gap(d)]
    });
    table(&mut out, "Delivery", &["stream", "heard at", "hops", "packets", "longest gap"], rows.collect());
    let rows = figures.wires.iter().map(|w| {
        let (lost, dropped) = (format!("{:.2} %", w.lost * 100.0), w.dropped.to_string());
        vec![
            format!("{} - {}", w.from, w.to),
            w.control_bytes.to_string(),
            w.packets.to_string(),
            lost,
            dropped,
        ]
    });
    let head = ["wire", "messages, B/s", "media, packets/s", "lost", "no room"];
    table(&mut out, "Wires, both ways together", &head, rows.collect());
    let chat = &figures.chat;
    let _ = writeln!(
        out,
        "Chat: {:.2} % of {} deliveries came; half within {} ms, the slowest took {} ms. Tracks led another way: {}.\n",
        chat.share * 100.0,
        chat.due,
        chat.p50_ms,
        chat.worst_ms,
        figures.rerouted
    );
    let list = |names: Vec<String>| if names.is_empty() { "none".into() } else { names.join(", ") };
    let bridges = figures.bridges.iter().map(|(a, b)| format!("{a} - {b}")).collect();
    let _ = writeln!(out, "Relays the mesh hangs on: {}.", list(figures.articulations.clone()));
    let _ = writeln!(out, "Wires the mesh hangs on: {}.\n", list(bridges));
    if !figures.failures.is_empty() {
        let rows = figures.failures.iter().map(|failure| {
            let worst = failure.hurt.iter().filter(|d| !d.lost).map(|d| d.gap_ms).max();
            let lost: Vec<_> =
                failure.hurt.iter().filter(|d| d.lost).map(|d| format!("{} at {}", d.stream, d.at)).collect();
            vec![
                failure.what.clone(),
                list(failure.cut_off.clone()),
                list(lost),
                worst.map_or("none above 20 ms".into(), |gap| format!("{gap} ms")),
            ]
        });
        let head = ["what fails alone", "cut off", "lost for good", "longest gap of the others"];
        table(&mut out, "What breaks the festival", &head, rows.collect());
    }
    out
}

fn gap(delivery: &Delivery) -> String {
    if delivery.lost { "not heard any more".into() } else { format!("{} ms", delivery.gap_ms) }
}

fn table(out: &mut String, title: &str, head: &[&str], rows: Vec<Vec<String>>) {
    let length = |text: &str| text.chars().count();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| length(&row[column]));
        cells.chain([length(head[column])]).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let mut line = |cells: Vec<&str>| {
        let padded: Vec<_> =
            cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        let _ = writeln!(out, "  {}", padded.join("  ").trim_end());
    };
    line(vec![title]);
    line(head.to_vec());
    let rules: Vec<_> = widths.iter().map(|width| "-".repeat(*width)).collect();
    line(rules.iter().map(String::as_str).collect());
    rows.iter().for_each(|row| line(row.iter().map(String::as_str).collect()));
    out.push('\n');
}
