//! Spatial layers of one encoding: how many of them a listener gets, by its wire and by its wish.

use media::{Bound, Reason, Wish, rtp::descriptor::SpatialLayer};

use super::*;

/// Of each layer alone; together they are 0.12, 0.6 and 2.0 Mbit/s.
const LAYERS: [u64; 3] = [120_000, 480_000, 1_400_000];

fn view(wire: u64) -> View {
    let mut view = View::new(&LAYERS, wire);
    view.stage.spatial = true;
    view
}

impl View {
    /// Plays for a time. Gives each change of the highest spatial layer since it began, and the longest time between two
    /// pictures. Each picture is whole.
    fn tops(&mut self, time: Duration) -> (Vec<(Duration, u8)>, Duration) {
        let from = self.sim.now;
        self.run(time);
        let got = self.sim.peers[self.listener].got_media(Kind::Video);
        let mut pictures: Vec<(Duration, u32, u8, bool)> = Vec::new();
        for got in got.iter().filter(|got| got.at >= from && !got.payload.is_empty()) {
            let spatial = got.payload[3] >> 1 & 0x07;
            match pictures.last_mut().filter(|(_, timestamp, ..)| *timestamp == got.timestamp) {
                Some((_, _, top, ended)) => {
                    assert!(
                        !*ended && (spatial == *top || spatial == *top + 1),
                        "layer by layer, up to the marker"
                    );
                    (*top, *ended) = (spatial, got.marker);
                }
                None => pictures.push((got.at - from, got.timestamp, spatial, got.marker)),
            }
        }
        let mut changes: Vec<(Duration, u8)> = Vec::new();
        for (at, _, top, _) in pictures.iter().take(pictures.len().saturating_sub(1)) {
            if changes.last().is_none_or(|(_, last)| last != top) {
                changes.push((*at, *top));
            }
        }
        let without_end =
            pictures.iter().take(pictures.len().saturating_sub(1)).filter(|(.., ended)| !ended).count();
        // A packet may be lost on a wire that became narrow.
        assert!(without_end <= pictures.len() / 50, "{without_end} of {} have no end", pictures.len());
        let gaps = pictures.windows(2).map(|pair| pair[1].0 - pair[0].0);
        (changes, gaps.max().unwrap_or_default())
    }

    fn width(&self) -> Option<u16> {
        let sight = &self.sim.sights.last().expect("it was told").1;
        Some(sight.sent.as_ref()?.resolution?.width)
    }
}

#[test]
fn a_listener_gets_as_many_spatial_layers_as_it_wishes() {
    let mut view = view(5_000_000);
    let session = view.sim.peers[view.listener].session;
    view.sim.tell(&Command::Watch { session, watched: true });
    let (tops, _) = view.tops(SECOND * 20);
    assert_eq!(tops.last().map(|(_, top)| *top), Some(2), "{tops:?}");
    assert_eq!((view.width(), view.sim.sights.last().unwrap().1.reason), (Some(1280), Reason::Best));
    for (wished, top) in
        [(Some(0), 0), (Some(1), 1), (Some(2), 2), (Some(1), 1), (None, 2), (Some(0), 0), (None, 2)]
    {
        let spatial = wished.map(SpatialLayer);
        let asked = view.sim.wanted.len();
        let before = view.width().unwrap_or_default();
        view.sim.tell(&Command::Wish { session, wish: Wish::UpTo(Bound { spatial, ..Bound::default() }) });
        let (tops, longest) = view.tops(SECOND * 5);
        let [.., (since, last)] = tops[..] else { panic!("no picture") };
        assert_eq!(last, top, "{wished:?}: {tops:?}");
        assert!(tops.len() <= 2 && since < ms(300) && longest < ms(120), "{wished:?}: {tops:?} {longest:?}");
        assert_eq!(view.width(), Some(320 << top), "{wished:?}");
        let more = view.width().unwrap_or_default() > before;
        assert_eq!(view.sim.wanted.len() - asked, usize::from(more), "a keyframe is asked for on the way up");
    }
}

#[test]
fn a_listener_gets_as_many_spatial_layers_as_its_wire_carries() {
    let mut view = view(3_000_000);
    let (tops, _) = view.tops(SECOND * 20);
    assert_eq!(tops.last().map(|(_, top)| *top), Some(2), "{tops:?}");
    for (wire, top) in [(1_100_000, 1), (400_000, 0), (1_100_000, 1), (3_000_000, 2)] {
        view.wire(wire);
        let (tops, longest) = view.tops(SECOND * 25);
        assert_eq!(tops.last().map(|(_, top)| *top), Some(top), "{wire}: {tops:?}");
        assert!(tops.len() <= 5 && longest < ms(500), "{wire}: {tops:?} {longest:?}");
    }
}
