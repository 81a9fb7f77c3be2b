//! A pipeline of GStreamer: made out of a [`Plan`], its samples given on, what went wrong with it in words. Decides
//! nothing.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Arc, Once};
use std::time::Duration;

use gstreamer as gst;
use gstreamer::glib;
use gstreamer::prelude::*;
use gstreamer_app as gst_app;
use gstreamer_audio as gst_audio;

use super::input::{ELEMENT, Input, Plan};
use super::supervision::Fault;
use crate::error::Error;
use crate::source::{CHANNELS, SAMPLE_RATE};

const SINK: &str = "feed_sink";
/// Buffers between the pipeline and the sink's thread, which takes each at once.
const SINK_BUFFERS: u32 = 50;
/// What a pipeline said and nobody has looked at yet.
const EVENTS: usize = 16;
/// Names of caps that are pictures, not containers.
const PICTURES: [&str; 8] = [
    "video/x-h264",
    "video/x-h265",
    "video/x-vp8",
    "video/x-vp9",
    "video/x-av1",
    "video/x-raw",
    "video/x-theora",
    "image/jpeg",
];

/// Takes interleaved samples of so many channels; `false` stops the pipeline.
pub type Taker = Box<dyn Fn(&[f32], u16) -> bool + Send>;

/// What a pipeline says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It failed.
    Fault(Fault),
    /// It is at its end.
    End,
}

/// A pipeline that plays. Dropped, it is taken down.
#[derive(Debug)]
pub struct Pipeline {
    pipeline: gst::Pipeline,
    bus: gst::Bus,
    events: Receiver<Event>,
    picture: Arc<AtomicBool>,
}

/// Starts GStreamer, once.
///
/// # Errors
/// [`Error::Usage`] where it is not installed as it should be.
pub fn start_gstreamer() -> Result<(), Error> {
    static QUIET: Once = Once::new();
    // Its own lines on standard error are for those who ask for them.
    QUIET.call_once(|| {
        if std::env::var_os("GST_DEBUG").is_none() {
            gst::log::set_default_threshold(gst::DebugLevel::None);
        }
    });
    gst::init().map_err(|error| Error::Usage(format!("GStreamer does not start: {error}")))
}

impl Pipeline {
    /// Makes a pipeline and lets it play. With `all_channels` the taker gets as many as there are, otherwise two.
    /// `by_clock` paces it by its own clock; without, it plays as fast as its samples are taken.
    ///
    /// # Errors
    /// A fault where it cannot be made or started.
    pub fn open(
        input: &Input,
        plan: &Plan,
        all_channels: bool,
        by_clock: bool,
        taker: Taker,
    ) -> Result<Self, Fault> {
        if let Input::Url(url) = input {
            let accepted = gst::Element::make_from_uri(gst::URIType::Src, url, None);
            accepted.map_err(|error| {
                Fault::Usage(format!("not an address to open: {}", clause(input, &error)))
            })?;
        }
        let text = format!("{} ! audioconvert ! audioresample ! appsink name={SINK}", plan.text);
        let made = gst::parse::launch(&text).map_err(|error| unmade(input, &error))?;
        let pipeline = made.downcast::<gst::Pipeline>();
        let pipeline = pipeline.map_err(|_| Fault::Usage("this is no pipeline".to_owned()))?;
        let picture = Arc::new(AtomicBool::new(false));
        if let Some(element) = pipeline.by_name(ELEMENT).filter(|_| !matches!(input, Input::Pipeline(_))) {
            for (name, value) in &plan.properties {
                element.set_property(name, value);
            }
            notice_pictures(&element, &picture);
        }
        let sink = pipeline.by_name(SINK).and_then(|sink| sink.downcast::<gst_app::AppSink>().ok());
        let sink = sink.ok_or_else(|| Fault::Usage(format!("the name {SINK} is taken")))?;
        set_up(&sink, all_channels, by_clock, taker);
        let bus = pipeline.bus().ok_or_else(|| Fault::Usage("this pipeline has no bus".to_owned()))?;
        let (said, events) = mpsc::sync_channel(EVENTS);
        let of = input.clone();
        // At once, in the thread that says it: a pipeline that cannot be started keeps nothing on its bus.
        bus.set_sync_handler(move |_, message| {
            let event = match message.view() {
                gst::MessageView::Error(error) => {
                    tracing::debug!("GStreamer: {} {:?}", error.error(), error.debug());
                    Some(Event::Fault(failed(&of, &error.error())))
                }
                gst::MessageView::Eos(_) => Some(Event::End),
                _ => None,
            };
            // The first ones are the cause of those that find no room.
            event.map(|event| said.try_send(event));
            gst::BusSyncReply::Drop
        });
        let opened = Pipeline { pipeline, bus, events, picture };
        if opened.pipeline.set_state(gst::State::Playing).is_err() {
            return Err(match opened.events.try_recv() {
                Ok(Event::Fault(fault)) => fault,
                _ => Fault::Usage("it cannot be started".to_owned()),
            });
        }
        Ok(opened)
    }

