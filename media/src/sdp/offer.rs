//! An offer, parsed and checked as far as it does not matter whether it publishes or plays: sizes,
//! transport credentials, BUNDLE and rtcp-mux.

use std::io::Cursor;

use rtc_sdp::{MediaDescription, SessionDescription};

use super::error::{SdpError, quote};
use super::fingerprint::Fingerprint;
use super::media_line::{MediaLine, Medium, check_protocol};
use super::setup::Setup;
use super::spelling;

/// An offer that can be answered, if its tracks can.
#[derive(Debug, Clone)]
pub struct Offer {
    ufrag: String,
    pwd: String,
    fingerprint: Fingerprint,
    setup: Setup,
    lines: Vec<MediaLine>,
    bundled: bool,
    trickle: bool,
    session_allow_mixed: bool,
}

impl Offer {
    /// Reads an offer. Bounded: 64 KiB, 2000 lines, 16 m-lines.
    ///
    /// # Errors
    ///
    /// Any [`SdpError`] that does not depend on the use of the session.
    pub fn parse(text: &str) -> Result<Offer, SdpError> {
        let text = spelling::plain(text)?;
        let session = SessionDescription::unmarshal(&mut Cursor::new(text.as_bytes()))
            .map_err(|error| SdpError::Syntax { reason: quote(&error.to_string()) })?;
        let lines = session
            .media_descriptions
            .iter()
            .map(|line| MediaLine::parse(line, &session.attributes))
            .collect::<Result<Vec<_>, _>>()?;
        if session.attributes.iter().any(|attribute| attribute.key == "ice-lite") {
            return Err(SdpError::BothIceLite);
        }
        let bundled = check_bundle(&session, &lines)?;
        for line in lines.iter().filter(|line| line.live && line.medium != Medium::Other) {
            check_protocol(line)?;
            if matches!(line.medium, Medium::Rtp(_)) && !line.rtcp_mux {
                return Err(SdpError::NoRtcpMux);
            }
        }
        let transport = TransportLine::find(&session, &lines)?;
        let (ufrag, pwd) = transport.credentials()?;
        Ok(Offer {
            ufrag,
            pwd,
            fingerprint: transport.fingerprint()?,
            setup: transport.setup()?,
            bundled,
            trickle: transport
                .values("ice-options")
                .any(|options| options.split_ascii_whitespace().any(|option| option == "trickle")),
            session_allow_mixed: session.has_attribute("extmap-allow-mixed"),
            lines,
        })
    }

    /// The ICE user fragment of the peer.
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// The ICE password of the peer. An ICE-lite end sends no checks and so never needs it, but a
    /// restart is told by its change.
    pub fn pwd(&self) -> &str {
        &self.pwd
    }

    /// What the peer's certificate has to match.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// The DTLS role the peer offers.
    pub fn setup(&self) -> Setup {
        self.setup
    }

    /// The m-lines, in order, rejected ones too.
    pub fn lines(&self) -> &[MediaLine] {
        &self.lines
    }

    /// Whether a live m-line asks for data channels.
    pub fn has_data_channel(&self) -> bool {
        self.lines.iter().any(|line| line.live && line.medium == Medium::DataChannel)
    }

    /// Whether one-byte and two-byte header extensions may be mixed (RFC 8285 section 4.1.2).
    pub fn extmap_allow_mixed(&self) -> bool {
        let mut rtp = self.lines.iter().filter(|line| matches!(line.medium, Medium::Rtp(_)) && line.live);
        self.session_allow_mixed || rtp.clone().next().is_some() && rtp.all(|line| line.extmap_allow_mixed)
    }

    /// Whether the offer has a BUNDLE group: a lone m-line may do without.
    pub(super) fn bundled(&self) -> bool {
        self.bundled
    }

    /// Whether the peer knows trickle ICE.
    pub(super) fn trickle(&self) -> bool {
        self.trickle
    }
}

