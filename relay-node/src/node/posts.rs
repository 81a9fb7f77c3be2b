//! Posts whose authors wait for an answer: a message is accepted when it is on this relay's disk, and the
//! answer says whether it is on another one too, for which it waits a moment. Without I/O but the replies.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use mesh_routing::LogKey;
use protocol::{
    Topic,
    api::{Posted, Saved},
};
use rooms::RoomsError;
use thiserror::Error;
use tokio::sync::oneshot;

use super::allowance::TooFast;

/// How long an answer waits for the second disk.
pub const PATIENCE: Duration = Duration::from_millis(300);
/// Messages of which it is told later that they came to a second disk.
const LATE_MAX: usize = 4096;

/// Why a message was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PostError {
    /// The message or the room is not as it has to be.
    #[error(transparent)]
    Refused(#[from] RoomsError),
    /// There was too much of it.
    #[error(transparent)]
    TooFast(#[from] TooFast),
    /// It could not be written to disk.
    #[error("the message could not be stored: the operator finds the reason in the relay's log")]
    NotStored,
}

/// Where the answer goes.
pub type Reply = oneshot::Sender<Result<Posted, PostError>>;

/// A record: its log and its number.
type Place = (LogKey, u64);

#[derive(Debug)]
struct Post {
    id: String,
    reply: Reply,
    /// Another relay has it on disk.
    elsewhere: bool,
    /// It is on disk here, and the answer leaves at this time at the latest.
    until: Option<Instant>,
}

/// Posts on their way to one disk and another.
#[derive(Debug, Default)]
pub struct Posts {
    waiting: BTreeMap<Place, Post>,
    /// Answered with [`Saved::Here`].
    late: BTreeMap<Place, String>,
    order: VecDeque<Place>,
}

impl Posts {
    /// A post became this record.
    pub fn handle_appended(&mut self, place: Place, id: String, reply: Reply) {
        self.waiting.insert(place, Post { id, reply, elsewhere: false, until: None });
    }

    /// A record is on this relay's disk, or cannot be. `wait` says whether another relay may answer soon.
    pub fn handle_stored(&mut self, place: &Place, stored: bool, wait: bool, now: Instant) {
        let Some(post) = self.waiting.get_mut(place) else { return };
        match (stored, post.elsewhere, wait) {
            (true, false, true) => post.until = Some(now + PATIENCE),
            (true, elsewhere, _) => {
                self.answer(place, if elsewhere { Saved::Mesh } else { Saved::Here });
            }
            (false, ..) => {
                if let Some(post) = self.waiting.remove(place) {
                    // The participant may have gone.
                    let _ = post.reply.send(Err(PostError::NotStored));
                }
            }
        }
    }

    /// Records of an own log up to a number are on another relay's disk. Gives the messages whose authors
    /// were told otherwise before.
    pub fn handle_saved(&mut self, key: &LogKey, upto: u64) -> Vec<(Topic, String)> {
        let range = (key.clone(), 0)..=(key.clone(), upto);
        let mut done = Vec::new();
        for (place, post) in self.waiting.range_mut(range.clone()) {
            post.elsewhere = true;
            if post.until.is_some() {
                done.push(place.clone());
            }
        }
        for place in done {
            self.answer(&place, Saved::Mesh);
        }
        let late: Vec<Place> = self.late.range(range).map(|(place, _)| place.clone()).collect();
        late.into_iter()
            .filter_map(|place| Some((place.0.topic.clone(), self.late.remove(&place)?)))
            .collect()
    }

    /// Whoever waited long enough is answered.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due = |post: &Post| post.until.is_some_and(|until| until <= now);
        let over = self.waiting.iter().filter(|(_, post)| due(post)).map(|(place, _)| place.clone());
        for place in over.collect::<Vec<_>>() {
            self.answer(&place, Saved::Here);
        }
    }

    /// When [`Posts::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.values().filter_map(|post| post.until).min()
    }

    fn answer(&mut self, place: &Place, saved: Saved) {
        let Some(post) = self.waiting.remove(place) else { return };
        if saved == Saved::Here {
            self.late.insert(place.clone(), post.id.clone());
            self.order.push_back(place.clone());
            if self.order.len() > LATE_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.late.remove(&oldest);
            }
        }
        // The participant may have gone.
        let _ = post.reply.send(Ok(Posted { id: post.id, saved }));
    }
}

#[cfg(test)]
mod tests {
    use protocol::NodeId;

    use super::*;

    fn place(number: u64) -> Place {
        (LogKey { topic: Topic::Announcements, writer: NodeId([1; 32]), incarnation: 1 }, number)
    }

    fn post(posts: &mut Posts, number: u64) -> oneshot::Receiver<Result<Posted, PostError>> {
        let (reply, answer) = oneshot::channel();
        posts.handle_appended(place(number), format!("id-{number}"), reply);
        answer
    }

    fn saved(answer: &mut oneshot::Receiver<Result<Posted, PostError>>) -> Option<Saved> {
        answer.try_recv().ok().map(|posted| posted.expect("is stored").saved)
    }

    #[test]
    fn the_answer_waits_for_the_second_disk_but_not_for_long() {
        let (mut posts, now) = (Posts::default(), crate::clock::now());
        let (mut one, mut two) = (post(&mut posts, 1), post(&mut posts, 2));
        posts.handle_stored(&place(1), true, true, now);
        posts.handle_stored(&place(2), true, true, now);
        assert_eq!((saved(&mut one), posts.poll_timeout()), (None, Some(now + PATIENCE)));
        assert_eq!(posts.handle_saved(&place(1).0, 1), []);
        assert_eq!((saved(&mut one), saved(&mut two)), (Some(Saved::Mesh), None));
        posts.handle_timeout(now + PATIENCE);
        assert_eq!((saved(&mut two), posts.poll_timeout()), (Some(Saved::Here), None));
        // The one that was told otherwise is told again, once.
        let late = (Topic::Announcements, "id-2".to_owned());
        assert_eq!(posts.handle_saved(&place(1).0, 2), [late]);
        assert_eq!(posts.handle_saved(&place(1).0, 2), []);
    }

    #[test]
    fn a_relay_alone_answers_at_once() {
        let (mut posts, now) = (Posts::default(), crate::clock::now());
        let mut answer = post(&mut posts, 1);
        posts.handle_stored(&place(1), true, false, now);
        assert_eq!(saved(&mut answer), Some(Saved::Here));
    }

    #[test]
    fn a_second_disk_does_not_stand_for_the_first() {
        let (mut posts, now) = (Posts::default(), crate::clock::now());
        let (mut one, mut two) = (post(&mut posts, 1), post(&mut posts, 2));
        posts.handle_saved(&place(1).0, 2);
        assert_eq!(saved(&mut one), None);
        posts.handle_stored(&place(1), true, true, now);
        posts.handle_stored(&place(2), false, true, now);
        assert_eq!(saved(&mut one), Some(Saved::Mesh));
        assert_eq!(two.try_recv(), Ok(Err(PostError::NotStored)));
    }
}
