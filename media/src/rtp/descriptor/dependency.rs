//! The dependency descriptor (AV1 RTP payload specification, appendix A), a header extension that says of a
//! packet what the payload does not: its layer, which frames it refers to, for which receivers it is. One
//! [`Reader`] for each source, because descriptors name templates of a [`Structure`] that came before.
//!
//! It may come with any codec. Browsers that send it leave numbers and layers out of the payload of VP8, and
//! H264 has temporal layers by it alone.
//!
//! Of a descriptor that is forwarded only the frame number has to be written anew ([`Dependency::numbered`]). All
//! else names frames by how far back they are, so frames that are withheld need no other descriptor.

use super::{
    Description, Resolution, SpatialLayer, TemporalLayer,
    bits::Bits,
    numbered::{Numbered, PictureId},
    structure::{Differences, Indication, Indications, Structure, Template, push},
    summary::{Scale, Summary},
};

/// As `a=extmap` names it.
pub const URI: &str =
    "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";

/// What a descriptor says. A *frame* is of one spatial layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// A frame begins with this packet.
    pub frame_begins: bool,
    /// A frame ends with this packet.
    pub frame_ends: bool,
    /// The same for all packets of a frame; 16 bits, in the order of decoding.
    pub frame_number: u16,
    /// The layer.
    pub spatial: SpatialLayer,
    /// The layer.
    pub temporal: TemporalLayer,
    /// A structure came with it: a coded video sequence begins.
    pub brings_structure: bool,
    /// What the frame is to each decode target, by the index in [`Structure::targets`].
    pub indications: Indications,
    /// How many frames back those are that it refers to.
    pub references: Differences,
    /// For each chain, how many frames back its last frame is. 0: it begins anew.
    pub chains: Differences,
    /// The decode targets that the sender has frames of now, the first in the lowest bit.
    pub active_targets: u32,
    /// Of frames of its spatial layer, if it is said.
    pub resolution: Option<Resolution>,
    largest: Option<Resolution>,
    switch_up: bool,
    enters: bool,
    discardable: bool,
    not_needed_above: bool,
}

/// Reads the descriptors of one source.
#[derive(Debug, Default)]
pub struct Reader {
    current: Option<Known>,
    /// Frames of the sequence before may come late.
    former: Option<Known>,
    /// The newest frame of the base.
    base: Option<u16>,
}

#[derive(Debug)]
struct Known {
    structure: Structure,
    active: u32,
    /// The frame that brought it, or a later one if that is long ago.
    since: u16,
    /// So for the newest frame that said which targets are active.
    active_since: u16,
    /// The newest frame, and whether its layer may be entered with it.
    newest: u16,
    entered: bool,
    /// The decode targets to which a frame below said *switch*, for as long as no frame of their highest
    /// temporal layer came after it.
    granted: u32,
}

/// What is in octets 4 and after.
#[derive(Debug, Default)]
struct Extended {
    structure: bool,
    active: bool,
    indications: bool,
    references: bool,
    chains: bool,
}

/// The mandatory fields.
const MANDATORY: usize = 3;
/// A structure of so many frames ago is late. One of more is of a sender that counts anew.
const LATE: u16 = 1024;
/// Frame numbers wrap around: what was longer ago than this is as long ago as this.
const LONG_AGO: u16 = 0x4000;

