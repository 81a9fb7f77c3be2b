//! The template dependency structure of AV1's dependency descriptor (AV1 RTP payload specification, section A.8):
//! what frames a stream is made of, and for which receivers they are. It comes with keyframes; the descriptors
//! after it name its templates. Bounded: 64 templates, 32 decode targets, 4 spatial by 8 temporal layers.

use smallvec::SmallVec;

use super::{Resolution, SpatialLayer, TemporalLayer, bits::Bits};

/// Of one coded video sequence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Structure {
    /// `template_id_offset`: what the first template is called.
    first: u8,
    templates: Vec<Template>,
    targets: Vec<Target>,
    chains: u8,
    resolutions: Option<[Resolution; SPATIAL_MAX]>,
}

/// What frames of one kind have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Template {
    /// The layer.
    pub spatial: SpatialLayer,
    /// The layer.
    pub temporal: TemporalLayer,
    /// What such a frame is to each decode target.
    pub indications: Indications,
    /// How many frames back those are that it refers to.
    pub references: Differences,
    /// For each chain, how many frames back its last frame is.
    pub chains: Differences,
}

/// A decode target: the frames that a receiver of these layers needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Target {
    /// The highest that it needs.
    pub spatial: SpatialLayer,
    /// The highest that it needs.
    pub temporal: TemporalLayer,
    /// The chain that protects it: if all frames of it came, the target can be decoded.
    pub chain: Option<u8>,
}

/// What a frame is to a decode target (table A.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Indication {
    /// It is not of it.
    NotPresent,
    /// It is of it, and no other frame of it refers to it.
    Discardable,
    /// Who can decode it can decode all later frames of the target.
    Switch,
    /// Other frames of it refer to it.
    Required,
}

/// One [`Indication`] for each of up to 32 decode targets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Indications(u64);

/// How many frames back others are.
pub type Differences = SmallVec<[u16; 4]>;

/// Six bits name them.
pub const TEMPLATES_MAX: usize = 64;
/// `MAX_SPATIAL_ID` is 3.
pub const SPATIAL_MAX: usize = 4;
/// `MAX_TEMPORAL_ID` is 7.
pub const TEMPORAL_MAX: usize = 8;
/// The specification sets no bound. A frame of AV1 has at most seven frames to refer to.
pub const REFERENCES_MAX: usize = 16;

impl Structure {
    /// `template_dependency_structure()`.
    pub(super) fn read(bits: &mut Bits<'_>) -> Option<Structure> {
        let first = bits.small(6)?;
        let targets = bits.number(5)? + 1;
        let mut templates = read_layers(bits)?;
        for template in &mut templates {
            template.indications = Indications::read(targets, bits)?;
        }
        for template in &mut templates {
            while bits.bit()? {
                let difference = bits.number(4)? as u16 + 1;
                push(&mut template.references, difference)?;
            }
        }
        let chains = bits.below(targets + 1)?;
        let mut protected_by = [None; u32::BITS as usize];
        if chains > 0 {
            for chain in protected_by.iter_mut().take(targets as usize) {
                *chain = Some(bits.below(chains)? as u8);
            }
            for template in &mut templates {
                template.chains = (0..chains).map(|_| Some(bits.number(4)? as u16)).collect::<Option<_>>()?;
            }
        }
        let targets =
            (0..targets as usize).zip(protected_by).map(|(at, chain)| target(at, &templates, chain));
        let targets = targets.collect();
        let resolutions = if bits.bit()? { Some(read_resolutions(&templates, bits)?) } else { None };
        Some(Structure { first, templates, targets, chains: chains as u8, resolutions })
    }

    /// The template of that name, if it is one of these.
    pub fn template(&self, name: u8) -> Option<&Template> {
        self.templates.get(usize::from(name.wrapping_sub(self.first)) % TEMPLATES_MAX)
    }

    /// All decode targets, by their index.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// How many chains there are.
    pub fn chains(&self) -> u8 {
        self.chains
    }

    /// Of frames of that spatial layer, if it is said.
    pub fn resolution(&self, spatial: SpatialLayer) -> Option<Resolution> {
        self.resolutions?.get(usize::from(spatial.0)).copied().filter(|resolution| resolution.pixels() > 0)
    }

    /// Of the largest frames, if it is said.
    pub fn largest(&self) -> Option<Resolution> {
        let largest = self.resolutions?.into_iter().max_by_key(|resolution| resolution.pixels());
        largest.filter(|resolution| resolution.pixels() > 0)
    }
}

