//! What becomes of files: on chains and rings, on thin, metered and parallel links, past relays that die, lie or
//! lack chunks, and after bytes that no relay sends.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use proptest::prelude::*;
use protocol::{FileId, ZoneName};

mod field;

use super::{Answer, Chunk, FileMessage, FileOutput, Manifest};
use crate::{
    LinkId, Mesh, Output,
    sim::{config, epoch, node, shape},
    wire::message::Message,
};
use field::{Field, chunks};

#[test]
fn a_file_crosses_each_wire_once_although_three_relays_want_it() {
    let mut field = Field::new(4, &shape::chain(4));
    let length = 20 << 20;
    let file = field.publish(0, length);
    for relay in [1, 2, 3] {
        field.want(relay, file, chunks(length), 0);
    }
    let took = field.arrives(3, file, length, 60);
    println!("20 MiB over three hops of 100 Mbit/s in {took:?}");
    for wire in 0..3 {
        println!("wire {wire}: {} bytes, longest queue {:?}", field.crossed(wire), field.wires[wire].queued);
        assert_eq!(field.crossed(wire), length as u64, "wire {wire}");
        assert!(field.wires[wire].queued < Duration::from_millis(60), "{:?}", field.wires[wire].queued);
    }
    assert!(took < Duration::from_secs(4), "{took:?}: 1.7 s is what one wire needs");
    assert_eq!(field.relays[3].ready.len() as u32, chunks(length));
}

#[test]
fn readers_of_one_relay_share_what_is_fetched() {
    let mut field = Field::new(9, &(1..9).map(|leaf| (0, leaf)).collect::<Vec<_>>());
    let length = 2 << 20;
    let file = field.publish(1, length);
    for leaf in 2..9 {
        field.want(leaf, file, chunks(length), 1);
        field.want(leaf, file, chunks(length), 1);
    }
    field.arrives(8, file, length, 30);
    field.run(Duration::from_secs(5));
    assert_eq!(field.relays[0].stored as u32, chunks(length) + 1);
    assert!((0..8).all(|wire| field.crossed(wire) == length as u64));
}

#[test]
fn when_a_relay_on_the_way_dies_the_rest_comes_another_way() {
    // 0 – 1 – 3 and 0 – 2 – 3.
    let mut field = Field::new(4, &[(0, 1), (1, 3), (0, 2), (2, 3)]);
    let length = 8 << 20;
    let file = field.publish(0, length);
    field.want(3, file, chunks(length), 0);
    field.run(Duration::from_millis(250));
    let before = field.relays[3].mesh.as_ref().unwrap().file_bytes_here(&file);
    assert!(before > 0 && before < length as u64, "{before} bytes are there when the relay dies");
    field.kill(1);
    let took = field.arrives(3, file, length, 30);
    println!("{before} bytes were there, the rest took {took:?}");
    assert!(field.relays[3].missing.is_empty());
    assert_eq!(field.relays[3].stored as u32, chunks(length) + 1, "no chunk came twice");
}

#[test]
fn both_ways_of_a_ring_carry_it() {
    let mut field = Field::new(4, &[(0, 1), (1, 3), (0, 2), (2, 3)]);
    // Of the usual size: with less under way on a link it is idle now and then.
    field.chunk_bits = 20;
    let length = 20 << 20;
    let file = field.publish(0, length);
    field.want(3, file, 20, 0);
    let took = field.arrives(3, file, length, 30);
    println!("20 MiB over two ways of 100 Mbit/s each in {took:?}");
    assert!(field.crossed(1) > length as u64 / 4 && field.crossed(3) > length as u64 / 4);
    assert!(took < Duration::from_millis(1600), "{took:?}: one way needs 1.7 s");
}

#[test]
fn parallel_links_to_one_neighbor_carry_it_together() {
    let mut field = Field::new(2, &[(0, 1), (0, 1)]);
    let length = 8 << 20;
    let file = field.publish(0, length);
    field.want(1, file, chunks(length), 0);
    field.arrives(1, file, length, 30);
    assert!(field.crossed(0) > length as u64 / 4 && field.crossed(1) > length as u64 / 4);
    assert_eq!(field.crossed(0) + field.crossed(1), length as u64);
}

#[test]
fn a_metered_link_is_used_only_while_there_is_no_other() {
    let mut field = Field::new(2, &[(0, 1), (0, 1)]);
    field.unplug(0);
    field.wires[0].metered = true;
    field.plug(0);
    field.run(Duration::from_secs(4));
    let length = 1 << 20;
    let file = field.publish(0, length);
    field.want(1, file, chunks(length), 0);
    field.arrives(1, file, length, 30);
    assert_eq!((field.crossed(0), field.crossed(1)), (0, length as u64));
    field.unplug(1);
    let other = field.publish(0, length / 2);
    field.want(1, other, chunks(length / 2), 0);
    field.arrives(1, other, length / 2, 30);
    assert_eq!(field.crossed(0), length as u64 / 2);
}