impl Reader {
    /// Reads the value of the extension of one packet. `None`: it is cut off, or names what did not come yet.
    pub fn read(&mut self, value: &[u8]) -> Option<Dependency> {
        let mut bits = Bits::new(value);
        let (frame_begins, frame_ends) = (bits.bit()?, bits.bit()?);
        let (template, frame_number) = (bits.small(6)?, bits.number(16)? as u16);
        let extended = if value.len() > MANDATORY { Extended::read(&mut bits)? } else { Extended::default() };
        let brought = if extended.structure { Some(Structure::read(&mut bits)?) } else { None };
        let known = self.of(template);
        let structure = brought.as_ref().or(known.map(|known| &known.structure))?;
        let active = match known {
            _ if extended.active => bits.number(structure.targets().len() as u32)?,
            Some(known) if brought.is_none() => known.active,
            _ => all_active(structure),
        };
        let frame = extended.frame(structure, template, &mut bits)?;
        let own = structure
            .targets()
            .iter()
            .position(|target| (target.spatial, target.temporal) == (frame.spatial, frame.temporal));
        let said = |target: usize| frame.indications.of(target);
        let all = 0..structure.targets().len();
        let above = |target: &usize| structure.targets()[*target].spatial > frame.spatial;
        let mut dependency = Dependency {
            frame_begins,
            frame_ends,
            frame_number,
            brings_structure: brought.is_some(),
            active_targets: active,
            resolution: structure.resolution(frame.spatial),
            largest: structure.largest(),
            switch_up: own.is_some_and(|own| said(own) == Indication::Switch),
            enters: false,
            discardable: all.clone().any(|target| said(target) == Indication::Discardable)
                && all
                    .clone()
                    .all(|target| !matches!(said(target), Indication::Switch | Indication::Required)),
            not_needed_above: all.clone().filter(above).all(|target| said(target) == Indication::NotPresent),
            spatial: frame.spatial,
            temporal: frame.temporal,
            indications: frame.indications,
            references: frame.references,
            chains: frame.chains,
        };
        self.keep(brought, extended.active.then_some(active), template, frame_number);
        if frame_begins && dependency.spatial == SpatialLayer(0) {
            self.base = Some(frame_number);
        }
        dependency.enters = frame_begins && self.is_of_one_picture(&dependency);
        dependency.switch_up |= self.of_mut(template).is_some_and(|known| known.note(&dependency));
        Some(dependency)
    }

    /// The structure of the newest coded video sequence.
    pub fn structure(&self) -> Option<&Structure> {
        self.current.as_ref().map(|known| &known.structure)
    }

    /// Whether a frame refers to frames of its own picture alone: those of lower spatial layers, which are right before
    /// it.
    fn is_of_one_picture(&self, frame: &Dependency) -> bool {
        let ahead = self.base.map_or(0, |base| frame.frame_number.wrapping_sub(base));
        let most = ahead.min(u16::from(frame.spatial.0));
        frame.references.iter().all(|back| *back <= most)
    }

    /// Where a template of that name is. Names of one sequence and the next differ (section A.8.3).
    fn of(&self, template: u8) -> Option<&Known> {
        let mut all = [&self.current, &self.former].into_iter().flatten();
        all.find(|known| known.structure.template(template).is_some())
    }

    fn of_mut(&mut self, template: u8) -> Option<&mut Known> {
        let mut all = [&mut self.current, &mut self.former].into_iter().flatten();
        all.find(|known| known.structure.template(template).is_some())
    }

    fn keep(&mut self, brought: Option<Structure>, active: Option<u32>, template: u8, frame: u16) {
        if let Some(structure) = brought {
            if self.current.as_ref().is_none_or(|current| !is_late(frame, current.since)) {
                self.former = self.current.replace(Known {
                    active: active.unwrap_or(all_active(&structure)),
                    structure,
                    since: frame,
                    active_since: frame,
                    newest: frame.wrapping_sub(1),
                    entered: false,
                    granted: 0,
                });
            }
            return;
        }
        let Some(known) = self.of_mut(template) else { return };
        if let Some(active) = active.filter(|_| !is_late(frame, known.active_since)) {
            (known.active, known.active_since) = (active, frame);
        }
        for since in [&mut known.since, &mut known.active_since] {
            let ago = frame.wrapping_sub(*since);
            if (LONG_AGO..2 * LONG_AGO).contains(&ago) {
                *since = frame.wrapping_sub(LONG_AGO);
            }
        }
    }
}