impl Indications {
    /// Two bits each.
    pub(super) fn read(targets: u32, bits: &mut Bits<'_>) -> Option<Indications> {
        (0..targets).try_fold(Indications(0), |all, target| {
            Some(Indications(all.0 | u64::from(bits.number(2)?) << (2 * target)))
        })
    }

    /// For the decode target of that index.
    pub fn of(&self, target: usize) -> Indication {
        let shift = u32::try_from(target.saturating_mul(2)).unwrap_or(u32::MAX);
        match self.0.checked_shr(shift).unwrap_or(0) & 3 {
            0 => Indication::NotPresent,
            1 => Indication::Discardable,
            2 => Indication::Switch,
            _ => Indication::Required,
        }
    }
}

/// Adds one, unless there are too many.
pub(super) fn push(differences: &mut Differences, difference: u16) -> Option<()> {
    if differences.len() == REFERENCES_MAX {
        return None;
    }
    differences.push(difference);
    Some(())
}

/// `template_layers()`: each template is of the layer of the one before, of the next temporal one, or of the
/// next spatial one.
fn read_layers(bits: &mut Bits<'_>) -> Option<Vec<Template>> {
    let mut templates = Vec::new();
    let (mut spatial, mut temporal) = (0_u8, 0_u8);
    loop {
        let (spatial_layer, temporal_layer) = (SpatialLayer(spatial), TemporalLayer(temporal));
        templates.push(Template { spatial: spatial_layer, temporal: temporal_layer, ..Template::default() });
        match bits.number(2)? {
            0 => {}
            1 => temporal += 1,
            2 => (spatial, temporal) = (spatial + 1, 0),
            _ => return Some(templates),
        }
        let too_many = templates.len() == TEMPLATES_MAX;
        if too_many || usize::from(spatial) == SPATIAL_MAX || usize::from(temporal) == TEMPORAL_MAX {
            return None;
        }
    }
}

/// `decode_target_layers()`: the highest layers of frames that it needs.
fn target(at: usize, templates: &[Template], chain: Option<u8>) -> Target {
    let own = templates.iter().filter(|template| template.indications.of(at) != Indication::NotPresent);
    own.fold(Target { chain, ..Target::default() }, |target, template| Target {
        spatial: target.spatial.max(template.spatial),
        temporal: target.temporal.max(template.temporal),
        chain,
    })
}

