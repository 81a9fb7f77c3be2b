//! Stands before the DTLS engine and lets in only whole handshake flights, each message in one piece. An
//! incomplete flight kills rtc-dtls's retransmit timer, an early record makes its client give up, and its
//! fragment buffer can be filled by anyone: here fragments are put together within bounds, and after the
//! handshake unprotected records are dropped. Knows records and flights; decrypts nothing.

use std::collections::BTreeMap;

use super::tlv::{Layout, walk};
use crate::drop_reason::DropReason;

/// Where the handshake messages of one peer wait for the rest of their flight.
pub(super) struct Gate {
    we_are_client: bool,
    /// Number of the first message of the flight that is due.
    due: u16,
    messages: BTreeMap<u16, Message>,
    /// Bytes set aside for `messages`.
    held: usize,
    cipher_changed: bool,
    /// Protected handshake records: a Finished that came before its flight was whole.
    finished: Vec<Vec<u8>>,
    /// Protected application data that overtook the Finished.
    early: Vec<Vec<u8>>,
    /// The last flight has gone in.
    open: bool,
    /// Record number of the next record that we write for the engine.
    record: u64,
    late_handshakes_left: u8,
}

/// What a datagram leads to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Passed {
    /// Records for the engine; may be empty.
    pub(super) records: Vec<u8>,
    /// The ClientHello that begins a server's handshake is among them.
    pub(super) client_hello: Option<Vec<u8>>,
    /// The peer repeated what it has sent before: it has not seen our answer.
    pub(super) is_repeat: bool,
    /// The peer gave up, in the clear.
    pub(super) alert: Option<u8>,
}

impl Gate {
    pub(super) fn new(we_are_client: bool) -> Gate {
        Gate {
            we_are_client,
            due: 0,
            messages: BTreeMap::new(),
            held: 0,
            cipher_changed: false,
            finished: Vec::new(),
            early: Vec::new(),
            open: false,
            record: 0,
            late_handshakes_left: MAX_LATE_HANDSHAKES,
        }
    }

    /// A datagram from the peer, `done` once the handshake is complete.
    ///
    /// # Errors
    ///
    /// [`DropReason::DtlsMalformed`] when there is no record in it.
    pub(super) fn handle_datagram(&mut self, data: &[u8], done: bool) -> Result<Passed, DropReason> {
        let mut passed = Passed::default();
        let mut any = false;
        for record in records(data) {
            any = true;
            if record.body().is_empty() {
                continue; // rtc-dtls would refuse the whole datagram
            }
            if record.epoch() == 0 {
                self.handle_plain(record, done, &mut passed);
            } else {
                self.handle_protected(record, done, &mut passed);
            }
        }
        if !any {
            return Err(DropReason::DtlsMalformed);
        }
        if !done && !self.open {
            self.pass_flight(&mut passed);
        }
        Ok(passed)
    }

    /// Application data that came before the handshake was done, in order.
    pub(super) fn release_early(&mut self) -> Vec<Vec<u8>> {
        self.messages = BTreeMap::new();
        self.finished = Vec::new();
        std::mem::take(&mut self.early)
    }

    fn handle_plain(&mut self, record: Record<'_>, done: bool, passed: &mut Passed) {
        match record.kind() {
            HANDSHAKE if done || self.open => passed.is_repeat = true,
            HANDSHAKE => self.hold_fragments(record.body(), passed),
            CHANGE_CIPHER_SPEC => self.cipher_changed = true,
            // Once keys exist, an unprotected alert proves nothing.
            ALERT if !done => {
                if let [level, description] = *record.body()
                    && (level == FATAL || description == CLOSE_NOTIFY)
                {
                    passed.alert = Some(description);
                }
            }
            _ => {}
        }
    }

    fn handle_protected(&mut self, record: Record<'_>, done: bool, passed: &mut Passed) {
        match record.kind() {
            HANDSHAKE if done || self.open => {
                passed.is_repeat = true;
                if self.late_handshakes_left > 0 {
                    self.late_handshakes_left -= 1;
                    passed.records.extend(record.0);
                }
            }
            HANDSHAKE if self.finished.len() < MAX_RECORDS => self.finished.push(record.0.to_vec()),
            APPLICATION_DATA | ALERT if done => passed.records.extend(record.0),
            ALERT if self.open => passed.records.extend(record.0),
            APPLICATION_DATA if self.early.len() < MAX_RECORDS => self.early.push(record.0.to_vec()),
            _ => {}
        }
    }