impl Known {
    /// Whether who has the temporal layer below may get that of a frame from it on, because a frame before said
    /// so. Most senders say *switch* with frames of the base alone, and of the others that they are discardable.
    fn note(&mut self, frame: &Dependency) -> bool {
        let ahead = frame.frame_number.wrapping_sub(self.newest) as i16;
        if ahead <= 0 {
            // A packet more of the newest frame, or a late one.
            return ahead == 0 && self.entered;
        }
        (self.newest, self.entered) = (frame.frame_number, false);
        for (at, target) in self.structure.targets().iter().enumerate() {
            let bit = 1 << at;
            if (target.spatial, target.temporal) == (frame.spatial, frame.temporal) {
                self.entered = self.granted & bit != 0;
            }
            match frame.indications.of(at) {
                Indication::Switch if frame.temporal < target.temporal => self.granted |= bit,
                Indication::NotPresent => {}
                _ if frame.temporal == target.temporal => self.granted &= !bit,
                _ => {}
            }
        }
        self.entered
    }
}

/// Whether a frame is no newer than that one, and not so old that the sender must count anew.
fn is_late(frame: u16, than: u16) -> bool {
    than.wrapping_sub(frame) < LATE
}

/// A structure makes all its targets active.
fn all_active(structure: &Structure) -> u32 {
    u32::MAX >> (u32::BITS - structure.targets().len().clamp(1, 32) as u32)
}

impl Extended {
    fn read(bits: &mut Bits<'_>) -> Option<Extended> {
        Some(Extended {
            structure: bits.bit()?,
            active: bits.bit()?,
            indications: bits.bit()?,
            references: bits.bit()?,
            chains: bits.bit()?,
        })
    }

    /// `frame_dependency_definition()`: the template, with what differs from it.
    fn frame(&self, structure: &Structure, template: u8, bits: &mut Bits<'_>) -> Option<Template> {
        let mut frame = structure.template(template)?.clone();
        if self.indications {
            frame.indications = Indications::read(structure.targets().len() as u32, bits)?;
        }
        if self.references {
            frame.references.clear();
            loop {
                // In units of four bits.
                match bits.number(2)? {
                    0 => break,
                    size => push(&mut frame.references, bits.number(4 * size)? as u16 + 1)?,
                }
            }
        }
        if self.chains {
            let chains = 0..structure.chains();
            frame.chains = chains.map(|_| Some(bits.number(8)? as u16)).collect::<Option<_>>()?;
        }
        Some(frame)
    }
}

impl Dependency {
    /// A keyframe begins with this packet.
    pub fn keyframe(&self) -> bool {
        self.frame_begins && self.brings_structure && self.references.is_empty()
    }

    /// The frame number, and where it stands in the value of the extension.
    pub fn numbered(&self) -> Numbered {
        let picture_id = Some(PictureId { value: self.frame_number, bits: 16, at: 1 });
        Numbered { picture_id, ..Numbered::default() }
    }

    /// What relays tell each other of it.
    pub fn summary(&self, marker: bool) -> Summary {
        Summary::new(&self.describe(marker), self.resolution, self.largest)
    }

    /// In the shape of all codecs, with the marker of the RTP header. The numbers stand in the extension, not
    /// in the payload.
    pub fn describe(&self, marker: bool) -> Description {
        Description {
            picture_begins: self.frame_begins && self.spatial == SpatialLayer(0),
            picture_ends: marker,
            layer_begins: self.frame_begins,
            layer_ends: self.frame_ends || marker,
            keyframe: self.keyframe(),
            spatial: self.spatial,
            temporal: self.temporal,
            switch_up: self.switch_up,
            enters: self.enters,
            discardable: self.discardable,
            // Whether what it refers to is of the same picture is not said.
            inter_layer: self.spatial > SpatialLayer(0) && !self.references.is_empty(),
            not_needed_above: self.not_needed_above,
            resolution: self.largest.filter(|_| self.brings_structure),
            scale: Scale::default(),
            numbered: self.numbered(),
        }
    }
}