/// Whether there is a BUNDLE group. One over every live m-line is required, unless there is only
/// one of them.
fn check_bundle(session: &SessionDescription, lines: &[MediaLine]) -> Result<bool, SdpError> {
    let live: Vec<&MediaLine> = lines.iter().filter(|line| line.live).collect();
    if live.is_empty() {
        return Err(SdpError::NoTrack);
    }
    for (index, line) in lines.iter().enumerate() {
        if !line.mid.is_empty() && lines[..index].iter().any(|other| other.mid == line.mid) {
            return Err(SdpError::Malformed { attribute: "mid", reason: "each m-line has its own" });
        }
    }
    match bundle_group(session) {
        None if live.len() == 1 => Ok(false),
        None => Err(SdpError::NoBundle),
        Some(group) => {
            let inside = |line: &&MediaLine| group.split_ascii_whitespace().any(|mid| mid == line.mid);
            if live.iter().all(inside) { Ok(true) } else { Err(SdpError::NoBundle) }
        }
    }
}

/// The mids of the first BUNDLE group (RFC 9143).
fn bundle_group(session: &SessionDescription) -> Option<&str> {
    session
        .attributes
        .iter()
        .filter(|attribute| attribute.key == "group")
        .filter_map(|attribute| attribute.value.as_deref())
        .find_map(|value| value.strip_prefix("BUNDLE"))
        .filter(|mids| mids.is_empty() || mids.starts_with(char::is_whitespace))
}

/// The m-line whose transport all bundled ones share: the first live one of the group
/// (RFC 9143 section 7.2.1), above it the session.
struct TransportLine<'s> {
    session: &'s SessionDescription,
    line: &'s MediaDescription,
}

impl<'s> TransportLine<'s> {
    fn find(session: &'s SessionDescription, lines: &[MediaLine]) -> Result<Self, SdpError> {
        let index_of = |mid: &str| lines.iter().position(|line| line.live && line.mid == mid);
        let index = bundle_group(session)
            .and_then(|mids| mids.split_ascii_whitespace().find_map(index_of))
            .or_else(|| lines.iter().position(|line| line.live))
            .ok_or(SdpError::NoTrack)?;
        Ok(TransportLine { session, line: &session.media_descriptions[index] })
    }

    /// The values of an attribute: those of the m-line, else those of the session (OBS 30.1 has them there),
    /// else those of the next m-line that has any: they share one transport.
    fn values(&self, key: &'static str) -> impl Iterator<Item = &'s str> {
        let (session, line) = (self.session, self.line);
        let attributes = if line.has_attribute(key) {
            &line.attributes
        } else if session.has_attribute(key) {
            &session.attributes
        } else {
            let other = session.media_descriptions.iter().find(|line| line.has_attribute(key));
            &other.unwrap_or(line).attributes
        };
        attributes
            .iter()
            .filter(move |attribute| attribute.key == key)
            .filter_map(|attribute| attribute.value.as_deref())
    }

    fn credentials(&self) -> Result<(String, String), SdpError> {
        let value = |attribute| self.values(attribute).next().ok_or(SdpError::Missing { attribute });
        Ok((ufrag(value("ice-ufrag")?)?, pwd(value("ice-pwd")?)?))
    }

    fn fingerprint(&self) -> Result<Fingerprint, SdpError> {
        Fingerprint::strongest(self.values("fingerprint"))
    }

    fn setup(&self) -> Result<Setup, SdpError> {
        // RFC 4145 section 4: an offer that says nothing is active
        let said = self.values("setup").next().unwrap_or(Setup::Active.name());
        [Setup::Active, Setup::Passive, Setup::ActPass]
            .into_iter()
            .find(|setup| setup.name().eq_ignore_ascii_case(said))
            .ok_or_else(|| SdpError::Setup { setup: quote(said) })
    }
}

/// A checked `a=ice-ufrag` (RFC 8839 section 5.4).
pub(super) fn ufrag(value: &str) -> Result<String, SdpError> {
    credential(value, 4).ok_or(SdpError::Malformed { attribute: "ice-ufrag", reason: "4 to 256 ice-chars" })
}

/// A checked `a=ice-pwd` (RFC 8839 section 5.4).
pub(super) fn pwd(value: &str) -> Result<String, SdpError> {
    credential(value, 22).ok_or(SdpError::Malformed { attribute: "ice-pwd", reason: "22 to 256 ice-chars" })
}

/// Wider than ice-char, because some stacks use base64url; `:` would split a STUN username.
fn credential(value: &str, least: usize) -> Option<String> {
    let value = value.trim();
    let fits = (least..=256).contains(&value.len());
    (fits && value.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':')).then(|| value.to_owned())
}