    fn hold_fragments(&mut self, body: &[u8], passed: &mut Passed) {
        for fragment in Fragment::all(body) {
            if fragment.number < self.due {
                passed.is_repeat = true;
                continue;
            }
            if fragment.number >= self.due.saturating_add(MAX_MESSAGES) {
                continue;
            }
            if !self.messages.contains_key(&fragment.number) {
                if self.held + fragment.length > MAX_HELD {
                    continue;
                }
                self.held += fragment.length;
            }
            self.messages
                .entry(fragment.number)
                .or_insert_with(|| Message::new(fragment.kind, fragment.length))
                .add(&fragment);
        }
    }

    /// If the flight that is due is whole, it goes to the engine as if no network had been between.
    fn pass_flight(&mut self, passed: &mut Passed) {
        let Some(flight) = self.whole_flight() else { return };
        if let Some(end) = flight.last_message {
            for number in self.due..=end {
                let Some(message) = self.messages.remove(&number) else { continue };
                if number == 0 && message.kind == CLIENT_HELLO {
                    passed.client_hello = Some(message.body.clone());
                }
                self.held -= message.body.len();
                let handshake = message.into_handshake(number);
                self.write_record(HANDSHAKE, &handshake, passed);
            }
            self.due = end + 1;
        }
        if flight.is_last {
            self.write_record(CHANGE_CIPHER_SPEC, &[1], passed);
            for record in std::mem::take(&mut self.finished) {
                passed.records.extend(record);
            }
            self.messages = BTreeMap::new();
            self.open = true;
        }
    }

    fn whole_flight(&self) -> Option<Flight> {
        let has_finished = self.cipher_changed && !self.finished.is_empty();
        // The server's last flight is nothing but ChangeCipherSpec and Finished.
        if self.we_are_client && self.due > 1 && self.messages.is_empty() && has_finished {
            return Some(Flight { last_message: None, is_last: true });
        }
        for number in self.due.. {
            let message = self.messages.get(&number)?;
            if !message.is_whole() {
                return None;
            }
            match (self.we_are_client, message.kind) {
                (true, HELLO_VERIFY_REQUEST | SERVER_HELLO_DONE) | (false, CLIENT_HELLO) => {
                    return Some(Flight { last_message: Some(number), is_last: false });
                }
                (false, CERTIFICATE_VERIFY) => {
                    return has_finished.then_some(Flight { last_message: Some(number), is_last: true });
                }
                _ => {}
            }
        }
        None
    }

    fn write_record(&mut self, kind: u8, body: &[u8], passed: &mut Passed) {
        // Ours are the only unprotected records the engine sees, so ours are the numbers its replay window
        // knows.
        passed.records.extend([kind, 0xfe, 0xfd, 0, 0]);
        passed.records.extend(&self.record.to_be_bytes()[2..]);
        passed.records.extend((body.len() as u16).to_be_bytes());
        passed.records.extend(body);
        self.record += 1;
    }
}

struct Flight {
    /// None: a flight without unprotected messages.
    last_message: Option<u16>,
    is_last: bool,
}

/// A handshake message being put together.
struct Message {
    kind: u8,
    body: Vec<u8>,
    /// What has come, as disjoint ranges from → to.
    come: BTreeMap<usize, usize>,
}

impl Message {
    fn new(kind: u8, length: usize) -> Message {
        Message { kind, body: vec![0; length], come: BTreeMap::new() }
    }

    fn add(&mut self, fragment: &Fragment<'_>) {
        let (mut from, mut to) = (fragment.offset, fragment.offset + fragment.bytes.len());
        let fits = fragment.kind == self.kind && fragment.length == self.body.len();
        if !fits || (self.come.len() >= MAX_RANGES && !self.come.contains_key(&from)) {
            return;
        }
        self.body[from..to].copy_from_slice(fragment.bytes);
        while let Some((&start, &end)) = self.come.range(..=to).next_back().filter(|(_, end)| **end >= from) {
            self.come.remove(&start);
            from = from.min(start);
            to = to.max(end);
        }
        self.come.insert(from, to);
    }

    fn is_whole(&self) -> bool {
        self.come.get(&0) == Some(&self.body.len())
    }

    fn into_handshake(self, number: u16) -> Vec<u8> {
        let length = (self.body.len() as u32).to_be_bytes();
        let mut handshake = Vec::with_capacity(HANDSHAKE_HEADER + self.body.len());
        handshake.push(self.kind);
        handshake.extend(&length[1..]);
        handshake.extend(number.to_be_bytes());
        handshake.extend([0, 0, 0]);
        handshake.extend(&length[1..]);
        handshake.extend(self.body);
        handshake
    }
}

