//! The JSON of the HTTP API, as `docs/api.md` and the OpenAPI document describe it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::codec::{Codec, Kind, TrackDescription};

/// One live stream, seen from the relay that was asked. An element of `GET /api/v1/streams`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stream {
    /// The stream's name.
    pub name: String,
    /// Its tracks.
    pub tracks: Vec<TrackDescription>,
    /// The zone it is published in.
    pub origin_zone: String,
    /// Links between the origin and this relay: 0 where it is published.
    pub hops: u32,
    /// Zone names from the origin to this relay.
    pub path: Vec<String>,
    /// Milliseconds since it went live, as far as this relay knows.
    pub age_ms: u64,
    /// Listeners at this relay.
    pub listeners: u32,
    /// Zones this relay knows to be taking the stream, this one included.
    #[serde(default)]
    pub heard_in: Vec<String>,
    /// What is known of who publishes it, at the relay where it is published while it is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher: Option<Publisher>,
    /// The encodings of its picture; empty without a picture, and elsewhere if it comes in one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub encodings: Vec<Encoding>,
    /// The rungs that its sound can be had in, by rising quality; empty if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rungs: Vec<Rung>,
    /// Listeners at this relay that get only a part of it; empty while there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cannot_play: Vec<CannotPlay>,
}

/// What whoever runs a publisher should know, in [`Stream`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Publisher {
    /// RTP packets that were dropped because they are longer than 1500 octets. More than 0: nobody gets a whole
    /// picture.
    pub dropped_too_large: u64,
    /// Whether it sends a keyframe when it is asked for one; absent as long as that did not show. If not, a new
    /// viewer waits for its next keyframe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers_keyframe_requests: Option<bool>,
}

/// One encoding of the picture of a [`Stream`]: as its publisher sends it, and at other relays what its own says of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Encoding {
    /// Its name (RFC 8851); absent if the publisher sends only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rid: Option<String>,
    /// In pixels; absent as long as no keyframe said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u16>,
    /// In pixels; absent as long as no keyframe said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u16>,
    /// In the last second; absent at other relays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frames_per_second: Option<u32>,
    /// In the last second. At other relays what links are planned with: one of 15 steps, the next one above; 0 if it is
    /// not known.
    pub kbps: u64,
    /// Nothing has come for a second: the publisher does not send it at the moment. Other relays do not list such.
    pub dormant: bool,
}

/// A rung of the sound of a [`Stream`], as its relay says it to the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rung {
    /// What links are planned with: one of 15 steps, the next one above.
    pub kbps: u64,
}

/// Listeners of a [`Stream`] that asked for a track and cannot play what it is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CannotPlay {
    /// What it is.
    pub codec: Codec,
    /// How many, at this relay.
    pub listeners: u32,
}

/// `GET /api/v1/sessions/{session}`: what a WHIP or WHEP session gets or gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// The stream's name.
    pub stream: String,
    /// It sends, else it plays.
    pub publishes: bool,
    /// ICE and DTLS are done.
    pub connected: bool,
    /// How much of the stream gets through.
    pub quality: Quality,
    /// Why not all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The tracks of the stream now.
    pub tracks: Vec<SessionTrack>,
    /// What a listener sees and hears, as it was told last: of one whose events are read, or that wished something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub picture: Option<Picture>,
}

/// What a listener sees of a picture and hears of the sound, in [`Session`] and as the event `quality` of WHEP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Picture {
    /// What is sent; null if nothing is.
    pub video: Option<PictureSent>,
    /// The best there is, be it that it is not sent now; null if nothing is known.
    pub best: Option<PictureEncoding>,
    /// Why what is sent is not the best.
    pub reason: PictureReason,
    /// What of the sound; absent if there is none, or nothing is known of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audio: Option<SoundSent>,
}

/// What is sent of a sound to a listener, in [`Picture`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SoundSent {
    /// `low`, `mid`, or `high` for what its publisher sends.
    #[serde(rename = "encodingId")]
    pub encoding_id: String,
    /// Why it is not `high`.
    pub reason: PictureReason,
    /// How losses are mended now.
    pub mending: Mending,
}

