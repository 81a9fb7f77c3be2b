//! `publish --encodings`: pictures from files, each an encoding of one track (RFC 8853), and sound beside them if it is
//! wanted. The publication of [`crate::whip`] cannot be used for it: the library sends repairs without mid and
//! repaired-rtp-stream-id, so that nobody knows what they repair, and does not say which encodings an answer takes.

mod negotiation;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rtc::rtcp::Packet as RtcpPacket;
use rtc::rtcp::packet as rtcp_packet;
use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
use rtc::rtcp::sender_report::SenderReport;
use rtc::rtcp::source_description::{
    SdesType, SourceDescription, SourceDescriptionChunk, SourceDescriptionItem,
};
use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;

use negotiation::{CNAME, OPUS, accepted, one_codec, picture_section, sound_section};

use crate::clock::{self, Pace};
use crate::encoding::{Encoding, EncodingSent, Pause, Rid};
use crate::endpoint::{Endpoint, Session};
use crate::error::Error;
use crate::ivf::Film;
use crate::payload::TemporalPattern;
use crate::peer::connection::{Connection, Door};
use crate::peer::description::{Answer, Section};
use crate::peer::rtp::RtpHeader;
use crate::peer::{Came, Identity};
use crate::publish::{Encoder, FRAME_TIME, SLACK};
use crate::source::{CHANNELS, FRAME_SAMPLES, SAMPLE_RATE, Source};
use crate::whip::{CONNECTION_TIMEOUT, resolve};

/// How often reports are sent.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Seconds from 1900 to 1970, between the epochs of NTP and Unix.
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// What to publish.
#[derive(Debug, Clone)]
pub struct Options {
    /// The encodings, in the order of the offer, each with its name; all of one codec.
    pub films: Vec<(Rid, Film)>,
    /// When which is not sent.
    pub pauses: Vec<Pause>,
    /// The temporal layers of the files.
    pub pattern: Option<TemporalPattern>,
    /// Bits per second of the sound.
    pub bitrate: u32,
    /// Stop after this time.
    pub length: Option<Duration>,
}

/// What was sent of each encoding that was accepted, in the order of the offer.
pub type Sent = Vec<(Rid, EncodingSent)>;

/// Publishes until the length is over, `stop` is ready or the connection is lost. The session at the relay is ended.
///
/// # Errors
/// [`Error::Usage`] for films that do not go together; otherwise whatever ended it before its time.
pub async fn publish(
    endpoint: &Endpoint,
    sound: Option<&mut dyn Source>,
    options: &Options,
    stop: impl Future<Output = ()>,
) -> Result<Sent, Error> {
    let mut stop = pin!(stop);
    let opened = tokio::select! {
        opened = Simulcast::open(endpoint, sound.is_some(), options) => opened?,
        () = &mut stop => return Ok(Sent::new()),
    };
    let mut simulcast = opened;
    let outcome = tokio::select! {
        outcome = simulcast.run(sound, options) => outcome,
        () = &mut stop => Ok(()),
    };
    let sent = simulcast.sent();
    simulcast.session.delete().await;
    simulcast.connection.close().await;
    outcome.map(|()| sent)
}

/// A publication.
struct Simulcast {
    connection: Connection,
    session: Session,
    /// Those that the answer takes.
    encodings: Vec<Encoding>,
    /// The header of the next packet of sound.
    sound: Option<RtpHeader>,
    sound_sent: (u32, u32),
    sound_origin: u32,
    begun: Instant,
}