#[test]
fn a_cut_is_resumed_where_it_was() {
    let mut field = Field::new(2, &[(0, 1)]);
    let length = 8 << 20;
    let file = field.publish(0, length);
    field.want(1, file, chunks(length), 0);
    field.run(Duration::from_millis(300));
    let before = field.relays[1].stored;
    assert!(before > 10 && before < 100, "{before}");
    field.unplug(0);
    field.run(Duration::from_secs(8));
    field.plug(0);
    field.arrives(1, file, length, 12);
    assert!(field.relays[1].missing.is_empty(), "20 s are waited");
    assert_eq!(field.relays[1].stored as u32, chunks(length) + 1);
    assert!(field.crossed(0) < length as u64 + (2 << 20), "{}", field.crossed(0));
}

#[test]
fn a_neighbor_that_has_a_part_of_it_is_no_obstacle_on_the_way_to_the_rest() {
    let mut field = Field::new(3, &shape::chain(3));
    let length = 8 << 20;
    let file = field.publish(0, length);
    field.want(2, file, chunks(length), 0);
    field.run(Duration::from_millis(400));
    let bytes = field.relays[1].mesh.as_ref().unwrap().file_bytes_here(&file);
    assert!(bytes > 0 && bytes < length as u64, "{bytes} bytes are on the way when it is cut");
    // The reader finds nobody, asks everybody, and hears that its neighbor has the file.
    field.unplug(0);
    field.run(Duration::from_secs(3));
    field.plug(0);
    let took = field.arrives(2, file, length, 15);
    println!("the rest took {took:?}");
    assert!(field.relays[2].missing.is_empty());
}

#[test]
fn a_neighbor_that_corrupts_is_found_out_and_passed_by() {
    let mut field = Field::new(4, &[(0, 1), (1, 3), (0, 2), (2, 3)]);
    let length = 1 << 20;
    let file = field.publish(0, length);
    field.relays[1].corrupts = true;
    field.want(3, file, chunks(length), 0);
    field.arrives(3, file, length, 30);
    let good = field.relays[0].disk.clone();
    assert!(field.relays[3].disk.iter().all(|(key, bytes)| good[key] == *bytes));
    let corrupt = field.relays[3].mesh.as_ref().unwrap().file_counters().corrupt;
    assert!(corrupt > 0);
}

#[test]
fn a_file_whose_origin_is_gone_comes_from_who_has_it() {
    let mut field = Field::new(5, &shape::chain(5));
    let length = 1 << 20;
    let file = field.publish(2, length);
    field.want(0, file, chunks(length), 2);
    field.arrives(0, file, length, 30);
    // 1 has passed it on and forgets it, 2 dies, and 4 gets another link to the rest.
    field.kill(2);
    let now = field.now;
    field.relays[1].disk.clear();
    field.with(1, |mesh| mesh.handle_file_gone(file, None, now));
    field.lay(1, 3);
    field.run(Duration::from_secs(4));
    field.want(4, file, chunks(length), 2);
    let took = field.arrives(4, file, length, 18);
    println!("found in {took:?}");
}

#[test]
fn what_nobody_has_is_missing_after_twenty_seconds() {
    let mut field = Field::new(3, &shape::chain(3));
    let file = FileId([7; 32]);
    field.want(2, file, 1, 0);
    field.run(Duration::from_secs(15));
    assert!(field.relays[2].missing.is_empty());
    field.run(Duration::from_secs(10));
    assert_eq!(field.relays[2].missing, BTreeSet::from([(file, Chunk::Data(0))]));
    assert!(
        field.relays.iter().all(|r| r.mesh.as_ref().unwrap().blobs().files.is_empty()),
        "nothing is left over"
    );
}

#[test]
fn a_disk_that_refuses_is_told_to_those_who_wait() {
    let mut field = Field::new(3, &shape::chain(3));
    let length = 1 << 17;
    let file = field.publish(0, length);
    field.relays[2].full = true;
    field.want(2, file, 1, 0);
    field.run(Duration::from_secs(3));
    assert!(field.relays[2].missing.contains(&(file, Chunk::Data(0))));
}

#[test]
fn a_thin_link_keeps_its_queue_short() {
    let mut field = Field::new(2, &[(0, 1)]);
    field.wires[0].rate = 250_000;
    let length = 3 << 20;
    let file = field.publish(0, length);
    field.want(1, file, chunks(length), 0);
    field.run(Duration::from_secs(4));
    let opening = std::mem::take(&mut field.wires[0].queued);
    let took = field.arrives(1, file, length, 60);
    println!("2 Mbit/s: queue while opening {opening:?}, then {:?}, {took:?}", field.wires[0].queued);
    assert!(field.wires[0].queued < Duration::from_millis(60));
}

