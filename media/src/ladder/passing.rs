//! The publisher's own packets in the place of rungs that are closed. Who gets a rung over a link goes on with them, until
//! what the publisher sends has come there as such. A rung packet has the number, the time and the epoch of the packet that
//! it stands for, so nothing but the rate changes.

use std::{cmp::Reverse, collections::VecDeque};

use super::RUNGS;
use crate::rtp::{packet::Packet, sequence::is_newer};

/// Packets that have come and may not have left as rung packets: an encoder is behind by one or two, and a number that is
/// missing is waited for.
const RECENT: usize = 24;

/// What of one stage has come and what has left.
#[derive(Debug, Default)]
pub struct Passing {
    recent: VecDeque<Packet>,
    /// Epoch and number of what left last of each rung.
    left: [Option<(u8, u16)>; RUNGS],
}

impl Passing {
    /// A packet of the publisher came.
    pub fn handle_packet(&mut self, packet: &Packet) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(packet.clone());
    }

    /// A packet of this rung leaves, whoever made it.
    pub fn handle_left(&mut self, rung: usize, packet: &Packet) {
        let left = &mut self.left[rung];
        let follows = |(epoch, number): (u8, u16)| epoch != packet.epoch || is_newer(packet.sequence, number);
        if left.is_none_or(follows) {
            *left = Some((packet.epoch, packet.sequence));
        }
    }

    /// A rung is not made any more: what has come and has not left as a packet of it, in order. Of one that has not begun it
    /// is nothing.
    pub fn behind(&self, rung: usize) -> Vec<Packet> {
        let (Some((epoch, number)), Some(newest)) = (self.left[rung], self.recent.back()) else {
            return Vec::new();
        };
        let is_behind = |packet: &&Packet| {
            packet.epoch == newest.epoch && (packet.epoch != epoch || is_newer(packet.sequence, number))
        };
        let mut behind: Vec<Packet> = self.recent.iter().filter(is_behind).cloned().collect();
        behind.sort_by_key(|packet| Reverse(newest.sequence.wrapping_sub(packet.sequence) as i16));
        behind
    }

    /// Nobody wants this rung any more.
    pub fn forget(&mut self, rung: usize) {
        self.left[rung] = None;
    }
}