impl Simulcast {
    async fn open(endpoint: &Endpoint, sound: bool, options: &Options) -> Result<Self, Error> {
        let codec = one_codec(&options.films)?;
        let is_known = |pause: &&Pause| options.films.iter().any(|(rid, _)| *rid == pause.rid);
        if let Some(pause) = options.pauses.iter().find(|pause| !is_known(pause)) {
            return Err(Error::Usage(format!("--pause: no encoding is called {}", pause.rid.as_str())));
        }
        let encoding = |(rid, film): &(Rid, Film)| {
            Encoding::new(rid.clone(), film.clone(), options.pattern.clone(), &options.pauses)
        };
        let encodings: Vec<Encoding> = options.films.iter().map(encoding).collect();
        let sound = sound.then(|| RtpHeader {
            payload_type: OPUS,
            marker: true,
            number: rand::random(),
            timestamp: rand::random(),
            ssrc: rand::random(),
        });
        let door = Door::open(resolve(endpoint).await?, Arc::new(Identity::generate()?))?;
        let mut sections: Vec<Section> = sound.iter().map(|header| sound_section(header.ssrc)).collect();
        sections.push(picture_section(codec, &encodings));
        let (text, session) = endpoint.offer(door.offer(&sections)).await?;
        let answer = Answer::read(&text);
        let ready = async {
            let url = endpoint.url().to_string();
            let encodings = accepted(encodings, &answer, sections.len() - 1, codec)
                .map_err(|reason| Error::Protocol { url: url.clone(), reason })?;
            let sound = match sound {
                Some(header) => {
                    let reason = "the answer takes no sound".to_owned();
                    let (payload_type, _) = answer.codec(0, "opus").ok_or(Error::Protocol { url, reason })?;
                    Some(RtpHeader { payload_type, ..header })
                }
                None => None,
            };
            Ok((encodings, sound, door.connect(&answer, CONNECTION_TIMEOUT).await?))
        };
        match ready.await {
            Ok((encodings, sound, connection)) => Ok(Simulcast {
                connection,
                session,
                encodings,
                sound_origin: sound.map_or(0, |header| header.timestamp),
                sound,
                sound_sent: (0, 0),
                begun: clock::now(),
            }),
            Err(error) => {
                session.delete().await;
                Err(error)
            }
        }
    }

    fn sent(&self) -> Sent {
        self.encodings.iter().map(|encoding| (encoding.rid().clone(), encoding.sent())).collect()
    }

    /// Sends what is due and takes in what comes.
    async fn run(&mut self, mut sound: Option<&mut dyn Source>, options: &Options) -> Result<(), Error> {
        tracing::info!("publishing at {}", self.session.url());
        let mut encoder = Encoder::new(options.bitrate)?;
        let mut frame = [0.0; FRAME_SAMPLES * CHANNELS];
        self.begun = clock::now();
        let mut sound_pace = Pace::new(FRAME_TIME, self.begun);
        let mut report_pace = Pace::new(REPORT_INTERVAL, self.begun + REPORT_INTERVAL);
        loop {
            let elapsed = clock::now().saturating_duration_since(self.begun);
            if options.length.is_some_and(|length| elapsed >= length) {
                return Ok(());
            }
            let picture_due = self.encodings.iter().map(Encoding::due).min().unwrap_or(Duration::MAX);
            let mut due = report_pace.due();
            due = self.begun.checked_add(picture_due).map_or(due, |picture| picture.min(due));
            if sound.is_some() {
                due = due.min(sound_pace.due());
            }
            due = options.length.map_or(due, |length| due.min(self.begun + length));
            tokio::select! {
                // What is due goes first: a relay that talks all the time does not make the picture late.
                biased;
                () = clock::sleep_until(due) => {}
                came = self.connection.next() => {
                    if came? == Came::Reports {
                        self.handle_reports().await?;
                    }
                    continue;
                }
            }
            let now = clock::now();
            if let Some(sound) = sound.as_deref_mut()
                && sound_pace.due() <= now
            {
                let missed = sound_pace.skip_missed(SLACK, now);
                self.skip_sound(missed.wrapping_mul(FRAME_SAMPLES as u32));
                sound_pace.advance();
                sound.fill(&mut frame)?;
                self.send_sound(&encoder.encode(&frame)?).await?;
            }
            self.send_pictures(now).await?;
            if report_pace.due() <= now {
                report_pace.skip_missed(REPORT_INTERVAL, now);
                report_pace.advance();
                self.send_reports(now).await?;
            }
        }
    }

    async fn send_sound(&mut self, payload: &Bytes) -> Result<(), Error> {
        let Some(header) = &mut self.sound else { return Ok(()) };
        let packet = header.write(&[], payload);
        header.marker = false;
        header.number = header.number.wrapping_add(1);
        self.sound_sent.0 = self.sound_sent.0.wrapping_add(1);
        self.sound_sent.1 = self.sound_sent.1.wrapping_add(payload.len() as u32);
        self.skip_sound(FRAME_SAMPLES as u32);
        self.connection.send_rtp(&packet).await
    }

