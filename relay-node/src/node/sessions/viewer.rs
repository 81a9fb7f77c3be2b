//! What is known of how a listener sees its picture: what it wished, and what a worker told of it. It names encodings
//! as their publisher does.

use std::{sync::Arc, time::Instant};

use media::{
    Bound, LayerRate, Reason, Shown, Sight, Wish,
    rtp::descriptor::{Resolution, SpatialLayer, TemporalLayer},
};
use protocol::api::{
    LayerWish, Picture, PictureEncoding, PictureLayer, PictureLayers, PictureReason, PictureSent,
};
use thiserror::Error;

use super::{hearer::WishPace, told::Told};

/// A listener that gets a picture.
#[derive(Debug)]
pub(crate) struct Viewer {
    /// Of its m-line.
    pub(crate) mid: String,
    /// What it sees.
    pub(crate) told: Told<Box<Sight>>,
    pace: WishPace,
}

/// Why a wish is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WishError {
    /// No such session, or it is over.
    #[error("there is no such session: it may have ended; open a new one with POST")]
    NoSession,
    /// It gets no picture.
    #[error("this session has no picture: there is nothing to choose")]
    NoPicture,
    /// Neither the picture nor the sound has this mid.
    #[error("the picture of this session has the mediaId {mid}{}", .sound.as_ref().map_or(String::new(), |mid| format!(", its sound {mid}")))]
    Media {
        /// The mid of the picture.
        mid: String,
        /// That of the sound, if there is one.
        sound: Option<String>,
    },
    /// There is no encoding of this name.
    #[error("there is no such encoding now: those there are have the encodingId {}", .ids.join(", "))]
    Encoding {
        /// The names of those there are.
        ids: Vec<String>,
    },
    /// It wishes too often.
    #[error("too many wishes: at most {WISHES} a second")]
    TooFast,
}

/// What the encodings of a picture are called, by their places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Names {
    /// There is one, with this name if it has any.
    One(Option<Arc<str>>),
    /// It comes in encodings, of which these can be had.
    Several(Vec<(u8, Option<Arc<str>>)>),
}

/// Wishes of one session in a second.
pub(super) const WISHES: u32 = 20;
/// What a picture is called that comes as a whole.
const WHOLE: &str = "0";

impl Viewer {
    pub(crate) fn new(mid: String) -> Viewer {
        Viewer { mid, told: Told::default(), pace: WishPace::default() }
    }

    /// What is wished, if that can be understood and does not come too often.
    pub(crate) fn handle_wish(
        &mut self,
        wish: &LayerWish,
        names: &Names,
        now: Instant,
    ) -> Result<Wish, WishError> {
        self.pace.take(now)?;
        if wish.media_id.as_ref().is_some_and(|mid| *mid != self.mid) {
            return Err(WishError::Media { mid: self.mid.clone(), sound: None });
        }
        let encoding = wish.encoding_id.as_ref().map(|id| names.place(id)).transpose()?;
        if wish.video == Some(false) {
            return Ok(Wish::Sound);
        }
        let temporal = [wish.temporal_layer_id, wish.max_temporal_layer_id].into_iter().flatten().min();
        let spatial = [wish.spatial_layer_id, wish.max_spatial_layer_id].into_iter().flatten().min();
        Ok(Wish::UpTo(Bound {
            encoding: encoding.flatten(),
            spatial: spatial.map(SpatialLayer),
            temporal: temporal.map(TemporalLayer),
        }))
    }

    /// What it sees, of a stream that has a picture now or has none.
    pub(crate) fn picture(&self, names: &Names, has_picture: bool) -> Picture {
        let sight = self.told.sight().filter(|_| has_picture);
        let reason = match sight.map_or(Reason::Publisher, |sight| sight.reason) {
            _ if !has_picture => PictureReason::None,
            why => reason(why),
        };
        let sent = sight.and_then(|sight| sight.sent.as_ref());
        Picture {
            video: sent.map(|shown| PictureSent { encoding: names.encoding(shown), kbps: shown.rate / 1000 }),
            best: sight.and_then(|sight| sight.best.as_ref()).map(|shown| names.encoding(shown)),
            reason,
            audio: None,
        }
    }