#[test]
fn answers_and_blocks_that_nobody_asked_for_change_nothing() {
    let mut field = Field::new(2, &[(0, 1)]);
    let length = 1 << 17;
    let file = field.publish(0, length);
    let (now, link) = (field.now, field.wires[0].links[1]);
    let chunk = Chunk::Data(0);
    for message in [
        FileMessage::Answer { file, chunk, answer: Answer::Ready { length: 9 } },
        FileMessage::Block { file, chunk, offset: 0, bytes: Bytes::from_static(b"x") },
        FileMessage::Have { file, holder: node(0), asker: node(1), hops: 0 },
        FileMessage::Pull { file, chunk, offset: u32::MAX, length: 1 },
    ] {
        field.with(1, |mesh| mesh.handle_message(link, &Message::File(message).encode(), now).unwrap());
    }
    let blobs = field.relays[1].mesh.as_ref().unwrap().blobs();
    assert!(blobs.files.is_empty() && blobs.pulls.is_empty());
    // A pull outside of a chunk that is here is wrong.
    let wrong = Message::File(FileMessage::Pull { file, chunk, offset: u32::MAX, length: 1 }).encode();
    let link = field.wires[0].links[0];
    field.with(0, |mesh| assert!(mesh.handle_message(link, &wrong, now).is_err()));
}

/// One of each, about a file of two chunks at the relay that gets them or about another one.
fn samples(file: FileId) -> Vec<FileMessage> {
    let mut samples = Vec::new();
    for chunk in [Chunk::Manifest, Chunk::Data(0), Chunk::Data(1)] {
        samples.extend([
            FileMessage::Want { file, chunk, holder: node(2), path: vec![node(1)] },
            FileMessage::Answer { file, chunk, answer: Answer::Ready { length: 70 } },
            FileMessage::Answer { file, chunk, answer: Answer::Working },
            FileMessage::Answer { file, chunk, answer: Answer::NotHere },
            FileMessage::Pull { file, chunk, offset: 3, length: 60 },
            FileMessage::Block { file, chunk, offset: 0, bytes: Bytes::from_static(b"bytes") },
        ]);
    }
    samples.push(FileMessage::Seek { file, asker: node(1), nonce: 4, hops: 1 });
    samples.push(FileMessage::Have { file, holder: node(2), asker: node(0), hops: 1 });
    samples
}

#[test]
fn every_message_reads_back_as_written() {
    for message in samples(FileId([1; 32])) {
        let message = Message::File(message);
        assert_eq!(Message::decode(&message.encode()), Ok(message));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn mutated_messages_are_survived(
        picks in proptest::collection::vec(
            (any::<prop::sample::Index>(), any::<u16>(), any::<u8>(), any::<bool>(), any::<bool>()), 1..40,
        ),
    ) {
        let now = epoch();
        let zone = ZoneName::new("stage").unwrap();
        let mut mesh = Mesh::new(config(node(0), zone, 1, 1), now);
        mesh.handle_link_up(LinkId(1), node(1), now);
        let chunks = vec![*blake3::hash(&[0; 1024]).as_bytes(); 2];
        let media_type = String::new();
        let manifest = Manifest { name: "a".into(), media_type, length: 2048, chunk_bits: 10, chunks };
        let here = manifest.id();
        assert!(mesh.handle_file_here(here, manifest, &[true, false]));
        let other = FileId([9; 32]);
        let mut now = now;
        for (pick, at, value, mutate, wanted) in picks {
            let file = if wanted { other } else { here };
            mesh.handle_file_want(file, Chunk::Data(1), Some(node(1)), now);
            let mut bytes = Message::File(pick.get(&samples(file)).clone()).encode().to_vec();
            if mutate {
                let at = usize::from(at) % bytes.len();
                bytes[at] = value;
            }
            let _ = mesh.handle_message(LinkId(1), &bytes, now);
            while let Some(output) = mesh.poll_output() {
                match output {
                    Output::File(FileOutput::Store { file, chunk, .. }) => {
                        mesh.handle_file_stored(file, chunk, true, now);
                    }
                    Output::File(FileOutput::Read { link, block }) => {
                        let bytes = vec![0; block.length as usize].into();
                        mesh.handle_file_read(link, block, Some(bytes), now);
                    }
                    _ => {}
                }
            }
            now += Duration::from_millis(300);
            mesh.handle_timeout(now);
            let _ = (mesh.poll_timeout(), mesh.file_bytes_here(&file));
        }
    }
}
