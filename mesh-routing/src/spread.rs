//! Log records on their way: appended here, pushed on, announced, pulled. What a log holds belongs to `log`.

use std::time::Instant;

use bytes::Bytes;
use protocol::NodeId;

use crate::{
    error::MeshError,
    link::LinkId,
    log::{PAYLOAD_MAX, Record},
    mesh::{Mesh, Output},
    message::{Message, Pulled},
};

impl Mesh {
    /// Appends to this relay's own log and sends it to every relay. Returns the record's number; refused if
    /// it is longer than [`PAYLOAD_MAX`].
    pub fn handle_append(&mut self, payload: Bytes, now: Instant) -> Result<u64, MeshError> {
        self.touch(now);
        if payload.len() > PAYLOAD_MAX {
            return Err(MeshError::TooLong { length: payload.len() });
        }
        let writer = self.config.id;
        let number = self.logs.append(writer, payload.clone());
        self.spread(None, vec![Record { writer, number, payload }]);
        Ok(number)
    }

    /// A record from disk, per writer in order: at boot, before any link. It does not come out again.
    pub fn handle_restore(&mut self, record: Record) {
        self.logs.restore(record);
        self.settled = false;
    }

    pub(crate) fn take_append(
        &mut self,
        link: LinkId,
        (writer, first, payloads): (NodeId, u64, Vec<Bytes>),
        pulled: Option<Pulled>,
        now: Instant,
    ) -> Result<(), MeshError> {
        let taken = self.logs.take(link, (writer, first, payloads), pulled, now)?;
        if let Some(link) = self.links.get_mut(&link) {
            link.counters.duplicates += taken.duplicates;
        }
        if let Some(ask) = taken.ask {
            self.send(link, &ask);
        }
        match pulled {
            None => self.spread(Some(link), taken.new),
            Some(_) => self.announce(link, writer, taken.new),
        }
        Ok(())
    }

    pub(crate) fn take_heads(&mut self, link: LinkId, entries: &[(NodeId, u64, u64)], now: Instant) {
        for ask in self.logs.missing(link, entries, now) {
            self.send(link, &ask);
        }
    }

    pub(crate) fn take_pull(&mut self, link: LinkId, writer: NodeId, after: u64) {
        let answer = self.logs.answer(writer, after);
        self.send(link, &answer);
    }

    pub(crate) fn send_heads(&mut self, link: LinkId) {
        for message in self.logs.heads() {
            self.send(link, &message);
        }
    }

    /// New records go out, and on to every neighbor but the one they came from.
    fn spread(&mut self, from: Option<LinkId>, records: Vec<Record>) {
        for record in records {
            let Record { writer, number: first, payload } = record.clone();
            self.outputs.push_back(Output::Record(record));
            self.send_all(from, &Message::Append { writer, first, payloads: vec![payload], pulled: None });
        }
    }

    /// Old records that came late go out; neighbors are told of them and ask if they lack them too.
    fn announce(&mut self, from: LinkId, writer: NodeId, records: Vec<Record>) {
        if records.is_empty() {
            return;
        }
        self.outputs.extend(records.into_iter().map(Output::Record));
        if let Some(message) = self.logs.head(&writer) {
            self.send_all(Some(from), &message);
        }
    }
}
