//! What a publisher is told of its media, in one compound packet whenever something is due: receiver reports,
//! NACKs, keyframe requests, transport-wide feedback or REMB. And what is told to whoever runs it.
//!
//! When each of them is due and what it says is the business of its own file; here they are put together.

use std::time::{Duration, Instant};

use super::{Ingest, encoding::EncodingView, transport_cc::ArrivalLog};
use crate::rtp::rtcp::{Compound, Reception};

/// What [`Ingest::poll_feedback`] asked for, for the counters.
#[derive(Debug, Default, Clone, Copy)]
pub struct FeedbackCount {
    /// NACK pairs.
    pub nacks: u64,
    /// Picture loss indications.
    pub keyframe_requests: u64,
    /// The report of each second is in it.
    pub reported: bool,
}

/// What whoever runs a publisher should know of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    /// Packets that were dropped because they are longer than a packet may be.
    pub too_large: u64,
    /// Whether it sends a keyframe when it is asked for one; `None` as long as that did not show.
    pub answers_keyframe_requests: Option<bool>,
}

/// How the sound of a publisher is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SoundView {
    /// As listeners get it.
    pub kilobits_per_second: u64,
    /// Of its packets.
    pub packets_per_second: u64,
    /// It has sent speech (SILK, hybrid) lately.
    pub speaks: bool,
}

/// Of receiver reports, and of REMB beside them.
pub(super) const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The SSRC of our own feedback; nothing else is ever sent to a publisher.
const OWN_SSRC: u32 = 1;

impl Ingest {
    /// When [`Ingest::poll_feedback`] has something to say.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let per_track = self.tracks.iter().flat_map(|track| {
            [
                track.plan.feedback.nack.then(|| track.missing.poll_timeout()).flatten(),
                track.keyframe.poll_timeout(),
            ]
        });
        let arrivals = self.arrivals.as_ref().and_then(ArrivalLog::poll_timeout);
        let choice = self.picture.as_ref().and_then(|picture| picture.whole.poll_timeout());
        per_track.chain([arrivals, choice, Some(self.report_at)]).flatten().min()
    }

    /// The feedback that is due, as a plain compound packet.
    pub fn poll_feedback(&mut self, now: Instant) -> Option<(Compound, FeedbackCount)> {
        let mut out = Compound::default();
        let mut count = FeedbackCount::default();
        if self.report_at <= now {
            self.report_at = now + REPORT_INTERVAL;
            count.reported = true;
            self.report(&mut out, now);
        }
        let better = self.picture.as_mut().and_then(|picture| picture.whole.poll_keyframe(now));
        let mut asked = false;
        for track in &mut self.tracks {
            let Some(ssrc) = track.sources.current() else { continue };
            if better.is_some() && track.encoding() == better {
                track.keyframe.request(now);
            }
            if track.plan.feedback.nack {
                // OBS answers no NACK on its lower encodings.
                if track.rid.is_some() && track.missing.poll_unanswered(now) {
                    track.keyframe.request(now);
                }
                let pairs = track.missing.poll_nack(now);
                if !pairs.is_empty() {
                    count.nacks += pairs.len() as u64;
                    out.nack(OWN_SSRC, ssrc, &pairs);
                }
            }
            if track.keyframe.poll(now) {
                let feedback = track.plan.feedback;
                count.keyframe_requests += u64::from(feedback.pli || feedback.fir);
                track.keyframe.asked(feedback.pli || feedback.fir, now);
                asked = true;
                if feedback.pli {
                    out.picture_loss(OWN_SSRC, ssrc);
                } else if feedback.fir {
                    track.intra_requests = track.intra_requests.wrapping_add(1);
                    out.full_intra_request(OWN_SSRC, ssrc, track.intra_requests);
                }
            }
        }
        if asked {
            self.note_answers();
        }
        if let Some(log) = &mut self.arrivals {
            let ssrc = self.tracks.iter().rev().find_map(|track| track.sources.current()).unwrap_or_default();
            log.poll_feedback(OWN_SSRC, ssrc, &mut out, now);
        }
        (!out.is_empty()).then_some((out, count))
    }

    /// What is wrong with the publisher, if that is another than was said last. For after
    /// [`Ingest::poll_feedback`], so that it is said once a second at most.
    pub fn poll_health(&mut self) -> Option<Health> {
        let changed = self.health != self.told;
        self.told = self.health;
        changed.then_some(self.health)
    }

    /// A publisher listens to keyframe requests if one of its encodings does: a browser need not send all of them.
    pub(super) fn note_answers(&mut self) {
        let answers = self.tracks.iter().filter_map(|track| track.keyframe.answers());
        self.health.answers_keyframe_requests = answers.reduce(|one, other| one || other);
    }

    /// How the encodings of its picture are, if that is another than was said last. For after
    /// [`Ingest::poll_feedback`] with a report, so that it is said once a second at most.
    pub fn poll_encodings(&mut self, now: Instant) -> Option<&[EncodingView]> {
        let picture = self.picture.as_mut()?;
        let encodings = self.tracks.iter().filter(|track| track.encoding().is_some());
        let views = picture.whole.poll_views(encodings.map(|track| track.rid.as_deref()), now);
        let changed = views != picture.told;
        picture.told = views;
        changed.then_some(&picture.told)
    }

    /// How its sound is, if that is another than was said last: what it takes by more than a quarter. For after
    /// [`Ingest::poll_feedback`] with a report.
    pub fn poll_sound(&mut self, now: SoundView) -> Option<SoundView> {
        let told = self.told_sound;
        let (rate, before) = (now.kilobits_per_second, told.kilobits_per_second);
        let same = SoundView { kilobits_per_second: before, ..now } == told;
        let differs = !same || rate.abs_diff(before) * 4 > before;
        if differs {
            self.told_sound = now;
        }
        differs.then_some(now)
    }

    fn report(&mut self, out: &mut Compound, now: Instant) {
        let blocks: Vec<Reception> = self
            .tracks
            .iter_mut()
            .filter_map(|track| {
                Some(track.reception.block(track.sources.current()?, track.missing.highest(), now))
            })
            .collect();
        out.receiver_report(OWN_SSRC, &blocks).cname(OWN_SSRC, "relay");
        if let Some(estimate) = &mut self.estimate {
            let ssrcs: Vec<u32> = self.tracks.iter().filter_map(|track| track.sources.current()).collect();
            out.estimate(OWN_SSRC, &ssrcs, estimate.poll_bitrate());
        }
    }
}
