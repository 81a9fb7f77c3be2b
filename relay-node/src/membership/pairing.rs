//! How two relays that know nothing of each other come to trust each other: both show six digits, and two
//! people compare them. Pure; the connection, the terminal and the files are `cli/pair.rs`'s.
//!
//! The digits are a hash over both keys and both nonces. Who dials promises its nonce by a hash before it
//! knows the other's, and reveals it afterwards: somebody in the middle has to choose its own nonces before
//! it can know either code, so it hits the same digits on both sides once in a million tries, and each try
//! costs two people a look.

use std::{
    collections::VecDeque,
    fmt,
    str::FromStr,
    time::{Duration, Instant},
};

use protocol::{NodeId, ZoneName};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// How long one try may take.
pub const TRY: Duration = Duration::from_secs(60);
/// Tries in a minute.
pub const TRIES_MAX: usize = 3;

/// A nonce: random, used once.
pub type Nonce = [u8; 32];

/// What both screens show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code(u32);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03} {:03}", self.0 / 1000, self.0 % 1000)
    }
}

impl FromStr for Code {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Code, Self::Err> {
        let digits: String = text.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
        if digits.len() != 6 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
            return Err("a code is six digits, like 482913");
        }
        digits.parse().map(Code).map_err(|_| "a code is six digits, like 482913")
    }
}

/// What one side says to the other, in this order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The one who dialed: its zone, and the hash of its nonce.
    Promise(ZoneName, [u8; 32]),
    /// The one who was dialed: its zone and its nonce.
    Answer(ZoneName, Nonce),
    /// The nonce that was promised.
    Reveal(Nonce),
    /// Whether the person here saw the same digits.
    Verdict(bool),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send it.
    Send(Message),
    /// Show it, and ask.
    Show(Code, ZoneName),
    /// Both people saw the same.
    Paired(ZoneName),
    /// It came to nothing.
    Failed(Failure),
}

/// Why two relays did not pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Failure {
    /// The person here saw something else.
    #[error("the codes differ: somebody may be between the two relays")]
    Different,
    /// The person there did.
    #[error("the codes were not confirmed at the other relay")]
    NotThere,
    /// Nobody answered in time.
    #[error("not confirmed on both sides within {} s", TRY.as_secs())]
    TimedOut,
    /// The nonce is not the one that was promised.
    #[error("the other side did not keep its promise: somebody may be between the two relays")]
    Broken,
    /// Something else was said than what was to be said.
    #[error("the other side does not speak as a relay that pairs")]
    OutOfTurn,
    /// It is this relay.
    #[error("this is the same relay")]
    Itself,
}

/// Who dialed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This relay.
    Dialer,
    /// The other one.
    Listener,
}

/// One try. After each `handle_…` poll until nothing is left.
#[derive(Debug)]
pub struct Pairing {
    side: Side,
    own: (NodeId, ZoneName),
    other: NodeId,
    nonce: Nonce,
    began: Instant,
    stage: Stage,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
enum Stage {
    /// The listener waits for the promise.
    Promise,
    /// The dialer waits for the answer.
    Answer,
    /// The listener waits for the nonce that this is the hash of.
    Reveal(ZoneName, [u8; 32]),
    /// Both screens show the code.
    Shown {
        zone: ZoneName,
        here: bool,
        there: bool,
    },
    Over,
}

impl Pairing {
    /// Over a connection that proved the other to hold the key `other`. `nonce` is random.
    pub fn new(side: Side, own: (NodeId, ZoneName), other: NodeId, nonce: Nonce, now: Instant) -> Pairing {
        let stage = match side {
            Side::Dialer => Stage::Answer,
            Side::Listener => Stage::Promise,
        };
        let mut pairing = Pairing { side, own, other, nonce, began: now, stage, outputs: VecDeque::new() };
        if pairing.own.0 == other {
            pairing.fail(Failure::Itself);
        } else if side == Side::Dialer {
            let promise = promise(&pairing.own.0, &nonce);
            pairing.outputs.push_back(Output::Send(Message::Promise(pairing.own.1.clone(), promise)));
        }
        pairing
    }

    /// What the other side said.
    pub fn handle_message(&mut self, message: Message) {
        let stage = std::mem::replace(&mut self.stage, Stage::Over);
        match (stage, message) {
            (Stage::Promise, Message::Promise(zone, promised)) => {
                self.outputs.push_back(Output::Send(Message::Answer(self.own.1.clone(), self.nonce)));
                self.stage = Stage::Reveal(zone, promised);
            }
            (Stage::Answer, Message::Answer(zone, nonce)) => {
                self.outputs.push_back(Output::Send(Message::Reveal(self.nonce)));
                self.show(zone, nonce);
            }
            (Stage::Reveal(zone, promised), Message::Reveal(nonce)) => {
                if promise(&self.other, &nonce) != promised {
                    return self.fail(Failure::Broken);
                }
                self.show(zone, nonce);
            }
            (Stage::Shown { .. }, Message::Verdict(false)) => self.fail(Failure::NotThere),
            (Stage::Shown { zone, here, there: false }, Message::Verdict(true)) => {
                self.settle(zone, here, true);
            }
            (Stage::Over, _) => {}
            _ => self.fail(Failure::OutOfTurn),
        }
    }