    /// What it may have.
    pub(crate) fn layers(&self, names: &Names, has_picture: bool) -> PictureLayers {
        let Some(sight) = self.told.sight().filter(|_| has_picture) else {
            return PictureLayers::default();
        };
        let whole = |shown: &Shown| PictureLayer {
            encoding: names.encoding(shown),
            simulcast_idx: shown.place.unwrap_or(0),
            spatial_layer_id: None,
            temporal_layer_id: None,
            bitrate: shown.rate,
        };
        let layer = |shown: &Shown, layer: &LayerRate| PictureLayer {
            encoding: names.sized(shown, layer.resolution),
            spatial_layer_id: Some(layer.extent.spatial.0),
            temporal_layer_id: Some(layer.extent.temporal.0),
            bitrate: layer.rate,
            ..whole(shown)
        };
        let all = |shown: &Shown| shown.layers.iter().rev().map(|of| layer(shown, of)).collect::<Vec<_>>();
        PictureLayers {
            active: sight.active.iter().map(whole).collect(),
            inactive: sight.inactive.iter().map(|shown| names.encoding(shown)).collect(),
            layers: sight.active.iter().flat_map(all).collect(),
        }
    }
}

/// Its word in the API.
pub(super) fn reason(reason: Reason) -> PictureReason {
    match reason {
        Reason::Best => PictureReason::Best,
        Reason::Link => PictureReason::Link,
        Reason::Wish => PictureReason::Wish,
        Reason::Publisher => PictureReason::Publisher,
        Reason::Bridge => PictureReason::Bridge,
    }
}

impl Names {
    fn encoding(&self, shown: &Shown) -> PictureEncoding {
        self.sized(shown, shown.resolution)
    }

    fn sized(&self, shown: &Shown, resolution: Option<Resolution>) -> PictureEncoding {
        PictureEncoding {
            encoding_id: self.id(shown.place),
            width: resolution.map(|resolution| resolution.width),
            height: resolution.map(|resolution| resolution.height),
        }
    }

    fn id(&self, place: Option<u8>) -> String {
        match (self, place) {
            (Names::One(Some(rid)), _) => rid.to_string(),
            (Names::One(None), _) | (Names::Several(_), None) => WHOLE.to_owned(),
            (Names::Several(known), Some(place)) => {
                let known = known.iter().find(|(known, _)| *known == place);
                known.and_then(|(_, rid)| rid.as_deref()).map_or_else(|| place.to_string(), str::to_owned)
            }
        }
    }

    /// The place of the encoding with this name; `None` where it is all there is.
    fn place(&self, id: &str) -> Result<Option<u8>, WishError> {
        let places: Vec<Option<u8>> = match self {
            Names::One(_) => vec![None],
            Names::Several(known) => known.iter().map(|(place, _)| Some(*place)).collect(),
        };
        let found = places.iter().find(|place| self.id(**place) == id);
        let ids = || places.iter().map(|place| self.id(*place)).collect();
        found.copied().ok_or_else(|| WishError::Encoding { ids: ids() })
    }
}

#[cfg(test)]
mod tests {
    use media::rtp::descriptor::Extent;

    use std::time::Duration;

    use super::*;

    fn names(rids: &[&str]) -> Names {
        let mut named = rids.iter().map(|rid| Some(Arc::from(*rid)).filter(|_| !rid.is_empty()));
        match rids.len() {
            0 => Names::One(None),
            1 => Names::One(named.next().flatten()),
            _ => Names::Several((0..).zip(named).collect()),
        }
    }

    fn wish(text: &str) -> LayerWish {
        serde_json::from_str(text).expect("a wish")
    }