/// How what a listener loses of a sound is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mending {
    /// It is not: nothing is lost, or nothing can be done.
    None,
    /// The listener asks for what it lost, and is answered in time.
    Answers,
    /// Later packets carry copies (RED).
    Copies,
    /// Packets are sent again before anybody asks.
    Repeats,
}

/// What is sent to a listener, in [`Picture`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PictureSent {
    /// The encoding.
    #[serde(flatten)]
    pub encoding: PictureEncoding,
    /// What it takes, in kbit/s.
    pub kbps: u64,
}

/// An encoding of a picture, in [`Picture`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PictureEncoding {
    /// What its publisher calls it (its rid), or a digit where that is not known.
    #[serde(rename = "encodingId")]
    pub encoding_id: String,
    /// In pixels; absent if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u16>,
    /// In pixels; absent if it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<u16>,
}

/// Why a listener does not see the best there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PictureReason {
    /// It does.
    Best,
    /// Its path has no room for better, or for any picture.
    Link,
    /// It asked for no better, or for no picture.
    Wish,
    /// The publisher does not send better now, or no picture.
    Publisher,
    /// Better is wanted from another relay, and does not come.
    Bridge,
    /// The stream has no picture.
    None,
}

/// What a listener may have of a picture: the event `layers` of WHEP, by the mid of the picture.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PictureLayers {
    /// Encodings that there are, the best first.
    pub active: Vec<PictureLayer>,
    /// Encodings that the publisher does not send now, the best first.
    pub inactive: Vec<PictureEncoding>,
    /// Each layer of each encoding, the best first.
    pub layers: Vec<PictureLayer>,
}

/// An encoding, or a layer of it, in [`PictureLayers`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PictureLayer {
    /// The encoding.
    #[serde(flatten)]
    pub encoding: PictureEncoding,
    /// The place of the encoding in the publisher's answer.
    #[serde(rename = "simulcastIdx")]
    pub simulcast_idx: u8,
    /// This spatial layer with those below; absent for a whole encoding.
    #[serde(default, rename = "spatialLayerId", skip_serializing_if = "Option::is_none")]
    pub spatial_layer_id: Option<u8>,
    /// This layer with those below; absent for a whole encoding.
    #[serde(default, rename = "temporalLayerId", skip_serializing_if = "Option::is_none")]
    pub temporal_layer_id: Option<u8>,
    /// Bits per second.
    pub bitrate: u64,
}

/// What a listener wishes: the body of `POST /whep/{stream}/{session}/layer`. An empty one wishes the best that fits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LayerWish {
    /// False for sound only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub video: Option<bool>,
    /// The mid of the picture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_id: Option<String>,
    /// No better encoding than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding_id: Option<String>,
    /// As `maxSpatialLayerId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spatial_layer_id: Option<u8>,
    /// As `maxTemporalLayerId`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temporal_layer_id: Option<u8>,
    /// No higher spatial layer of the encoding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_spatial_layer_id: Option<u8>,
    /// No higher temporal layer of the encoding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_temporal_layer_id: Option<u8>,
}

/// How much of its stream a [`Session`] gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Quality {
    /// All that it asked for.
    Good,
    /// Some tracks of it.
    Partly,
    /// None of it.
    Nothing,
}

/// A track of the stream of a [`Session`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SessionTrack {
    /// Audio or video.
    pub kind: Kind,
    /// What it is now.
    pub codec: Codec,
    /// Whether the session negotiated that.
    pub plays: bool,
}