/// A piece of a handshake message (RFC 6347 section 4.2.2), known to lie within its message.
struct Fragment<'a> {
    kind: u8,
    length: usize,
    number: u16,
    offset: usize,
    bytes: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// The fragments of a record, up to the first that makes no sense.
    fn all(body: &'a [u8]) -> impl Iterator<Item = Fragment<'a>> {
        const FRAGMENTS: Layout =
            Layout { header: HANDSHAKE_HEADER, length: |header| HANDSHAKE_HEADER + u24(header, 9), align: 1 };
        walk(body, 0, &FRAGMENTS).map_while(|span| Fragment::read(&body[span]))
    }

    fn read(fragment: &'a [u8]) -> Option<Fragment<'a>> {
        let (header, bytes) = fragment.split_at(HANDSHAKE_HEADER);
        let (length, offset) = (u24(header, 1), u24(header, 6));
        (length <= MAX_MESSAGE && offset + bytes.len() <= length).then(|| Fragment {
            kind: header[0],
            length,
            number: u16::from_be_bytes([header[4], header[5]]),
            offset,
            bytes,
        })
    }
}

fn u24(header: &[u8], at: usize) -> usize {
    u32::from_be_bytes([0, header[at], header[at + 1], header[at + 2]]) as usize
}

/// One record, header and body (RFC 6347 section 4.1).
#[derive(Clone, Copy)]
struct Record<'a>(&'a [u8]);

impl<'a> Record<'a> {
    fn kind(self) -> u8 {
        self.0[0]
    }

    fn epoch(self) -> u16 {
        u16::from_be_bytes([self.0[3], self.0[4]])
    }

    fn body(self) -> &'a [u8] {
        &self.0[RECORD_HEADER..]
    }
}

/// The whole records of a datagram (RFC 6347 section 4.1).
fn records(datagram: &[u8]) -> impl Iterator<Item = Record<'_>> {
    const RECORDS: Layout = Layout {
        header: RECORD_HEADER,
        length: |header| RECORD_HEADER + usize::from(u16::from_be_bytes([header[11], header[12]])),
        align: 1,
    };
    walk(datagram, 0, &RECORDS).map(|span| Record(&datagram[span]))
}

// RFC 6347 sections 4.1 and 4.2.2.
const RECORD_HEADER: usize = 13;
const HANDSHAKE_HEADER: usize = 12;

// Types of records: RFC 5246 section 6.2.1; alerts: section 7.2.
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
const FATAL: u8 = 2;
pub(super) const CLOSE_NOTIFY: u8 = 0;

// Types of handshake messages: RFC 5246 section 7.4, HelloVerifyRequest RFC 6347 section 4.3.2.
const CLIENT_HELLO: u8 = 1;
const HELLO_VERIFY_REQUEST: u8 = 3;
const SERVER_HELLO_DONE: u8 = 14;
const CERTIFICATE_VERIFY: u8 = 15;

