//! A relay's media worker on its production socket, driven as its thread drives it, with a crowd of
//! listeners who have joined one stream.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Instant,
};

use bytes::BytesMut;
use media::{
    Batch, Claim, Command, Event, Flow, Packet, SessionPlan, StreamTracks, Worker,
    packet::Canonical,
    sdp::{EgressPolicy, Local, Offer, answer_egress},
    transport::{Credentials, DtlsRole, Fingerprint, Identity, TransportConfig},
};
use protocol::{Codec, Kind, SessionId};
use relay_node::{
    clock,
    media::udp::{self, Receiver, Sender},
};

use crate::{credentials, measure::thread_cpu_ns};

/// The tracks of the one stream.
pub const TRACKS: StreamTracks = StreamTracks::from_first(1);

/// A media worker with its socket.
pub struct Stage {
    worker: Worker,
    socket: UdpSocket,
    receiver: Receiver,
    sender: Sender,
    batch: Batch,
    identity: Arc<Identity>,
    sequences: [u16; 2],
    /// Sessions that have connected.
    pub connected: usize,
    /// Sessions that were closed, for whatever reason.
    pub closed: usize,
    /// Datagrams the kernel did not take.
    pub dropped: usize,
    /// CPU time spent on sending alone, nanoseconds.
    pub sending_ns: u64,
}

impl Stage {
    /// A worker on a free port of the loopback interface.
    pub fn new() -> Stage {
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        Stage {
            worker: Worker::new(0),
            socket: udp::bind(address, 1).expect("a free port").remove(0),
            receiver: Receiver::default(),
            sender: Sender::default(),
            batch: Batch::default(),
            identity: Arc::new(Identity::generate().expect("a key can be made")),
            sequences: [0; 2],
            connected: 0,
            closed: 0,
            dropped: 0,
            sending_ns: 0,
        }
    }

    /// The media port.
    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().expect("bound")
    }

    /// The media socket.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// What the worker counted as sent, both kinds.
    pub fn sent(&self) -> u64 {
        self.worker.stats().sent.iter().map(|traffic| traffic.packets).sum()
    }

    /// What the worker dropped and why.
    pub fn drops(&self) -> String {
        format!("{:?}", self.worker.stats().drops)
    }

    /// Opens the session of the listener with this number: its offer is read and answered as WHEP does.
    /// `merged` says that its sound comes in fewer and longer packets.
    pub fn open(&mut self, number: usize, fingerprint: &Fingerprint, data_channel: bool, merged: bool) {
        let [(ufrag, pwd), theirs] = credentials(number);
        let offer = Offer::parse(&offer(&theirs, fingerprint, data_channel)).expect("a complete offer");
        let ours = self.identity.fingerprint().to_string();
        let candidates = [self.address()];
        let local =
            Local { ufrag: &ufrag, pwd: &pwd, fingerprint: &ours, candidates: &candidates, session_id: 1 };
        let policy = EgressPolicy::new("main-stage", &[Codec::Opus, Codec::Vp8], 1 + 4 * number as u32);
        let (_, plan) = answer_egress(&offer, &local, &policy).expect("an offer that can be served");
        let mut id = [0; 16];
        id[..8].copy_from_slice(&(number as u64).to_be_bytes());
        let transport = TransportConfig {
            identity: self.identity.clone(),
            role: DtlsRole::Server,
            local: Credentials { ufrag, pwd },
            remote: Credentials { ufrag: theirs.0, pwd: theirs.1 },
            fingerprint: fingerprint.clone(),
            data_channels: plan.data_channel,
        };
        let flow = Flow::Egress { plan, tracks: TRACKS, cname: "main-stage".into(), merged };
        let plan = SessionPlan { id: SessionId(id), transport, flow, claim: Claim::default() };
        self.worker.handle_command(Command::Open(Arc::new(plan)), clock::now());
    }

    /// One turn of the worker's thread: receive, time, send.
    pub fn turn(&mut self) {
        loop {
            let more = self.receiver.receive(&self.socket).expect("loopback receives");
            let now = clock::now();
            for (from, datagram) in self.receiver.datagrams() {
                self.worker.handle_datagram(from, datagram, now);
            }
            if !more {
                break;
            }
        }
        self.flush();
    }

    /// The part of a turn that is the packet path: time, and everything that is to be sent.
    fn flush(&mut self) {
        let now = clock::now();
        if self.worker.poll_timeout().is_some_and(|at| at <= now) {
            self.worker.handle_timeout(now);
        }
        while self.worker.poll_transmit(&mut self.batch, clock::now()) {
            let begin = thread_cpu_ns();
            self.dropped += self.sender.send(&self.socket, &self.batch).dropped;
            self.sending_ns += thread_cpu_ns() - begin;
            self.batch.clear();
        }
        while let Some(event) = self.worker.poll_event() {
            match event {
                Event::Connected { .. } => self.connected += 1,
                Event::Closed { .. } => self.closed += 1,
                _ => {}
            }
        }
    }

    /// A burst of packets of `len` octets each comes from another worker or a link, as one frame, and goes
    /// out to everybody.
    pub fn forward(&mut self, codec: Codec, len: usize, burst: usize) {
        let track = TRACKS.of(codec.kind());
        for index in 0..burst {
            let now = clock::now();
            let packet = self.packet(codec, len, index + 1 == burst, now);
            self.worker.handle_packet(track, packet, now);
        }
        self.flush();
    }

    fn packet(&mut self, codec: Codec, len: usize, marker: bool, now: Instant) -> Packet {
        let sequence = &mut self.sequences[codec.kind() as usize];
        *sequence = sequence.wrapping_add(1);
        let canonical = Canonical {
            codec,
            marker,
            sequence: *sequence,
            timestamp: u32::from(*sequence) * 960,
            audio_level: (codec.kind() == Kind::Audio).then_some(30),
            orientation: None,
            dependency: None,
        };
        let mut bytes = BytesMut::with_capacity(len);
        canonical.write(&mut bytes);
        // A VP8 descriptor of one octet, then a keyframe's first: listeners can start at any packet.
        // Sound begins with 20 ms of CELT.
        bytes.extend_from_slice(if codec == Codec::Opus { &[0xf8, 0] } else { &[0x10, 0] });
        bytes.resize(len, 0x55);
        Packet::from_parts(canonical, bytes, 0, now)
    }
}

impl Default for Stage {
    fn default() -> Self {
        Stage::new()
    }
}

/// What a phone's browser offers, without what it offers in vain.
fn offer((ufrag, pwd): &(String, String), fingerprint: &Fingerprint, data_channel: bool) -> String {
    let transport = format!(
        "c=IN IP4 0.0.0.0\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\na=fingerprint:{fingerprint}\r\n\
         a=setup:actpass\r\n"
    );
    let mut offer = format!(
        "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1{}\r\n\
         m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n{transport}a=mid:0\r\na=recvonly\r\na=rtcp-mux\r\n\
         a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
         a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n\
         m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n{transport}a=mid:1\r\na=recvonly\r\na=rtcp-mux\r\n\
         a=extmap:13 urn:3gpp:video-orientation\r\n\
         a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 nack\r\na=rtcp-fb:96 nack pli\r\na=rtcp-fb:96 goog-remb\r\n\
         a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n",
        if data_channel { " 2" } else { "" }
    );
    if data_channel {
        offer += &format!(
            "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n{transport}a=mid:2\r\na=sctp-port:5000\r\n\
             a=max-message-size:262144\r\n"
        );
    }
    offer
}