    /// What the person here said of the code that was shown.
    pub fn handle_verdict(&mut self, same: bool) {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Shown { zone, here: false, there } => {
                self.outputs.push_back(Output::Send(Message::Verdict(same)));
                if same { self.settle(zone, true, there) } else { self.fail(Failure::Different) }
            }
            // Nothing was shown, or it was answered already.
            stage => self.stage = stage,
        }
    }

    /// When [`Pairing::handle_timeout`] wants to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!matches!(self.stage, Stage::Over)).then(|| self.began + TRY)
    }

    /// Gives up when the time is over.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|at| now >= at) {
            self.fail(Failure::TimedOut);
        }
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn show(&mut self, zone: ZoneName, theirs: Nonce) {
        let own = (&self.own.0, &self.own.1, &self.nonce);
        let other = (&self.other, &zone, &theirs);
        let code = match self.side {
            Side::Dialer => code([own, other]),
            Side::Listener => code([other, own]),
        };
        self.outputs.push_back(Output::Show(code, zone.clone()));
        self.stage = Stage::Shown { zone, here: false, there: false };
    }

    fn settle(&mut self, zone: ZoneName, here: bool, there: bool) {
        if here && there {
            self.outputs.push_back(Output::Paired(zone));
        } else {
            self.stage = Stage::Shown { zone, here, there };
        }
    }

    fn fail(&mut self, failure: Failure) {
        self.stage = Stage::Over;
        self.outputs.push_back(Output::Failed(failure));
    }
}

/// Bound to who promises, so that nobody can pass it on as its own.
fn promise(node: &NodeId, nonce: &Nonce) -> [u8; 32] {
    let mut hash = blake3::Hasher::new_derive_key("peddlenet pairing 1 promise");
    hash.update(&node.0).update(nonce);
    *hash.finalize().as_bytes()
}

/// Of the dialer first, of the listener second.
fn code(sides: [(&NodeId, &ZoneName, &Nonce); 2]) -> Code {
    let mut hash = blake3::Hasher::new_derive_key("peddlenet pairing 1 code");
    for (node, zone, nonce) in sides {
        // Only the zone has no fixed length, and it is at most 64 long.
        hash.update(&node.0)
            .update(nonce)
            .update(&[zone.as_str().len() as u8])
            .update(zone.as_str().as_bytes());
    }
    let mut first = [0; 8];
    first.copy_from_slice(&hash.finalize().as_bytes()[..8]);
    // 2^64 is no multiple of a million: the first codes are likelier by 5e-14.
    Code((u64::from_be_bytes(first) % 1_000_000) as u32)
}

/// How often somebody may try.
#[derive(Debug, Default)]
pub struct Tries(VecDeque<Instant>);

