//! How far logs go, and how two relays find out what one of them lacks (anti-entropy): heads of all logs, or, where there
//! are many, first a hash for each topic. What lacks is asked for by `pulls.rs`.

use std::{collections::BTreeMap, time::Instant};

use protocol::Topic;

use super::{LogKey, Logs, NUMBER_MAX, single::Log};
use crate::wire::{
    message::{Head, Message},
    metric::LinkId,
    signature::first_word,
};

/// Up to so many logs are compared at once, more by topic first: the heads of a few are shorter than a question and an
/// answer more.
const FEW: usize = 64;

impl Logs {
    /// What to tell a neighbor for it to find out what it lacks: how far the logs go, or, if there are many,
    /// a hash for each topic besides those of the announcements.
    pub fn compare(&self) -> Vec<Message> {
        if self.logs.len() <= FEW {
            return self.heads(self.logs.keys(), false);
        }
        let announcements = self.logs.keys().take_while(|key| key.topic == Topic::Announcements);
        let mut messages = self.heads(announcements, false);
        messages.extend(self.topics());
        messages
    }

    /// A hash for each topic, in messages of bounded length.
    pub fn topics(&self) -> Vec<Message> {
        let mut hashes: Vec<(Topic, blake3::Hasher)> = Vec::new();
        for (key, log) in &self.logs {
            if hashes.last().is_none_or(|(topic, _)| *topic != key.topic) {
                hashes.push((key.topic.clone(), blake3::Hasher::new()));
            }
            if let Some((_, hasher)) = hashes.last_mut() {
                hash_head(hasher, key, log);
            }
        }
        let entries: Vec<_> =
            hashes.into_iter().map(|(topic, hasher)| (topic, first_word(&hasher))).collect();
        let parts = entries.chunks(Message::TOPICS_MAX);
        let (count, mut after) = (parts.len(), None);
        let message = |(index, part): (usize, &[(Topic, u64)])| {
            let until = part.last().filter(|_| index + 1 < count).map(|(topic, _)| topic.clone());
            let message =
                Message::Topics { after: after.take(), until: until.clone(), entries: part.to_vec() };
            after = until;
            message
        };
        parts.enumerate().map(message).collect()
    }

    /// How far the logs go of those topics between `after` and `until` whose hash is another.
    pub fn differing(
        &self,
        (after, until): (Option<&Topic>, Option<&Topic>),
        entries: &[(Topic, u64)],
    ) -> Vec<Message> {
        let theirs: BTreeMap<&Topic, u64> = entries.iter().map(|(topic, hash)| (topic, *hash)).collect();
        let within = |topic: &Topic| {
            after.is_none_or(|after| topic > after) && until.is_none_or(|until| topic <= until)
        };
        let mut hashes: BTreeMap<&Topic, blake3::Hasher> = BTreeMap::new();
        for (key, log) in self.logs.iter().filter(|(key, _)| within(&key.topic)) {
            hash_head(hashes.entry(&key.topic).or_default(), key, log);
        }
        hashes.retain(|topic, hasher| theirs.get(topic) != Some(&first_word(hasher)));
        self.heads(self.logs.keys().filter(|key| hashes.contains_key(&key.topic)), false)
    }

    /// How far some logs go, in messages of bounded length. Announcements come first; a few logs of chat go
    /// along with them, so that the other side knows of both at once and asks in that order.
    pub fn heads<'a>(&self, keys: impl Iterator<Item = &'a LogKey>, fresh: bool) -> Vec<Message> {
        let head = |key: &LogKey| {
            let log = self.logs.get(key)?;
            Some(Head { key: key.clone(), floor: log.floor, highest: log.highest() })
        };
        let heads: Vec<Head> = keys.filter_map(head).collect();
        let (first, rest): (Vec<_>, Vec<_>) =
            heads.into_iter().partition(|head| head.key.topic == Topic::Announcements);
        if first.len() + rest.len() <= FEW {
            let entries: Vec<_> = first.into_iter().chain(rest).collect();
            return if entries.is_empty() { Vec::new() } else { vec![Message::Heads { entries, fresh }] };
        }
        let parts = first.chunks(Message::HEADS_MAX).chain(rest.chunks(Message::HEADS_MAX));
        parts.map(|part| Message::Heads { entries: part.to_vec(), fresh }).collect()
    }

    /// A neighbor's logs go so far. What lacks here is asked for from `due` on.
    pub fn handle_heads(&mut self, link: LinkId, heads: &[Head], due: Instant) {
        for head in heads.iter().filter(|head| head.highest <= NUMBER_MAX) {
            self.ask_for_holes(link, head, due);
            let refused = self.refused.get(&(head.key.clone(), link));
            let has_more = head.highest > self.highest(&head.key).max(refused.copied().unwrap_or(0));
            if has_more && self.wants(&head.key, head.highest) {
                self.pulls.offer(&head.key, link, head.highest, due);
            }
        }
    }

    /// Equal on two relays whose logs go equally far.
    pub fn hash(&self) -> u64 {
        let mut hasher = blake3::Hasher::new();
        for (key, log) in &self.logs {
            hash_head(&mut hasher, key, log);
        }
        first_word(&hasher)
    }
}

fn hash_head(hasher: &mut blake3::Hasher, key: &LogKey, log: &Log) {
    let key = postcard::to_stdvec(key).expect("names and numbers always serialize");
    hasher.update(&key).update(&log.highest().to_be_bytes());
}
