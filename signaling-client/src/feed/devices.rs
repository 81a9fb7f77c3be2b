//! `--list-devices`: the sources of sound that GStreamer finds, how many channels each has, and what opens it.

use gstreamer as gst;
use gstreamer::prelude::*;

use super::pipeline::start_gstreamer;
use crate::error::Error;

/// A line for each device: how `--device` names it, its channels, its name for people.
///
/// # Errors
/// [`Error::Usage`] where GStreamer does not start or cannot look.
pub fn devices() -> Result<Vec<String>, Error> {
    start_gstreamer()?;
    let monitor = gst::DeviceMonitor::new();
    monitor.add_filter(Some("Audio/Source"), None);
    let unseen = |error: gst::glib::BoolError| Error::Usage(format!("devices cannot be looked for: {error}"));
    monitor.start().map_err(unseen)?;
    let lines = monitor.devices().iter().map(line).collect();
    monitor.stop();
    Ok(lines)
}

fn line(device: &gst::Device) -> String {
    let element = device.create_element(None).ok();
    let kind = element.as_ref().and_then(|element| element.factory()).map(|factory| factory.name());
    let name = element.filter(|element| element.has_property("device"));
    let name =
        name.and_then(|element| element.property_value("device").get::<Option<String>>().ok().flatten());
    let opens = match (kind.as_deref(), name) {
        (Some("alsasrc"), Some(name)) => format!("--device alsa:{name}"),
        (Some("pulsesrc"), Some(name)) => format!("--device pulse:{name}"),
        (Some("jackaudiosrc"), _) => "--device jack".to_owned(),
        (Some(element), _) => format!("--pipeline {element}"),
        (None, _) => "nothing here".to_owned(),
    };
    let channels = device.caps().and_then(|caps| channels(&caps));
    let channels = channels.unwrap_or_else(|| "an unknown number of".to_owned());
    format!("{opens}\t{channels} channels\t{}", device.display_name())
}

/// How many channels the caps of a device allow, at most.
fn channels(caps: &gst::Caps) -> Option<String> {
    let most = |structure: &gst::StructureRef| {
        let range = structure.get::<gst::IntRange<i32>>("channels").map(|range| (range.max(), "up to "));
        structure.get::<i32>("channels").map(|channels| (channels, "")).or(range).ok()
    };
    caps.iter().filter_map(most).max().map(|(channels, bound)| format!("{bound}{channels}"))
}