/// `GET /api/v1/mesh`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Mesh {
    /// The id of the relay that was asked.
    #[serde(rename = "self")]
    pub own: String,
    /// Every relay it knows of, itself included.
    pub nodes: Vec<MeshNode>,
    /// Every link it knows of, each once.
    pub links: Vec<MeshLink>,
    /// Relays without which others are cut off.
    pub articulation_points: Vec<MeshPoint>,
    /// Links without which relays are cut off.
    #[serde(default)]
    pub cut_links: Vec<MeshBridge>,
    /// The same as `cut_links`, under the name of earlier releases; the next one does not have it.
    #[schema(deprecated)]
    pub bridges: Vec<MeshBridge>,
    /// The areas of the mesh, its own first; only of the own one are the relays and links known.
    #[serde(default)]
    pub areas: Vec<MeshArea>,
    /// The bridge versions that this relay speaks.
    #[serde(default)]
    pub versions: VersionRange,
    /// Relays that tried to bridge to this one, or this one to them, lately, and speak none of its bridge versions.
    #[serde(default)]
    pub misfits: Vec<MeshMisfit>,
    /// Pictures that come to this relay in one encoding, though they are published in several.
    #[serde(default)]
    pub held_up: Vec<MeshHeldUp>,
    /// What the disk of the relay that was asked was found to lack since it started; `null` if nothing.
    #[serde(default)]
    pub older_disk: Option<MeshOlderDisk>,
    /// Another relay has the key of one; `null` if none is known of.
    #[serde(default)]
    pub key_twice: Option<MeshKeyTwice>,
    /// What is wrong with the records on the disk of the relay that was asked; `null` if nothing.
    #[serde(default)]
    pub store: Option<MeshStore>,
}

/// Two relays with one key, in [`Mesh`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MeshKeyTwice {
    /// Whose key it is.
    pub node: String,
    /// The relay that was asked is the second one: it has no links until it has a key of its own.
    pub second: bool,
    /// The same as a sentence, with the cure.
    pub warning: String,
}

/// What is wrong with the records on a relay's disk, in [`Mesh`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MeshStore {
    /// Whether records are kept on the disk now.
    pub history: bool,
    /// What is wrong, and what to do, as a sentence.
    pub warning: String,
}

/// Records that the relay that was asked wrote, that its disk does not have, and that others gave back, in [`Mesh`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MeshOlderDisk {
    /// How many since it started.
    pub records: u64,
    /// The relay that gave the first.
    pub node: String,
    /// Its zone; `null` if that is not known.
    pub zone: Option<String>,
    /// When that was, RFC 3339.
    pub since: String,
    /// The same as a sentence, which says what may have happened.
    pub warning: String,
}

/// A picture that comes in one encoding because a relay on its way knows of no others, in [`Mesh`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MeshHeldUp {
    /// The stream.
    pub stream: String,
    /// The relay that holds it up; `null` if it is further away than the next one.
    pub node: Option<String>,
    /// The same as a sentence, which names the relay that has to be updated, or where to ask for it.
    pub warning: String,
}

/// The bridge versions of a relay: all from the lowest to the highest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VersionRange {
    /// The lowest.
    pub lowest: u16,
    /// The highest.
    pub highest: u16,
}

/// A relay without a bridge version in common with the one that was asked, in [`Mesh`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MeshMisfit {
    /// Its id.
    pub node: String,
    /// The zone it says it serves.
    pub zone: String,
    /// What it speaks.
    pub versions: VersionRange,
    /// The same as a sentence, which names the relay that has to be updated.
    pub warning: String,
}

/// An area, or what hangs together of one, in [`Mesh`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MeshArea {
    /// Its number, as configured.
    pub area: u16,
    /// Tells parts of an area apart that cannot reach each other inside it.
    pub fragment: String,
    /// Relays in it.
    pub relays: u32,
    /// Relays in it that publish something.
    pub publishers: u32,
    /// Links to its edge.
    pub hops: u32,
    /// What routing adds up to its edge.
    pub cost: u32,
    /// Areas on the way to it, from the next one.
    pub path: Vec<u16>,
}

/// A relay that others hang on, in [`Mesh`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MeshPoint {
    /// Its id.
    pub node: String,
    /// The zones, or parts of zones, that are cut off if it dies: all but the largest part that remains.
    pub cuts_off: Vec<String>,
    /// The same as a sentence.
    pub warning: String,
}

/// A link that relays hang on, in [`Mesh`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MeshBridge {
    /// One end.
    pub a: String,
    /// The other end.
    pub b: String,
    /// The zones, or parts of zones, on its smaller side.
    pub cuts_off: Vec<String>,
    /// The same as a sentence.
    pub warning: String,
}

