//! `publish`: a source, encoded to Opus and paced by the clock, sent to a WHIP endpoint until its time is
//! over or the caller stops it; with `reconnect`, across every failure that may pass.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use opus::{Application, Bitrate, Channels};

use crate::clock::{self, Pace};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::participant::gone;
use crate::source::{CHANNELS, FRAME_SAMPLES, Frame, SAMPLE_RATE, Source};
use crate::stamp;
use crate::whip::Publication;

/// The length of a frame.
pub const FRAME_TIME: Duration = Duration::from_millis(20);
/// What a stage sends unless told otherwise.
pub const DEFAULT_BITRATE: u32 = 128_000;
/// The longest Opus packet of 20 ms.
const LONGEST_PACKET: usize = 1275;
/// A sender later than this leaves frames out instead of sending a burst.
pub(crate) const SLACK: Duration = Duration::from_millis(200);
const FIRST_BACK_OFF: Duration = Duration::from_millis(250);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(5);
/// A publication that lasted this long was a good one: the next failure backs off from the start.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// How to publish.
#[derive(Debug, Clone)]
pub struct Options {
    /// Stop after this much sound.
    pub length: Option<Duration>,
    /// Publish again after every failure that may pass, for ever.
    pub reconnect: bool,
    /// Put the time of sending into each packet, see [`crate::stamp`].
    pub stamp: bool,
    /// Bits per second of the sound.
    pub bitrate: u32,
    /// Whether to publish a picture too, see [`crate::picture`].
    pub video: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { length: None, reconnect: false, stamp: false, bitrate: DEFAULT_BITRATE, video: false }
    }
}

/// What was published.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    /// Packets handed to the connection.
    pub packets: u64,
    /// Frames left out because the machine was too slow.
    pub skipped: u64,
    /// Times the publication was established.
    pub sessions: u64,
}

/// Publishes until the length is over, the source ends, `stop` is ready, or an error that is not to be outlived.
/// Either way the session at the relay is ended; dropping the future instead leaves it to expire there.
///
/// # Errors
/// Whatever ended it before its time.
pub async fn publish(
    endpoint: &Endpoint,
    source: &mut dyn Source,
    options: &Options,
    stop: impl Future<Output = ()>,
) -> Result<Sent, Error> {
    let mut stop = pin!(stop);
    let mut encoder = Encoder::new(options.bitrate)?;
    let mut sent = Sent::default();
    let mut back_off = FIRST_BACK_OFF;
    let end = options.length.map(|length| (length.as_millis() / FRAME_TIME.as_millis()) as u64);
    loop {
        let begun = clock::now();
        let publication = tokio::select! {
            publication = Publication::open(endpoint, options.video) => publication,
            () = &mut stop => return Ok(sent),
        };
        let outcome = match publication {
            Ok(mut publication) => {
                sent.sessions += 1;
                tracing::info!("publishing at {}", publication.session().url());
                let outcome = tokio::select! {
                    outcome = send(&mut publication, source, &mut encoder, options, end, &mut sent) => outcome,
                    () = &mut stop => Ok(()),
                };
                publication.close().await;
                outcome
            }
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => return Ok(sent),
            Err(error) if options.reconnect && error.is_passing() => {
                if clock::now().saturating_duration_since(begun) > GOOD_RUN {
                    back_off = FIRST_BACK_OFF;
                }
                let wait = error.retry_after().unwrap_or(back_off);
                tracing::warn!("{error}; publishing again in {:.1} s", wait.as_secs_f32());
                tokio::select! {
                    () = clock::sleep(wait) => {}
                    () = &mut stop => return Ok(sent),
                }
                back_off = (back_off * 2).min(LONGEST_BACK_OFF);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Sends frame by frame until the end or until the connection is lost.
async fn send(
    publication: &mut Publication,
    source: &mut dyn Source,
    encoder: &mut Encoder,
    options: &Options,
    end: Option<u64>,
    sent: &mut Sent,
) -> Result<(), Error> {
    let mut lost = pin!(gone(publication.state()));
    let mut pace = Pace::new(FRAME_TIME, clock::now());
    let mut frame = [0.0; FRAME_SAMPLES * CHANNELS];
    while end.is_none_or(|end| sent.packets + sent.skipped < end) {
        tokio::select! {
            () = clock::sleep_until(pace.due()) => {}
            () = &mut lost => return Err(Error::Lost),
        }
        let missed = pace.skip_missed(SLACK, clock::now());
        publication.skip(missed.wrapping_mul(FRAME_SAMPLES as u32));
        sent.skipped += u64::from(missed);
        match source.fill(&mut frame) {
            Err(Error::SourceEnded(_)) => return Ok(()),
            filled => filled?,
        }
        let packet = encoder.encode(&frame)?;
        let packet = if options.stamp { stamp::write(packet, clock::unix_micros()) } else { packet };
        publication.send(packet, FRAME_SAMPLES as u32).await?;
        sent.packets += 1;
        // 25 pictures a second: with every second frame of sound.
        if sent.packets.is_multiple_of(2) {
            publication.send_picture().await?;
        }
        pace.advance();
    }
    Ok(())
}

/// Opus for music: stereo, 20 ms, no in-band FEC.
pub struct Encoder {
    encoder: opus::Encoder,
    packet: Vec<u8>,
}

impl Encoder {
    /// An encoder of a bit rate.
    ///
    /// # Errors
    /// [`Error::Opus`] when the rate is not one.
    pub fn new(bitrate: u32) -> Result<Self, Error> {
        let mut encoder = opus::Encoder::new(SAMPLE_RATE, Channels::Stereo, Application::Audio)?;
        encoder.set_bitrate(Bitrate::Bits(i32::try_from(bitrate).unwrap_or(i32::MAX)))?;
        encoder.set_complexity(10)?;
        encoder.set_inband_fec(false)?;
        Ok(Encoder { encoder, packet: vec![0; LONGEST_PACKET] })
    }

    /// One frame, encoded.
    ///
    /// # Errors
    /// [`Error::Opus`].
    pub fn encode(&mut self, frame: &Frame) -> Result<Bytes, Error> {
        let length = self.encoder.encode_float(frame, &mut self.packet)?;
        Ok(Bytes::copy_from_slice(&self.packet[..length]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Chords, Tone};

    #[test]
    fn what_is_sent_by_default_is_celt_and_stereo_whatever_sounds() {
        struct Silence;
        impl Source for Silence {
            fn fill(&mut self, frame: &mut Frame) -> Result<(), Error> {
                frame.fill(0.0);
                Ok(())
            }
        }
        let sources: [Box<dyn Source>; 3] =
            [Box::new(Tone::new(440.0).unwrap()), Box::new(Chords::default()), Box::new(Silence)];
        for mut source in sources {
            let mut encoder = Encoder::new(DEFAULT_BITRATE).unwrap();
            let mut frame = [0.0; FRAME_SAMPLES * CHANNELS];
            for _ in 0..100 {
                source.fill(&mut frame).unwrap();
                let packet = encoder.encode(&frame).unwrap();
                // The configuration, stereo, and one frame a packet (RFC 6716 section 3.1): 28 to 31 are CELT, full band.
                let (configuration, stereo, count) = (packet[0] >> 3, packet[0] & 4, packet[0] & 3);
                assert_eq!((configuration, stereo, count), (31, 4, 0));
            }
        }
    }
}