impl Tries {
    /// Takes one, if there were fewer than three in the last minute.
    pub fn take(&mut self, now: Instant) -> bool {
        while self.0.front().is_some_and(|at| now.duration_since(*at) >= TRY) {
            self.0.pop_front();
        }
        if self.0.len() >= TRIES_MAX {
            return false;
        }
        self.0.push_back(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId([1; 32]);
    const B: NodeId = NodeId([2; 32]);
    const M: NodeId = NodeId([3; 32]);

    fn zone(name: &str) -> ZoneName {
        ZoneName::new(name).unwrap()
    }

    fn now() -> Instant {
        crate::clock::now()
    }

    fn dialer(own: NodeId, other: NodeId, nonce: u8) -> Pairing {
        Pairing::new(Side::Dialer, (own, zone("stage")), other, [nonce; 32], now())
    }

    fn listener(own: NodeId, other: NodeId, nonce: u8) -> Pairing {
        Pairing::new(Side::Listener, (own, zone("camping")), other, [nonce; 32], now())
    }

    /// Hands messages over until both are silent; what else came out of each.
    fn talk(a: &mut Pairing, b: &mut Pairing) -> [Vec<Output>; 2] {
        let mut out = [vec![], vec![]];
        loop {
            let (from_a, from_b) = (a.poll_output(), b.poll_output());
            if from_a.is_none() && from_b.is_none() {
                return out;
            }
            for (at, output, to) in [(0, from_a, &mut *b), (1, from_b, &mut *a)] {
                match output {
                    Some(Output::Send(message)) => to.handle_message(message),
                    Some(output) => out[at].push(output),
                    None => {}
                }
            }
        }
    }

    fn shown(outputs: &[Output]) -> Code {
        match outputs {
            [Output::Show(code, _)] => *code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn two_people_who_see_the_same_pair_their_relays() {
        let (mut a, mut b) = (dialer(A, B, 7), listener(B, A, 8));
        let out = talk(&mut a, &mut b);
        assert_eq!(shown(&out[0]), shown(&out[1]));
        a.handle_verdict(true);
        assert_eq!(talk(&mut a, &mut b), [vec![], vec![]], "one of them is not enough");
        b.handle_verdict(true);
        let out = talk(&mut a, &mut b);
        assert_eq!(out, [vec![Output::Paired(zone("camping"))], vec![Output::Paired(zone("stage"))]]);
        assert_eq!(a.poll_timeout(), None);
    }

    #[test]
    fn one_who_says_no_ends_it_for_both() {
        let (mut a, mut b) = (dialer(A, B, 7), listener(B, A, 8));
        talk(&mut a, &mut b);
        a.handle_verdict(true);
        b.handle_verdict(false);
        let out = talk(&mut a, &mut b);
        assert_eq!(out, [vec![Output::Failed(Failure::NotThere)], vec![Output::Failed(Failure::Different)]]);
        b.handle_verdict(true);
        a.handle_message(Message::Verdict(true));
        assert_eq!(talk(&mut a, &mut b), [vec![], vec![]], "what is over stays over");
    }

    /// In the middle sits somebody who speaks with both, each of whom takes it for the other.
    #[test]
    fn somebody_in_the_middle_shows_two_codes() {
        let mut same = 0;
        for nonce in 0..100 {
            let (mut a, mut to_a) = (dialer(A, M, nonce), listener(M, A, nonce.wrapping_add(100)));
            let (mut to_b, mut b) = (dialer(M, B, nonce), listener(B, M, nonce.wrapping_mul(3)));
            let (left, right) = (talk(&mut a, &mut to_a), talk(&mut to_b, &mut b));
            same += usize::from(shown(&left[0]) == shown(&right[1]));
        }
        assert_eq!(same, 0, "a hundred tries of a million");
    }

    /// With both nonces in hand it would search one with which the codes agree: the promise forbids it.
    #[test]
    fn a_nonce_that_was_chosen_afterwards_is_found_out() {
        let mut b = listener(B, M, 8);
        b.handle_message(Message::Promise(zone("stage"), promise(&M, &[1; 32])));
        assert!(matches!(b.poll_output(), Some(Output::Send(Message::Answer(..)))));
        b.handle_message(Message::Reveal([2; 32]));
        assert_eq!(b.poll_output(), Some(Output::Failed(Failure::Broken)));
        // Nor can it pass on what another one promised.
        let mut b = listener(B, M, 8);
        b.handle_message(Message::Promise(zone("stage"), promise(&A, &[1; 32])));
        b.poll_output();
        b.handle_message(Message::Reveal([1; 32]));
        assert_eq!(b.poll_output(), Some(Output::Failed(Failure::Broken)));
    }

    /// Without a person's word nothing follows, whatever is sent again or early.
    #[test]
    fn repeated_and_early_words_pair_nobody() {
        let (mut a, mut b) = (dialer(A, B, 7), listener(B, A, 8));
        b.handle_message(Message::Verdict(true));
        assert_eq!(b.poll_output(), Some(Output::Failed(Failure::OutOfTurn)));
        let mut b = listener(B, A, 8);
        talk(&mut a, &mut b);
        b.handle_message(Message::Verdict(true));
        assert_eq!(b.poll_output(), None);
        b.handle_message(Message::Verdict(true));
        assert_eq!(b.poll_output(), Some(Output::Failed(Failure::OutOfTurn)));
        let mut c = listener(B, A, 8);
        talk(&mut dialer(A, B, 7), &mut c);
        c.handle_message(Message::Promise(zone("stage"), [0; 32]));
        assert_eq!(c.poll_output(), Some(Output::Failed(Failure::OutOfTurn)));
    }

    #[test]
    fn a_try_ends_after_a_minute() {
        let began = now();
        let mut a = Pairing::new(Side::Dialer, (A, zone("stage")), B, [1; 32], began);
        a.poll_output();
        a.handle_timeout(began + TRY - Duration::from_millis(1));
        assert_eq!(a.poll_output(), None);
        assert_eq!(a.poll_timeout(), Some(began + TRY));
        a.handle_timeout(began + TRY);
        assert_eq!(a.poll_output(), Some(Output::Failed(Failure::TimedOut)));
    }

    #[test]
    fn there_are_three_tries_in_a_minute() {
        let (mut tries, now) = (Tries::default(), now());
        for _ in 0..TRIES_MAX {
            assert!(tries.take(now));
        }
        assert!(!tries.take(now + TRY - Duration::from_millis(1)));
        assert!(tries.take(now + TRY));
    }

    #[test]
    fn a_code_is_six_digits_however_it_is_typed() {
        assert_eq!(Code(7).to_string(), "000 007");
        for text in ["000 007", "000007", "000-007"] {
            assert_eq!(text.parse(), Ok(Code(7)));
        }
        for text in ["7", "0000070", "00000x", "+00007"] {
            assert!(text.parse::<Code>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_relay_does_not_pair_with_itself() {
        let mut a = dialer(A, A, 1);
        assert_eq!(a.poll_output(), Some(Output::Failed(Failure::Itself)));
        assert_eq!(a.poll_output(), None);
    }
}
