//! What the API shows of streams and of the mesh. What it shows of one session is in `sessions/quality.rs`.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use media::EncodingView;
use mesh_routing::{AdvertisedEncoding, AreaView, AsWhole, Hearing, NominalRate, StreamView, Topology};
use protocol::{BridgeVersion, BridgeVersions, NodeId, SessionId, StreamName, ZoneName, api};
use rooms::WallTime;

use super::{Node, relay_of};

/// How listeners fare, as the API says it.
fn hearing(
    Hearing { qualities: [low, mid, high], mended: [answers, copies, repeats] }: Hearing,
) -> api::MeshHearing {
    api::MeshHearing { low, mid, high, answers, copies, repeats }
}

impl Node {
    /// The encodings of the picture of a stream here, as far as its publisher's session has told.
    pub(super) fn encodings(&self, stream: &StreamName) -> &[EncodingView] {
        let known = self.streams.get(stream);
        let told = known.and_then(|known| {
            known.encodings.as_ref().filter(|(session, _)| known.publisher == Some(*session))
        });
        told.map_or(&[], |(_, encodings)| encodings)
    }

    /// `GET /api/v1/sessions/{session}`.
    pub fn session(&self, id: SessionId, now: Instant) -> Option<api::Session> {
        let (stream, _) = self.sessions.stream_of(id)?;
        let carried = self.live(stream).map(|live| self.carried(&live));
        let shown = self.sessions.shown(id, carried, now)?;
        Some(api::Session { picture: self.picture(id), ..shown })
    }

    /// `GET /api/v1/streams`.
    pub fn streams(&self, now: Instant) -> Vec<api::Stream> {
        let topology = self.mesh.topology();
        let zone = |id: &NodeId| zone_or_id(&topology, id);
        let streams = self.mesh.streams().into_iter().map(|stream| {
            let tracks = self.carried(&stream);
            let listeners = self.streams.get(&stream.name).map_or(0, |known| known.listeners.len());
            // A zone may have several relays.
            let heard_in: BTreeSet<String> = self.mesh.heard_by(&stream.name).iter().map(zone).collect();
            let publisher = self.streams.get(&stream.name).and_then(|known| known.publisher).map(|_| {
                let health = self.health(&stream.name).unwrap_or_default();
                api::Publisher {
                    dropped_too_large: health.too_large,
                    answers_keyframe_requests: health.answers_keyframe_requests,
                }
            });
            api::Stream {
                encodings: self.shown(&stream),
                rungs: stream.rates.rungs.iter().filter_map(rung).collect(),
                cannot_play: self.sessions.cannot_play(&stream.name, &tracks),
                name: stream.name.to_string(),
                tracks,
                origin_zone: stream.origin_zone.to_string(),
                hops: stream.hops,
                path: stream.path.iter().map(zone).collect(),
                age_ms: now.saturating_duration_since(stream.since).as_millis() as u64,
                listeners: listeners as u32,
                heard_in: heard_in.into_iter().collect(),
                publisher,
            }
        });
        streams.collect()
    }

    /// `GET /api/v1/mesh`.
    pub fn topology(&mut self, now: Instant) -> api::Mesh {
        let topology = self.mesh.topology();
        let as_whole = self.mesh.as_whole();
        let held_up = as_whole.into_iter().map(|whole| held_up(&whole, &topology)).collect();
        let since = |at: Instant| {
            let ms = at.saturating_duration_since(self.started).as_millis() as u64;
            WallTime(self.started_wall.0 + ms).to_string()
        };
        let nodes = topology.nodes.iter().map(|node| api::MeshNode {
            id: node.id.to_string(),
            zone: node.zone.to_string(),
            since: since(node.since),
            // What this relay said last may be old.
            hearing: if node.id == self.id { Some(self.hearing()) } else { node.hearing }.map(hearing),
        });
        // Of links elsewhere only their ends know.
        let versions: BTreeMap<NodeId, u16> = self
            .mesh
            .links()
            .filter_map(|(link, neighbor, ..)| Some((neighbor, self.mesh.figures(link)?.version.0)))
            .collect();
        let links = topology.links.iter().map(|link| api::MeshLink {
            a: link.a.to_string(),
            b: link.b.to_string(),
            rtt_ms: link.rtt.as_secs_f64() * 1000.0,
            loss: f64::from(link.loss),
            cost: link.cost,
            capacity_bps: (!link.capacity.unknown()).then(|| link.capacity.bits_per_second()),
            up: link.up,
            version: match self.id {
                own if own == link.a => versions.get(&link.b).copied(),
                own if own == link.b => versions.get(&link.a).copied(),
                _ => None,
            },
        });
        let spoken = self.mesh.versions();
        let misfits = self.misfits.shown(now).map(|misfit| api::MeshMisfit {
            node: misfit.neighbor.to_string(),
            zone: misfit.zone.to_string(),
            versions: range(misfit.theirs),
            warning: misfit.to_string(),
        });
        let returned = self.mesh.counters().logs.returned;
        let older_disk = self.older_disk.shown().map(|shown| api::MeshOlderDisk {
            records: returned,
            node: shown.from.to_string(),
            zone: shown.zone.as_ref().map(ZoneName::to_string),
            since: since(shown.since),
            warning: shown.warning(Some(returned)),
        });
        let (articulation_points, cut_links) = weak_spots(&topology);
        api::Mesh {
            own: self.id.to_string(),
            nodes: nodes.collect(),
            links: links.collect(),
            articulation_points,
            bridges: cut_links.clone(),
            cut_links,
            versions: range(spoken),
            misfits: misfits.collect(),
            held_up,
            older_disk,
            key_twice: self.twin.shown(now),
            // The driver knows.
            store: None,
            areas: areas(self.mesh.areas()),
        }
    }
}