    #[test]
    fn what_is_wished_is_a_bound_by_the_names_of_the_publisher() {
        let now = crate::clock::now();
        let of = |text: &str, names: &Names| Viewer::new("1".into()).handle_wish(&wish(text), names, now);
        let spatial = |encoding, spatial: Option<u8>, temporal: Option<u8>| {
            let (spatial, temporal) = (spatial.map(SpatialLayer), temporal.map(TemporalLayer));
            Ok(Wish::UpTo(Bound { encoding, spatial, temporal }))
        };
        let bound = |encoding, temporal| spatial(encoding, None, temporal);
        let three = names(&["l", "m", "h"]);
        assert_eq!(of("{}", &three), Ok(Wish::default()));
        assert_eq!(of(r#"{"video":true,"mediaId":"1"}"#, &three), Ok(Wish::default()));
        assert_eq!(of(r#"{"video":false}"#, &three), Ok(Wish::Sound));
        assert_eq!(of(r#"{"encodingId":"m","maxTemporalLayerId":0}"#, &three), bound(Some(1), Some(0)));
        assert_eq!(
            of(r#"{"encodingId":"h","spatialLayerId":0,"temporalLayerId":1}"#, &three),
            spatial(Some(2), Some(0), Some(1))
        );
        assert_eq!(of(r#"{"maxSpatialLayerId":1}"#, &names(&[])), spatial(None, Some(1), None));
        let ids =
            |ids: &[&str]| Err(WishError::Encoding { ids: ids.iter().map(|id| (*id).to_owned()).collect() });
        assert_eq!(of(r#"{"encodingId":"1"}"#, &three), ids(&["l", "m", "h"]));
        assert_eq!(of(r#"{"encodingId":"1"}"#, &names(&["", ""])), bound(Some(1), None));
        assert_eq!(of(r#"{"encodingId":"0"}"#, &names(&[])), bound(None, None));
        assert_eq!(of(r#"{"encodingId":"f"}"#, &names(&["f"])), bound(None, None));
        assert_eq!(of(r#"{"encodingId":"0"}"#, &names(&["f"])), ids(&["f"]));
        // Of three that are published elsewhere one lives.
        let last = Names::Several(vec![(2, None)]);
        assert_eq!(of(r#"{"encodingId":"2"}"#, &last), bound(Some(2), None));
        assert_eq!(of(r#"{"encodingId":"0"}"#, &last), ids(&["2"]));
        let other = of(r#"{"mediaId":"0"}"#, &three);
        assert_eq!(other, Err(WishError::Media { mid: "1".into(), sound: None }));
    }

    #[test]
    fn twenty_wishes_a_second_are_enough() {
        let (mut viewer, now) = (Viewer::new("1".into()), crate::clock::now());
        let names = Names::One(None);
        let mut wishes =
            |now| (0..50).filter(|_| viewer.handle_wish(&wish("{}"), &names, now).is_ok()).count();
        assert_eq!(wishes(now), 20);
        assert_eq!(wishes(now + Duration::from_millis(500)), 10);
        assert_eq!(wishes(now + Duration::from_secs(60)), 20);
    }

    #[test]
    fn what_is_seen_is_told_with_the_names_of_the_publisher() {
        let shown = |place, width: Option<u16>, rate| Shown {
            place,
            resolution: width.map(|width| Resolution { width, height: width / 2 }),
            rate,
            layers: [(0, rate / 2), (1, rate)]
                .map(|(temporal, rate)| LayerRate {
                    extent: Extent { spatial: SpatialLayer(0), temporal: TemporalLayer(temporal) },
                    rate,
                    resolution: None,
                })
                .to_vec(),
        };
        let mut viewer = Viewer::new("1".into());
        let (three, nothing) = (names(&["l", "m", "h"]), PictureLayers::default());
        let before = viewer.picture(&three, true);
        assert_eq!((before.video, before.reason), (None, PictureReason::Publisher));
        assert_eq!(viewer.picture(&three, false).reason, PictureReason::None);
        let sight = Sight {
            sent: Some(shown(Some(1), None, 600_400)),
            best: Some(shown(Some(2), Some(1280), 2_000_000)),
            active: vec![shown(Some(1), None, 600_400)],
            inactive: vec![shown(Some(2), Some(1280), 2_000_000)],
            reason: Reason::Publisher,
        };
        viewer.told.handle_sight(Box::new(sight.clone()));
        let quality = serde_json::to_value(viewer.picture(&three, true)).expect("JSON");
        let expected = serde_json::json!({
            "video": { "encodingId": "m", "kbps": 600 },
            "best": { "encodingId": "h", "width": 1280, "height": 640 },
            "reason": "publisher",
        });
        assert_eq!(quality, expected);
        let layers = serde_json::to_value(viewer.layers(&three, true)).expect("JSON");
        let layer = |temporal, rate| {
            serde_json::json!({ "encodingId": "m", "simulcastIdx": 1, "spatialLayerId": 0,
                "temporalLayerId": temporal, "bitrate": rate })
        };
        let expected = serde_json::json!({
            "active": [{ "encodingId": "m", "simulcastIdx": 1, "bitrate": 600_400 }],
            "inactive": [{ "encodingId": "h", "width": 1280, "height": 640 }],
            "layers": [layer(1, 600_400), layer(0, 300_200)],
        });
        assert_eq!(layers, expected);
        assert_eq!(viewer.layers(&three, false), nothing);
        assert_eq!(viewer.picture(&three, false).best, None);
        viewer.told.handle_sight(Box::new(Sight { sent: Some(shown(None, None, 1000)), ..sight }));
        let video =
            |names: &Names| viewer.picture(names, true).video.expect("a picture").encoding.encoding_id;
        assert_eq!([video(&names(&["f"])), video(&names(&[])), video(&three)], ["f", "0", "0"]);
    }
}