/// A relay in [`Mesh`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MeshNode {
    /// Its ed25519 public key in hexadecimal.
    pub id: String,
    /// Its zone.
    pub zone: String,
    /// Since when it is known here, as RFC 3339 UTC.
    pub since: String,
    /// How its listeners fare, if that is known here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hearing: Option<MeshHearing>,
}

/// How many of those who hear something at a relay get what, in [`MeshNode`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MeshHearing {
    /// They get 24 kbit/s.
    pub low: u32,
    /// They get 64 kbit/s.
    pub mid: u32,
    /// They get what their publisher sends.
    pub high: u32,
    /// They ask for what they lose, and are answered in time.
    pub answers: u32,
    /// They get copies of earlier packets in later ones (RED).
    pub copies: u32,
    /// They get packets again before they ask.
    pub repeats: u32,
}

/// A link in [`Mesh`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MeshLink {
    /// One end.
    pub a: String,
    /// The other end.
    pub b: String,
    /// Round trip in milliseconds.
    pub rtt_ms: f64,
    /// Share of packets lost, 0 to 1.
    pub loss: f64,
    /// What routing adds up: lower is better.
    pub cost: u32,
    /// Bits per second that it is thought to carry at least, as a power of two times 64 kbit/s; absent as long as
    /// it was never seen full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity_bps: Option<u64>,
    /// Both ends say that it works.
    pub up: bool,
    /// The bridge version that both ends use, of links of the relay that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u16>,
}

/// The body of `POST /api/v1/rooms/{room}/messages`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMessage {
    /// Who says it: 1 to 64 characters.
    pub author: String,
    /// What is said: 1 to 4000 characters.
    pub text: String,
    /// Chosen by the client, up to 64 characters: sending the same message twice under one nonce, to
    /// whichever relay, stores it once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<String>,
}

/// The answer to a posted message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Posted {
    /// The message's id, the same in every zone.
    pub id: String,
    /// Where it is on disk.
    #[serde(default)]
    pub saved: Saved,
}

/// Where a message is on disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Saved {
    /// On the disk of the relay it was posted to, and so far on no other.
    #[default]
    Here,
    /// On the disk of another relay too: it survives the one it was posted to.
    Mesh,
}

/// One chat message, in display order in `GET /api/v1/rooms/{room}/messages`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Message {
    /// The same in every zone.
    pub id: String,
    /// Who said it.
    pub author: String,
    /// Plain text: clients show it as text, never as markup.
    pub text: String,
    /// The zone of the relay that signed it, whatever author and text say.
    pub zone: String,
    /// That this relay does not know the other one's zone: `zone` is what the message says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub zone_unproven: bool,
    /// The relay that signed it: the first eight characters of its id.
    #[serde(default)]
    pub relay: String,
    /// When, by the clock of the relay it was posted to: RFC 3339 UTC with milliseconds.
    pub sent_at: String,
    /// That clock was more than a minute ahead of this relay's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub clock_ahead: bool,
}

/// A file that was given to a room, in `GET /api/v1/rooms/{room}/files`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SharedFile {
    /// The same in every zone: `GET /api/v1/files/{id}` has it.
    pub id: String,
    /// Fit to be shown and to be saved under; show it as text.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// What it is, as its publisher says.
    pub media_type: String,
    /// Who gave it.
    pub from: String,
    /// The zone it was given in.
    pub zone: String,
    /// When, by the clock of the relay it was given to: RFC 3339 UTC with milliseconds.
    pub sent_at: String,
    /// How many of its bytes are at this relay; the others come when they are asked for.
    pub here: u64,
}

/// The answer to an upload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Uploaded {
    /// The file's id, the same in every zone.
    pub id: String,
    /// Its name, as it will be shown.
    pub name: String,
    /// Its length.
    pub bytes: u64,
}

/// An error, as `application/problem+json` (RFC 9457).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Which kind of problem: a path below `/problems/`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What to do about it, in a sentence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What exactly was wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// `GET /version`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Version {
    /// Always `peddlenet-relay`.
    pub name: String,
    /// The release.
    pub version: String,
    /// The zone this relay serves.
    pub zone: String,
    /// Its id.
    pub node: String,
}
