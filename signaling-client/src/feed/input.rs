//! What a feed source opens, as the operator names it, and the text of the pipeline that opens it. Values go into
//! properties of elements, never into the text, so that no name or URL has to be quoted. Opens nothing itself.

use std::path::PathBuf;
use std::str::FromStr;

/// The element that a [`Plan`] sets properties of.
pub const ELEMENT: &str = "input";
/// The element of an operator's own pipeline that gives the sound, where the text does not end in it.
pub const OWN_SOUND: &str = "audio";
/// Decodes whatever it finds, but no picture.
const DECODE: &str = "uridecodebin name=input caps=audio/x-raw expose-all-streams=false";
/// The most channels that a device is asked for.
pub const MOST_CHANNELS: u16 = 64;

/// What is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// A tone on the left, another one on the right.
    Test,
    /// A file.
    File {
        /// Where it is.
        path: PathBuf,
        /// Whether it begins anew at its end.
        again: bool,
    },
    /// A sound card.
    Device(Device),
    /// A text for GStreamer.
    Pipeline(String),
    /// An address: RTSP, SRT, HLS or RTMP.
    Url(String),
}

/// A sound card, as the option names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Device {
    /// Of ALSA, such as `hw:1`.
    Alsa(String),
    /// Of PulseAudio or PipeWire; the default one without a name.
    Pulse(Option<String>),
    /// Of JACK: a beginning of the names of its ports; all physical ones without.
    Jack(Option<String>),
}

/// A pipeline as text, without its end, and what is set in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// What GStreamer parses. Whoever opens it appends the conversion and the sink.
    pub text: String,
    /// Properties of the element [`ELEMENT`].
    pub properties: Vec<(&'static str, String)>,
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (system, name) = text.split_once(':').unwrap_or((text, ""));
        let named = (!name.is_empty()).then(|| name.to_owned());
        match (system, named) {
            ("alsa", named) => Ok(Device::Alsa(named.unwrap_or_else(|| "default".to_owned()))),
            ("pulse", named) => Ok(Device::Pulse(named)),
            ("jack", named) => Ok(Device::Jack(named)),
            _ => Err("use alsa:hw:1, pulse:NAME or jack:NAME; --list-devices names them".to_owned()),
        }
    }
}

impl Input {
    /// An address of one of some schemes.
    ///
    /// # Errors
    /// What to change, as a clause.
    pub fn url(text: &str, schemes: &[&str]) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        if schemes.contains(&scheme) && !rest.is_empty() && !rest.contains(char::is_whitespace) {
            return Ok(Input::Url(text.to_owned()));
        }
        let known: Vec<_> = schemes.iter().map(|scheme| format!("{scheme}://…")).collect();
        Err(format!("use an address such as {}", known.join(" or ")))
    }

    /// The pipeline. `highest` is the highest channel that is wanted: a device is asked for so many.
    pub fn plan(&self, highest: Option<u16>) -> Plan {
        let device = |element: &str, properties: Vec<(&'static str, String)>| {
            let caps = highest.map(|least| {
                let most = MOST_CHANNELS.max(least);
                format!(" ! audio/x-raw,channels=(int)[{least},{most}]")
            });
            Plan { text: format!("{element} name={ELEMENT}{}", caps.unwrap_or_default()), properties }
        };
        match self {
            Input::Test => Plan { text: tones(), properties: vec![] },
            Input::File { path, .. } => {
                Plan { text: DECODE.to_owned(), properties: vec![("uri", file_uri(path))] }
            }
            Input::Url(url) => Plan { text: DECODE.to_owned(), properties: vec![("uri", url.clone())] },
            Input::Pipeline(text) => Plan { text: own(text), properties: vec![] },
            Input::Device(Device::Alsa(name)) => device("alsasrc", vec![("device", name.clone())]),
            Input::Device(Device::Pulse(name)) => device("pulsesrc", property("device", name)),
            Input::Device(Device::Jack(name)) => device("jackaudiosrc", property("port-pattern", name)),
        }
    }

    /// Whether it waits for somebody to call, so that nothing coming is no fault.
    pub fn waits_for_a_caller(&self) -> bool {
        matches!(self, Input::Url(url) if url.starts_with("srt://")
            && (url.contains("mode=listener") || url.starts_with("srt://:")))
    }

    /// Its name for messages: an address without user, password and query, which may hold secrets.
    pub fn name(&self) -> String {
        match self {
            Input::Test => "the test tones".to_owned(),
            Input::File { path, .. } => path.display().to_string(),
            Input::Device(Device::Alsa(name)) => format!("alsa:{name}"),
            Input::Device(Device::Pulse(name)) => system("pulse", name),
            Input::Device(Device::Jack(name)) => system("jack", name),
            Input::Pipeline(_) => "the pipeline".to_owned(),
            Input::Url(url) => shown(url),
        }
    }
}

fn property(name: &'static str, value: &Option<String>) -> Vec<(&'static str, String)> {
    value.iter().map(|value| (name, value.clone())).collect()
}

