//! The numbers of pictures that a receiver gets instead of the sender's: without a gap where pictures were
//! withheld, and going on where another source follows. Which pictures are withheld is decided elsewhere.

use super::{
    Description, TemporalLayer,
    numbered::{Given, Index, KEY_INDEX, Numbered, PictureId},
};

/// What becomes of the number of a picture that is withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gaps {
    /// The next picture gets it. So for VP8, where a receiver takes a gap for a loss.
    Close,
    /// Nobody gets it. So for VP9 and AV1: there pictures name others by how far back they are, and so does the
    /// picture group of VP9. A receiver takes no gap for a loss.
    Keep,
}

/// The numbers that one receiver gets.
///
/// Tell it of each picture of the source that is forwarded: [`Numbers::forward`] or [`Numbers::withhold`], in
/// the order of arrival, and [`Numbers::switch`] before another source begins. A picture that comes late or
/// again gets the number that is its own, within [`WINDOW`] pictures and back to the source before this one.
/// A picture that was faster than one before it leaves that one its number, whatever becomes of it.
#[derive(Debug)]
pub struct Numbers {
    gaps: Gaps,
    source: Option<u64>,
    run: Option<Run>,
    before: Option<(u64, Run)>,
    /// What no later source may give again.
    highest: Option<Given>,
}

/// Pictures of one source, one after the other.
#[derive(Debug)]
struct Run {
    /// The newest picture, counted on in 16 bits.
    newest: u16,
    /// Of its picture ids; 0 if it has none.
    bits: u8,
    /// What the picture after it gets, if it has no gap before it.
    next: u16,
    /// To be added to the source's TL0PICIDX from the picture after the newest on.
    tl0: u8,
    /// To be added to the source's KEYIDX.
    key_index: u8,
    slots: [Option<Slot>; WINDOW],
}

/// A picture that has a number; there is none where it was withheld.
#[derive(Debug, Clone, Copy)]
struct Slot {
    given: u16,
    /// To be added to its TL0PICIDX.
    tl0: u8,
}

/// How many pictures are remembered: more than a receiver asks for again at any frame rate.
pub const WINDOW: usize = 128;

impl Numbers {
    /// For one receiver of one track.
    pub fn new(gaps: Gaps) -> Numbers {
        Numbers { gaps, source: None, run: None, before: None, highest: None }
    }

    /// From now on `source` is forwarded: with other numbers than the one before, or after a pause. The caller
    /// names it; the name is another for each source that is still remembered.
    pub fn switch(&mut self, source: u64) {
        if let (Some(before), Some(run)) = (self.source, self.run.take()) {
            self.before = Some((before, run));
        }
        self.source = Some(source);
    }

    /// The numbers of a packet that leaves. `None`: it has none any more, because its picture was withheld, or
    /// is older than what is remembered, or its source is not the one that is forwarded.
    pub fn forward(&mut self, source: u64, packet: &Description) -> Option<Given> {
        let numbered = &packet.numbered;
        if self.source != Some(source) {
            let (_, run) = self.before.as_ref().filter(|(before, _)| *before == source)?;
            return Some(run.given(run.slot(numbered)?, numbered));
        }
        if self.run.as_ref().is_none_or(|run| run.jumped(packet)) {
            self.run = Some(Run::begin(numbered, self.highest));
        }
        let run = self.run.as_mut()?;
        run.advance(numbered);
        let given = run.given(run.slot(numbered)?, numbered);
        let highest = self.highest.get_or_insert(given);
        highest.picture_id = run.next.wrapping_sub(1);
        if numbered.tl0.is_some() && (given.tl0.wrapping_sub(highest.tl0) as i8) > 0 {
            highest.tl0 = given.tl0;
        }
        let keyframes = given.key_index.wrapping_sub(highest.key_index) & KEY_INDEX;
        if numbered.key_index.is_some() && keyframes <= KEY_INDEX / 2 {
            highest.key_index = given.key_index;
        }
        Some(given)
    }

