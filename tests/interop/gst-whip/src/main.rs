//! `gst-whip URL HZ`: publishes a tone and a test picture with GStreamer's whipclientsink until killed.
//! Debian 12 has no such element: it comes as a crate and is registered in this process.

use std::process::ExitCode;

use gstreamer::{ElementFactory, MessageView, Pipeline, State, prelude::*};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, hertz] = &arguments[..] else {
        eprintln!("usage: gst-whip URL HZ");
        return ExitCode::from(64);
    };
    match run(url, hertz) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("gst-whip: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(url: &str, hertz: &str) -> Result<(), Box<dyn std::error::Error>> {
    gstreamer::init()?;
    gstrswebrtc::plugin_register_static()?;
    let launch = format!(
        "whipclientsink name=sink congestion-control=disabled \
         audiotestsrc is-live=true freq={hertz} volume=0.5 ! audio/x-raw,rate=48000,channels=2 ! queue ! sink. \
         videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=30/1 ! queue ! sink."
    );
    let pipeline = gstreamer::parse::launch(&launch)?.downcast::<Pipeline>().map_err(|_| "not a pipeline")?;
    let sink = pipeline.by_name("sink").ok_or("no sink")?;
    sink.property::<gstreamer::glib::Object>("signaller").set_property("whip-endpoint", url);
    // Everything is on this machine, and there may be no other.
    sink.set_property("stun-server", None::<String>);
    sink.set_property("video-caps", gstreamer::Caps::builder("video/x-vp8").build());
    for name in ["nicesrc", "dtlsenc", "srtpenc", "opusenc", "vp8enc"] {
        if ElementFactory::find(name).is_none() {
            return Err(format!("the element {name} is missing: script/setup gstreamer").into());
        }
    }
    pipeline.set_state(State::Playing)?;
    let bus = pipeline.bus().ok_or("no bus")?;
    for message in bus.iter_timed(gstreamer::ClockTime::NONE) {
        match message.view() {
            MessageView::Eos(_) => break,
            MessageView::Error(error) => {
                return Err(format!("{} ({:?})", error.error(), error.debug()).into());
            }
            _ => {}
        }
    }
    pipeline.set_state(State::Null)?;
    Ok(())
}