fn system(system: &str, name: &Option<String>) -> String {
    name.as_ref().map_or_else(|| system.to_owned(), |name| format!("{system}:{name}"))
}

/// 440 Hz on the left and 660 Hz on the right, each at a quarter of full scale.
fn tones() -> String {
    let tone = |frequency: u32, channel: u32| {
        format!(
            "audiotestsrc is-live=true samplesperbuffer=480 freq={frequency} volume=0.25 \
             ! audio/x-raw,format=F32LE,rate=48000,channels=1 ! queue ! both.sink_{channel}"
        )
    };
    format!("{} {} interleave name=both", tone(440, 0), tone(660, 1))
}

/// An operator's text, so that what is appended takes its sound.
fn own(text: &str) -> String {
    let text = text.trim().trim_end_matches('!').trim_end();
    let named = format!("name={OWN_SOUND}");
    let quoted = format!("name=\"{OWN_SOUND}\"");
    if text.split_whitespace().any(|word| word == named || word == quoted) {
        format!("{text} {OWN_SOUND}.")
    } else {
        text.to_owned()
    }
}

/// RFC 8089. Every octet that is not plainly allowed in a path is escaped.
fn file_uri(path: &std::path::Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let mut uri = "file://".to_owned();
    for octet in path.as_os_str().as_bytes() {
        match octet {
            b'/' | b'-' | b'_' | b'.' | b'~' => uri.push(char::from(*octet)),
            octet if octet.is_ascii_alphanumeric() => uri.push(char::from(*octet)),
            octet => uri.push_str(&format!("%{octet:02X}")),
        }
    }
    uri
}

fn shown(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_once('/').map_or((rest, None), |(host, path)| (host, Some(path)));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    match path {
        Some(path) => format!("{scheme}://{host}/{path}"),
        None => format!("{scheme}://{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_is_a_system_and_a_name() {
        assert_eq!("alsa:hw:1,0".parse(), Ok(Device::Alsa("hw:1,0".to_owned())));
        assert_eq!("pulse:desk.monitor".parse(), Ok(Device::Pulse(Some("desk.monitor".to_owned()))));
        assert_eq!("pulse".parse(), Ok(Device::Pulse(None)));
        assert_eq!("jack:".parse(), Ok(Device::Jack(None)));
        assert!("hw:1".parse::<Device>().unwrap_err().contains("--list-devices"));
    }

    #[test]
    fn a_device_is_asked_for_the_channels_that_are_wanted() {
        let input = Input::Device(Device::Alsa("hw:1".to_owned()));
        let plan = input.plan(Some(4));
        assert_eq!(plan.text, "alsasrc name=input ! audio/x-raw,channels=(int)[4,64]");
        assert_eq!(plan.properties, [("device", "hw:1".to_owned())]);
        assert_eq!(input.plan(None).text, "alsasrc name=input");
    }

    #[test]
    fn names_never_get_into_the_text() {
        let hostile = "a ! fakesink \"'b%".to_owned();
        let inputs = [
            Input::File { path: PathBuf::from(&hostile), again: false },
            Input::Device(Device::Pulse(Some(hostile.clone()))),
            Input::Url(hostile.clone()),
        ];
        for input in inputs {
            assert!(!input.plan(Some(2)).text.contains("fakesink"), "{input:?}");
        }
        let file = Input::File { path: PathBuf::from("/srv/a b%/ü.wav"), again: true }.plan(None);
        assert_eq!(file.properties, [("uri", "file:///srv/a%20b%25/%C3%BC.wav".to_owned())]);
    }

    #[test]
    fn an_own_pipeline_gives_its_end_or_what_it_names() {
        assert_eq!(own(" audiotestsrc ! "), "audiotestsrc");
        let text = "filesrc location=x ! decodebin name=d d. ! queue name=audio d. ! fakesink";
        assert_eq!(own(text), format!("{text} audio."));
        assert_eq!(own("tee name=audio2"), "tee name=audio2");
    }

    #[test]
    fn an_address_has_the_scheme_of_its_option() {
        assert!(Input::url("srt://10.0.0.9:9000?mode=caller", &["srt"]).is_ok());
        for wrong in ["", "srt://", "10.0.0.9:9000", "http://10.0.0.9", "srt://a b"] {
            assert_eq!(Input::url(wrong, &["srt"]).unwrap_err(), "use an address such as srt://…");
        }
        assert!(Input::Url("srt://0.0.0.0:9000?mode=listener".to_owned()).waits_for_a_caller());
        assert!(!Input::Url("srt://10.0.0.9:9000".to_owned()).waits_for_a_caller());
    }

    #[test]
    fn messages_name_no_password_and_no_query() {
        assert_eq!(shown("rtsp://ann:s3c@ret@10.0.0.9/live?key=x"), "rtsp://10.0.0.9/live");
        assert_eq!(shown("srt://10.0.0.9:9000?passphrase=secret"), "srt://10.0.0.9:9000");
    }
}