    fn skip_sound(&mut self, samples: u32) {
        if let Some(header) = &mut self.sound {
            header.timestamp = header.timestamp.wrapping_add(samples);
        }
    }

    async fn send_pictures(&mut self, now: Instant) -> Result<(), Error> {
        let elapsed = now.saturating_duration_since(self.begun);
        for encoding in &mut self.encodings {
            while encoding.due() <= elapsed {
                for packet in encoding.poll(elapsed, SLACK) {
                    self.connection.send_rtp(&packet).await?;
                }
            }
        }
        Ok(())
    }

    /// A report of each, all of one moment: who compares them knows which pictures belong together.
    async fn send_reports(&mut self, now: Instant) -> Result<(), Error> {
        let ntp_time = ntp(clock::unix_micros());
        let elapsed = now.saturating_duration_since(self.begun);
        let mut reports: Vec<SenderReport> =
            self.encodings.iter().filter_map(|encoding| encoding.report(elapsed, ntp_time)).collect();
        if let Some(header) = self.sound {
            let ticks = (elapsed.as_nanos() * u128::from(SAMPLE_RATE) / 1_000_000_000) as u32;
            reports.push(SenderReport {
                ssrc: header.ssrc,
                ntp_time,
                rtp_time: self.sound_origin.wrapping_add(ticks),
                packet_count: self.sound_sent.0,
                octet_count: self.sound_sent.1,
                ..SenderReport::default()
            });
        }
        for report in reports {
            let item = SourceDescriptionItem {
                sdes_type: SdesType::SdesCname,
                text: Bytes::from_static(CNAME.as_bytes()),
            };
            let chunk = SourceDescriptionChunk { source: report.ssrc, items: vec![item] };
            let description = SourceDescription { chunks: vec![chunk] };
            let compound: [Box<dyn RtcpPacket>; 2] = [Box::new(report), Box::new(description)];
            let mut packet = Vec::new();
            for part in &compound {
                packet.extend_from_slice(&part.marshal()?);
            }
            self.connection.send_rtcp(&packet).await?;
        }
        Ok(())
    }

    async fn handle_reports(&mut self) -> Result<(), Error> {
        let Some(opened) = self.connection.reports() else { return Ok(()) };
        // What cannot be read asks for nothing.
        let packets = rtcp_packet::unmarshal(&mut &opened[..]).unwrap_or_default();
        for packet in packets {
            let packet = packet.as_any();
            if let Some(loss) = packet.downcast_ref::<PictureLossIndication>() {
                self.handle_keyframe_request(loss.media_ssrc);
            } else if let Some(request) = packet.downcast_ref::<FullIntraRequest>() {
                request.fir.iter().for_each(|entry| self.handle_keyframe_request(entry.ssrc));
            } else if let Some(nack) = packet.downcast_ref::<TransportLayerNack>() {
                self.handle_nack(nack).await?;
            }
        }
        Ok(())
    }

    fn handle_keyframe_request(&mut self, ssrc: u32) {
        if let Some(encoding) = self.encodings.iter_mut().find(|encoding| encoding.ssrcs().0 == ssrc) {
            tracing::debug!("a keyframe of {} is asked for", encoding.rid().as_str());
            encoding.handle_keyframe_request();
        }
    }

    async fn handle_nack(&mut self, nack: &TransportLayerNack) -> Result<(), Error> {
        let Some(encoding) = self.encodings.iter_mut().find(|known| known.ssrcs().0 == nack.media_ssrc)
        else {
            return Ok(());
        };
        for number in nack.nacks.iter().flat_map(|pair| pair.packet_list()) {
            if let Some(repair) = encoding.repair(number) {
                self.connection.send_rtp(&repair).await?;
            }
        }
        Ok(())
    }
}

/// NTP time (RFC 3550 section 4) of microseconds since 1970.
fn ntp(unix_micros: u64) -> u64 {
    let (seconds, micros) = (unix_micros / 1_000_000, unix_micros % 1_000_000);
    ((seconds + NTP_TO_UNIX) << 32) | ((micros << 32) / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ntp_counts_from_1900() {
        assert_eq!(ntp(500_000), (NTP_TO_UNIX << 32) | (1 << 31));
    }
}