impl Node {
    /// The encodings of a picture: as they come where it is published here, else as their relay says.
    fn shown(&self, stream: &StreamView) -> Vec<api::Encoding> {
        match stream.origin == self.id {
            true => self.encodings(&stream.name).iter().map(encoding).collect(),
            false => stream.rates.encodings.iter().map(advertised).collect(),
        }
    }
}

fn rung(rate: &NominalRate) -> Option<api::Rung> {
    rate.bits_per_second().map(|rate| api::Rung { kbps: rate / 1000 })
}

fn advertised(encoding: &AdvertisedEncoding) -> api::Encoding {
    let pixels = |count: u16| Some(count).filter(|count| *count > 0);
    api::Encoding {
        rid: encoding.label.rid.map(|rid| rid.as_str().to_owned()),
        width: pixels(encoding.label.width),
        height: pixels(encoding.label.height),
        frames_per_second: None,
        kbps: encoding.rate.bits_per_second().unwrap_or_default() / 1000,
        dormant: false,
    }
}

fn encoding(view: &EncodingView) -> api::Encoding {
    api::Encoding {
        rid: view.rid.clone(),
        width: view.resolution.map(|size| size.width),
        height: view.resolution.map(|size| size.height),
        frames_per_second: Some(view.frames_per_second),
        kbps: view.kilobits_per_second,
        dormant: view.dormant,
    }
}

/// The zone of a relay that can be reached.
fn zone_of<'a>(topology: &'a Topology, id: &NodeId) -> Option<&'a ZoneName> {
    topology.nodes.iter().find(|node| node.id == *id).map(|node| &node.zone)
}

fn zone_or_id(topology: &Topology, id: &NodeId) -> String {
    zone_of(topology, id).map_or_else(|| id.short(), ZoneName::to_string)
}

fn held_up(whole: &AsWhole, topology: &Topology) -> api::MeshHeldUp {
    let (stream, id) = (&whole.stream, whole.neighbor);
    let relay = relay_of(&id, zone_of(topology, &id));
    let old = whole.version < BridgeVersion::ENCODINGS;
    let warning = match old {
        true => format!(
            "the picture of {stream} comes in one encoding: {relay} speaks bridge version {}, update it",
            whole.version
        ),
        false => format!(
            "the picture of {stream} comes in one encoding: a relay on its way speaks an older bridge version, ask \
             {relay} which one"
        ),
    };
    api::MeshHeldUp { stream: stream.to_string(), node: old.then(|| id.to_string()), warning }
}

fn range(versions: BridgeVersions) -> api::VersionRange {
    api::VersionRange { lowest: versions.lowest().0, highest: versions.highest().0 }
}

fn areas(mut areas: Vec<AreaView>) -> Vec<api::MeshArea> {
    areas.sort_by_key(|view| (view.hops, view.cost, view.fragment));
    let shown = |view: AreaView| api::MeshArea {
        area: view.fragment.area.0,
        fragment: view.fragment.to_string(),
        relays: view.relays,
        publishers: view.publishers,
        hops: view.hops,
        cost: view.cost,
        path: view.path.iter().map(|fragment| fragment.area.0).collect(),
    };
    areas.into_iter().map(shown).collect()
}

/// What the mesh hangs on, in the words of people.
fn weak_spots(topology: &Topology) -> (Vec<api::MeshPoint>, Vec<api::MeshBridge>) {
    let zone = |id: &NodeId| zone_or_id(topology, id);
    // A zone may have several relays.
    let zones =
        |ids: &[NodeId]| ids.iter().map(zone).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>();
    let are = |zones: &[String]| if zones.len() == 1 { "is" } else { "are" };
    let points = topology.cuts.points.iter().map(|(node, cut)| {
        let cuts_off = zones(cut);
        let (dies, cut) = (zone(node), cuts_off.join(", "));
        let warning = format!("if the relay of {dies} dies, {cut} {} cut off", are(&cuts_off));
        api::MeshPoint { node: node.to_string(), cuts_off, warning }
    });
    let links = topology.cuts.bridges.iter().map(|((a, b), cut)| {
        let cuts_off = zones(cut);
        let (ends, cut) = (format!("{} and {}", zone(a), zone(b)), cuts_off.join(", "));
        let warning = format!("if the link between {ends} breaks, {cut} {} cut off", are(&cuts_off));
        api::MeshBridge { a: a.to_string(), b: b.to_string(), cuts_off, warning }
    });
    (points.collect(), links.collect())
}