    /// A packet does not leave, and with it none of its picture. A picture that is not the newest keeps its
    /// number: later ones were given theirs.
    pub fn withhold(&mut self, source: u64, packet: &Description) {
        let (Some(run), Some(highest)) = (self.run.as_mut(), self.highest.as_mut()) else { return };
        if self.source != Some(source) || run.jumped(packet) || !run.advance(&packet.numbered) {
            return;
        }
        if self.gaps == Gaps::Close {
            run.slots[slot_of(run.newest)] = None;
            run.next = run.next.wrapping_sub(1);
            // A picture of layer 0 that others refer to cannot be withheld without a loss, and a gap says so.
            if packet.discardable && packet.temporal == TemporalLayer(0) {
                run.tl0 = run.tl0.wrapping_sub(1);
            }
        }
        // What is late and before it may still leave, also after the next source began.
        highest.picture_id = run.next.wrapping_sub(1);
    }
}

impl Run {
    /// The first picture of a source gets what follows `highest`, or keeps its own numbers if it is the very
    /// first.
    fn begin(first: &Numbered, highest: Option<Given>) -> Run {
        let id = first.picture_id.map_or(0, |id| id.value);
        let index = |index: Option<Index>| index.map_or(0, |index| index.value);
        let (tl0, key_index) = (index(first.tl0), index(first.key_index));
        let next = highest.map_or(id, |highest| highest.picture_id.wrapping_add(1));
        let more = |highest: u8, own: u8| highest.wrapping_add(1).wrapping_sub(own);
        let mut run = Run {
            newest: id,
            bits: first.picture_id.map_or(0, |id| id.bits),
            next: next.wrapping_add(1),
            tl0: highest.map_or(0, |highest| more(highest.tl0, tl0)),
            key_index: highest.map_or(0, |highest| more(highest.key_index, key_index)),
            slots: [None; WINDOW],
        };
        run.slots[slot_of(id)] = Some(Slot { given: next, tl0: run.tl0 });
        run
    }

    /// How far a picture is ahead of the newest one; below zero if it is older. In 7 bits nothing is further
    /// than half of their range.
    fn ahead(&self, id: PictureId) -> i32 {
        let unused = 16 - u32::from(id.bits.min(16));
        i32::from((id.value.wrapping_sub(self.newest) << unused) as i16) >> unused
    }

    /// Whether the source counts anew: otherwise, far ahead, or, with a keyframe, far behind.
    fn jumped(&self, packet: &Description) -> bool {
        let Some(id) = packet.numbered.picture_id else { return false };
        let (ahead, window) = (self.ahead(id), WINDOW as i32);
        id.bits != self.bits || ahead > window || (packet.keyframe && ahead <= -window)
    }

    /// Goes on to a picture if it is newer than the newest, and gives all before it that did not come their
    /// numbers.
    fn advance(&mut self, numbered: &Numbered) -> bool {
        let Some(id) = numbered.picture_id else { return false };
        let ahead = self.ahead(id);
        for _ in 0..ahead {
            self.newest = self.newest.wrapping_add(1);
            self.slots[slot_of(self.newest)] = Some(Slot { given: self.next, tl0: self.tl0 });
            self.next = self.next.wrapping_add(1);
        }
        ahead > 0
    }

    /// What a picture was given; without ids all pictures have the numbers of the newest.
    fn slot(&self, numbered: &Numbered) -> Option<Slot> {
        let Some(id) = numbered.picture_id else { return self.slots[slot_of(self.newest)] };
        let ahead = self.ahead(id);
        if ahead > 0 || ahead <= -(WINDOW as i32) {
            return None;
        }
        self.slots[slot_of(self.newest.wrapping_add(ahead as u16))]
    }

    fn given(&self, slot: Slot, numbered: &Numbered) -> Given {
        let index = |index: Option<Index>| index.map_or(0, |index| index.value);
        Given {
            picture_id: slot.given,
            tl0: index(numbered.tl0).wrapping_add(slot.tl0),
            key_index: index(numbered.key_index).wrapping_add(self.key_index) & KEY_INDEX,
        }
    }
}

fn slot_of(picture: u16) -> usize {
    usize::from(picture) % WINDOW
}