    /// The next thing that it says, waiting for it for some time.
    pub fn poll_event(&self, wait: Duration) -> Option<Event> {
        self.events.recv_timeout(wait).ok()
    }

    /// Lets it begin anew; whether it can.
    pub fn rewind(&self) -> bool {
        self.pipeline
            .seek_simple(gst::SeekFlags::FLUSH | gst::SeekFlags::ACCURATE, gst::ClockTime::ZERO)
            .is_ok()
    }

    /// Where it is, and how long it is, in whole seconds.
    pub fn position(&self) -> (Option<u64>, Option<u64>) {
        let seconds = |time: Option<gst::ClockTime>| time.map(gst::ClockTime::seconds);
        (seconds(self.pipeline.query_position()), seconds(self.pipeline.query_duration()))
    }

    /// Whether a picture was found, which is not sent.
    pub fn has_picture(&self) -> bool {
        self.picture.load(Relaxed)
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        let _ = self.pipeline.set_state(gst::State::Null);
        self.bus.unset_sync_handler();
    }
}

fn set_up(sink: &gst_app::AppSink, all_channels: bool, by_clock: bool, taker: Taker) {
    let caps = gst_audio::AudioCapsBuilder::new_interleaved()
        .format(gst_audio::AudioFormat::F32le)
        .rate(i32::try_from(SAMPLE_RATE).unwrap_or(i32::MAX));
    let caps = if all_channels { caps } else { caps.channels(CHANNELS as i32) };
    sink.set_caps(Some(&caps.build()));
    sink.set_sync(by_clock);
    sink.set_max_buffers(SINK_BUFFERS);
    let new_sample = move |sink: &gst_app::AppSink| {
        let sample = sink.pull_sample().map_err(|_| gst::FlowError::Eos)?;
        let info = sample.caps().and_then(|caps| gst_audio::AudioInfo::from_caps(caps).ok());
        let (info, buffer) = info.zip(sample.buffer()).ok_or(gst::FlowError::Error)?;
        let bytes = buffer.map_readable().map_err(|_| gst::FlowError::Error)?;
        let (samples, _) = bytes.as_slice().as_chunks::<4>();
        let samples: Vec<f32> = samples.iter().map(|octets| f32::from_le_bytes(*octets)).collect();
        let taken = taker(&samples, u16::try_from(info.channels()).unwrap_or(u16::MAX));
        if taken { Ok(gst::FlowSuccess::Ok) } else { Err(gst::FlowError::Flushing) }
    };
    sink.set_callbacks(gst_app::AppSinkCallbacks::builder().new_sample(new_sample).build());
}

/// Decoders are asked for one by one; who answers yes lets it go on, and has seen what there is.
fn notice_pictures(element: &gst::Element, picture: &Arc<AtomicBool>) {
    if glib::subclass::SignalId::lookup("autoplug-continue", element.type_()).is_none() {
        return;
    }
    let picture = Arc::clone(picture);
    element.connect("autoplug-continue", false, move |values| {
        let caps = values.get(2).and_then(|value| value.get::<gst::Caps>().ok());
        let name =
            caps.as_ref().and_then(|caps| caps.structure(0)).map(|structure| structure.name().as_str());
        if name.is_some_and(|name| PICTURES.contains(&name)) {
            picture.store(true, Relaxed);
        }
        Some(true.to_value())
    });
}

fn unmade(input: &Input, error: &glib::Error) -> Fault {
    let reason = clause(input, error);
    Fault::Usage(match input {
        Input::Pipeline(_) => format!("GStreamer does not understand it: {reason}"),
        _ if error.matches(gst::ParseError::NoSuchElement) => {
            format!("{reason}: install the GStreamer plugin that has it (script/setup feeds)")
        }
        _ => reason,
    })
}

/// Who can do something about it: the operator, or nobody here.
fn failed(input: &Input, error: &glib::Error) -> Fault {
    let reason = clause(input, error);
    if error.matches(gst::CoreError::MissingPlugin) || error.matches(gst::StreamError::CodecNotFound) {
        return Fault::Usage(format!("{reason}: install the GStreamer plugin for it (script/setup feeds)"));
    }
    match input {
        Input::Test | Input::File { .. } => Fault::Usage(reason),
        Input::Device(_) => Fault::Usage(format!(
            "{reason}: is it there, free, and has so many channels? --list-devices says"
        )),
        Input::Pipeline(_) if error.is::<gst::StreamError>() => Fault::Usage(reason),
        Input::Pipeline(_) | Input::Url(_) => Fault::Away(reason),
    }
}

/// An error's message as a clause of one line, without what is secret of an address.
fn clause(input: &Input, error: &glib::Error) -> String {
    let line = error.message().lines().next().unwrap_or_default().trim_end_matches('.');
    match input {
        Input::Url(url) => line.replace(url.as_str(), &input.name()),
        _ => line.to_owned(),
    }
}