/// `render_resolutions()`, one for each spatial layer; zeros for those that there are not.
fn read_resolutions(templates: &[Template], bits: &mut Bits<'_>) -> Option<[Resolution; SPATIAL_MAX]> {
    let layers = templates.iter().map(|template| usize::from(template.spatial.0) + 1).max().unwrap_or(1);
    let mut resolutions = [Resolution { width: 0, height: 0 }; SPATIAL_MAX];
    for resolution in resolutions.iter_mut().take(layers) {
        // One less than it is: 65,536 does not fit, and is none.
        let (width, height) = (bits.number(16)? as u16, bits.number(16)? as u16);
        *resolution = Resolution { width: width.wrapping_add(1), height: height.wrapping_add(1) };
    }
    Some(resolutions)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::bits::Writer, *};

    /// What a structure is made of, as it is written.
    #[derive(Debug, Clone)]
    struct Plan {
        first: u8,
        targets: u32,
        /// Of each template: how the next one differs, indications, references, chains.
        templates: Vec<(u32, u64, Vec<u16>, Vec<u16>)>,
        protected_by: Vec<u32>,
        chains: u32,
        resolutions: Option<[(u16, u16); SPATIAL_MAX]>,
    }

    impl Plan {
        fn layers(&self) -> Vec<(u8, u8)> {
            let mut layers = vec![(0, 0)];
            for (next, ..) in &self.templates[..self.templates.len() - 1] {
                let (spatial, temporal) = *layers.last().expect("not empty");
                layers.push([(spatial, temporal), (spatial, temporal + 1), (spatial + 1, 0)][*next as usize]);
            }
            layers
        }

        fn write(&self) -> Vec<u8> {
            let mut writer = Writer::default().bits(6, self.first.into()).bits(5, self.targets - 1);
            let last = self.templates.len() - 1;
            for (at, (next, ..)) in self.templates.iter().enumerate() {
                writer = writer.bits(2, if at == last { 3 } else { *next });
            }
            for (_, indications, ..) in &self.templates {
                for target in 0..self.targets {
                    writer = writer.bits(2, (indications >> (2 * target) & 3) as u32);
                }
            }
            for (_, _, references, _) in &self.templates {
                for reference in references {
                    writer = writer.bits(1, 1).bits(4, u32::from(reference - 1));
                }
                writer = writer.bits(1, 0);
            }
            writer = writer.below(self.targets + 1, self.chains);
            if self.chains > 0 {
                for target in 0..self.targets as usize {
                    writer = writer.below(self.chains, self.protected_by[target] % self.chains);
                }
                for (.., chains) in &self.templates {
                    for chain in &chains[..self.chains as usize] {
                        writer = writer.bits(4, (*chain).into());
                    }
                }
            }
            writer = writer.bits(1, self.resolutions.is_some().into());
            let spatial = self.layers().iter().map(|(spatial, _)| *spatial).max().unwrap_or(0);
            for (width, height) in self.resolutions.iter().flatten().take(usize::from(spatial) + 1) {
                writer = writer.bits(16, u32::from(*width) - 1).bits(16, u32::from(*height) - 1);
            }
            writer.octets()
        }
    }

    fn plans() -> impl Strategy<Value = Plan> {
        let template = (
            prop_oneof![20 => Just(0_u32), 2 => Just(1), 1 => Just(2)],
            any::<u64>(),
            proptest::collection::vec(1..17_u16, 0..5),
            proptest::collection::vec(0..16_u16, 32),
        );
        (
            0..64_u8,
            1..33_u32,
            proptest::collection::vec(template, 1..65),
            proptest::collection::vec(any::<u32>(), 32),
            0..33_u32,
            proptest::option::of(proptest::array::uniform4((1..u16::MAX, 1..u16::MAX))),
        )
            .prop_map(|(first, targets, templates, protected_by, chains, resolutions)| {
                let chains = chains.min(targets);
                Plan { first, targets, templates, protected_by, chains, resolutions }
            })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(plan in plans()) {
            let octets = plan.write();
            let read = Structure::read(&mut Bits::new(&octets));
            let layers = plan.layers();
            if layers.iter().any(|(spatial, temporal)| *spatial > 3 || *temporal > 7) {
                prop_assert!(read.is_none(), "more layers than there can be");
                return Ok(());
            }
            let read = read.expect("valid");
            prop_assert_eq!(read.targets().len(), plan.targets as usize);
            prop_assert_eq!(u32::from(read.chains()), plan.chains);
            for (at, (_, indications, references, chains)) in plan.templates.iter().enumerate() {
                let template = read.template((plan.first + at as u8) % 64).expect("one of them");
                prop_assert_eq!((template.spatial.0, template.temporal.0), layers[at]);
                prop_assert_eq!(&template.references[..], &references[..]);
                prop_assert_eq!(&template.chains[..], &chains[..plan.chains as usize]);
                for target in 0..plan.targets as usize {
                    let all = [Indication::NotPresent, Indication::Discardable, Indication::Switch, Indication::Required];
                    prop_assert_eq!(template.indications.of(target), all[(indications >> (2 * target) & 3) as usize]);
                }
            }
            prop_assert!(plan.templates.len() == 64 || read.template((plan.first + 64 - 1) % 64).is_none());
            for (at, target) in read.targets().iter().enumerate() {
                let of = plan.templates.iter().zip(&layers).filter(|(plan, _)| plan.1 >> (2 * at) & 3 != 0);
                let (spatial, temporal) = of.fold((0, 0), |(spatial, temporal), (_, layer)| {
                    (layer.0.max(spatial), layer.1.max(temporal))
                });
                let chain = (plan.chains > 0).then(|| (plan.protected_by[at] % plan.chains.max(1)) as u8);
                prop_assert_eq!((target.spatial.0, target.temporal.0, target.chain), (spatial, temporal, chain));
            }
            let first = plan.resolutions.map(|all| Resolution { width: all[0].0, height: all[0].1 });
            prop_assert_eq!(read.resolution(SpatialLayer(0)), first);
            prop_assert_eq!(read.resolution(SpatialLayer(4)), None);
            for len in 0..octets.len() {
                prop_assert!(Structure::read(&mut Bits::new(&octets[..len])).is_none(), "cut off");
            }
        }

        #[test]
        fn junk_never_panics(junk in proptest::collection::vec(any::<u8>(), 0..256)) {
            if let Some(structure) = Structure::read(&mut Bits::new(&junk)) {
                prop_assert!(structure.templates.len() <= TEMPLATES_MAX);
                let _ = (structure.largest(), structure.targets(), Indications::default().of(usize::MAX / 2));
            }
        }
    }
}