/// One message: a chain of three RSA certificates has some 5 KB.
const MAX_MESSAGE: usize = 16_000;
/// All messages of a flight together.
const MAX_HELD: usize = 24_000;
/// No flight has more messages than this.
const MAX_MESSAGES: u16 = 8;
/// Separate pieces of one message.
const MAX_RANGES: usize = 64;
/// Protected records kept until the flight is whole.
const MAX_RECORDS: usize = 8;
/// Protected handshake records after the last flight: enough for a peer that keeps missing our answer.
const MAX_LATE_HANDSHAKES: u8 = 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fragment(kind: u8, number: u16, whole: &[u8], from: usize, to: usize) -> Vec<u8> {
        let mut body = vec![kind];
        body.extend(&(whole.len() as u32).to_be_bytes()[1..]);
        body.extend(number.to_be_bytes());
        body.extend(&(from as u32).to_be_bytes()[1..]);
        body.extend(&((to - from) as u32).to_be_bytes()[1..]);
        body.extend(&whole[from..to]);
        record(HANDSHAKE, 0, &body)
    }

    fn record(kind: u8, epoch: u8, body: &[u8]) -> Vec<u8> {
        let mut record = vec![kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 9];
        record.extend((body.len() as u16).to_be_bytes());
        record.extend(body);
        record
    }

    #[test]
    fn overlapping_fragments_in_any_order_become_one_message() {
        let hello: Vec<u8> = (0..200).collect();
        let mut gate = Gate::new(false);
        for (from, to) in [(150, 200), (0, 60), (0, 40), (50, 120)] {
            let passed = gate.handle_datagram(&fragment(CLIENT_HELLO, 0, &hello, from, to), false).unwrap();
            assert!(passed.records.is_empty());
        }
        let passed = gate.handle_datagram(&fragment(CLIENT_HELLO, 0, &hello, 100, 160), false).unwrap();
        assert_eq!(passed.client_hello.as_deref(), Some(&hello[..]));
        let mut whole = fragment(CLIENT_HELLO, 0, &hello, 0, 200);
        whole[10] = 0;
        assert_eq!(passed.records, whole);
        assert_eq!(gate.held, 0);
    }

    #[test]
    fn a_server_waits_for_the_whole_last_flight() {
        let mut gate = Gate::new(false);
        gate.due = 2;
        let mut pass = |data: Vec<u8>| gate.handle_datagram(&data, false).unwrap().records;
        assert!(pass(record(HANDSHAKE, 1, b"finished")).is_empty());
        assert!(pass(record(APPLICATION_DATA, 1, b"early")).is_empty());
        assert!(pass(fragment(CERTIFICATE_VERIFY, 4, b"verify", 0, 6)).is_empty());
        assert!(pass(fragment(11, 2, b"certificate", 0, 11)).is_empty());
        assert!(pass(record(CHANGE_CIPHER_SPEC, 0, &[1])).is_empty());
        let records = pass(fragment(16, 3, b"key", 0, 3));
        let kinds: Vec<_> = super::records(&records).map(|r| (r.kind(), r.epoch())).collect();
        assert_eq!(kinds, [(22, 0), (22, 0), (22, 0), (20, 0), (22, 1)]);
        assert_eq!(gate.release_early().len(), 1);
    }

    #[test]
    fn a_repeat_of_an_answered_flight_is_noticed() {
        let mut gate = Gate::new(false);
        let hello = fragment(CLIENT_HELLO, 0, b"hello", 0, 5);
        assert!(!gate.handle_datagram(&hello, false).unwrap().is_repeat);
        assert!(gate.handle_datagram(&hello, false).unwrap().is_repeat);
    }

    #[test]
    fn floods_of_fragments_are_bounded() {
        let mut gate = Gate::new(false);
        let big = vec![0; MAX_MESSAGE];
        for number in 0..2000 {
            for at in (1..MAX_MESSAGE - 1).step_by(997) {
                let _ = gate.handle_datagram(&fragment(11, number, &big, at, at + 1), false);
            }
            let _ = gate.handle_datagram(&record(HANDSHAKE, 1, &big), false);
            let _ = gate.handle_datagram(&record(APPLICATION_DATA, 1, &big), false);
        }
        assert!(gate.held <= MAX_HELD);
        assert!(gate.messages.values().map(|m| m.body.len()).sum::<usize>() <= MAX_HELD);
        assert!(gate.finished.len() <= MAX_RECORDS && gate.early.len() <= MAX_RECORDS);
    }

    #[test]
    fn after_the_handshake_nothing_unprotected_passes() {
        let mut gate = Gate::new(false);
        for kind in [HANDSHAKE, CHANGE_CIPHER_SPEC, ALERT, APPLICATION_DATA] {
            let passed = gate.handle_datagram(&record(kind, 0, &[2, 40]), true).unwrap();
            assert!(passed.records.is_empty() && passed.alert.is_none());
        }
        assert!(!gate.handle_datagram(&record(APPLICATION_DATA, 1, b"x"), true).unwrap().records.is_empty());
    }

    proptest! {
        #[test]
        fn junk_never_panics(
            client in any::<bool>(),
            done in any::<bool>(),
            datagrams in proptest::collection::vec(
                (20u8..24, 0u8..2, proptest::collection::vec(any::<u8>(), 0..80)), 0..20,
            ),
            raw in proptest::collection::vec(any::<u8>(), 0..80),
        ) {
            let mut gate = Gate::new(client);
            let _ = gate.handle_datagram(&raw, done);
            for (kind, epoch, body) in datagrams {
                let _ = gate.handle_datagram(&record(kind, epoch, &body), done);
            }
        }

        #[test]
        fn any_cover_of_fragments_restores_the_message(
            cuts in proptest::collection::vec((0usize..100, 0usize..100), 0..60),
        ) {
            let whole: Vec<u8> = (0..100).collect();
            let mut message = Message::new(1, 100);
            let mut seen = [false; 100];
            for (a, b) in cuts {
                let (from, to) = (a.min(b), a.max(b) + 1);
                seen[from..to].fill(true);
                let bytes = &whole[from..to];
                message.add(&Fragment { kind: 1, length: 100, number: 0, offset: from, bytes });
                prop_assert_eq!(message.is_whole(), seen.iter().all(|s| *s));
            }
            if message.is_whole() {
                prop_assert_eq!(message.body, whole);
            }
        }
    }
}
