//! Which keys are the organizer's: the one the operator named, and those that follow from it by signed
//! changes of the key. Pure; what is signed with these keys others look at.

use std::collections::BTreeMap;

use protocol::token::{FestivalId, Rotation, Succession, TokenError};

/// Changes of the key that are known at most.
pub const ROTATIONS_MAX: usize = 16;

/// The organizer's keys.
#[derive(Debug, Clone)]
pub struct Organizer {
    root: FestivalId,
    /// By the number of the key they lead to: a chain without gaps.
    rotations: BTreeMap<u32, Rotation>,
}

impl Organizer {
    /// Knows the one key that the operator trusts.
    pub fn new(root: FestivalId) -> Organizer {
        Organizer { root, rotations: BTreeMap::new() }
    }

    /// Takes a change of the key that begins or ends at a known one; `true` if it was news.
    ///
    /// # Errors
    ///
    /// [`TokenError::Signature`] if either key did not sign it, [`TokenError::Forked`] if one of them has
    /// another next or earlier key, [`TokenError::OtherFestival`] if it does not go on from what is known,
    /// [`TokenError::Malformed`] if it makes no sense or there is no room for another.
    pub fn adopt(&mut self, rotation: Rotation) -> Result<bool, TokenError> {
        if self.rotations.values().any(|known| *known == rotation) {
            return Ok(false);
        }
        let Succession { old, new, epoch, .. } = *rotation.verify_both()?;
        // Of each key there is one next one, and one before it.
        if self.changes().any(|known| known.old == old || known.new == new) {
            return Err(TokenError::Forked);
        }
        let joins = match self.changes().next() {
            None => old == self.root || new == self.root,
            Some(_) => {
                let before = epoch.checked_sub(1).and_then(|before| self.rotations.get(&before));
                let after = epoch.checked_add(1).and_then(|after| self.rotations.get(&after));
                before.is_some_and(|before| before.unverified().new == old)
                    || after.is_some_and(|after| after.unverified().old == new)
            }
        };
        if !joins {
            return Err(TokenError::OtherFestival);
        }
        if self.rotations.len() >= ROTATIONS_MAX {
            return Err(TokenError::Malformed("one of the changes of key this relay has room for"));
        }
        self.rotations.insert(epoch, rotation);
        Ok(true)
    }

    /// The number of a key; `None` if it is not the organizer's.
    pub fn epoch(&self, key: &FestivalId) -> Option<u32> {
        let of = |change: &Succession| match () {
            () if change.new == *key => Some(change.epoch),
            () if change.old == *key => Some(change.epoch - 1),
            () => None,
        };
        self.changes().find_map(of).or((*key == self.root).then_some(0))
    }

    /// Unix seconds from which nothing counts any more that this key signed.
    pub fn until(&self, key: &FestivalId) -> Option<u64> {
        self.changes().find(|change| change.old == *key)?.old_until
    }

    /// The newest key.
    pub fn newest(&self) -> FestivalId {
        self.changes().last().map_or(self.root, |change| change.new)
    }

    /// The changes in their order.
    pub fn rotations(&self) -> impl Iterator<Item = &Rotation> {
        self.rotations.values()
    }

    /// What was checked when it was taken.
    fn changes(&self) -> impl Iterator<Item = &Succession> {
        self.rotations.values().map(Rotation::unverified)
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::Ed25519KeyPair;

    use super::*;

    fn keys<const N: usize>() -> [Ed25519KeyPair; N] {
        std::array::from_fn(|_| Ed25519KeyPair::generate().unwrap())
    }

    #[test]
    fn the_chain_grows_at_both_ends_and_only_there() {
        let [a, b, c, d] = keys();
        let id = FestivalId::of;
        let (first, second) =
            (Rotation::rotate(&a, &b, 1, Some(9)).unwrap(), Rotation::rotate(&b, &c, 2, None).unwrap());
        let mut organizer = Organizer::new(id(&b));
        assert_eq!(
            organizer.adopt(Rotation::rotate(&c, &d, 3, None).unwrap()),
            Err(TokenError::OtherFestival)
        );
        assert_eq!(organizer.adopt(second.clone()), Ok(true));
        assert_eq!(organizer.adopt(second), Ok(false));
        assert_eq!(organizer.adopt(first), Ok(true));
        assert_eq!([&a, &b, &c, &d].map(|key| organizer.epoch(&id(key))), [Some(0), Some(1), Some(2), None]);
        assert_eq!((organizer.until(&id(&a)), organizer.until(&id(&b))), (Some(9), None));
        assert_eq!(organizer.newest(), id(&c));
        // A number that does not follow is no next key.
        assert_eq!(
            organizer.adopt(Rotation::rotate(&c, &d, 5, None).unwrap()),
            Err(TokenError::OtherFestival)
        );
    }

    #[test]
    fn a_second_next_key_is_refused() {
        let [a, b, thief] = keys();
        let mut organizer = Organizer::new(FestivalId::of(&a));
        organizer.adopt(Rotation::rotate(&a, &b, 1, None).unwrap()).unwrap();
        assert_eq!(organizer.adopt(Rotation::rotate(&a, &thief, 1, None).unwrap()), Err(TokenError::Forked));
        assert_eq!(organizer.epoch(&FestivalId::of(&thief)), None);
    }

    #[test]
    fn nobody_becomes_an_organizer_by_naming_one_as_the_next() {
        // The organizer's key has to consent to who came before it.
        let [organizers, thief, other] = keys();
        let forged = Rotation::rotate(&thief, &other, 1, None).unwrap();
        let mut organizer = Organizer::new(FestivalId::of(&organizers));
        assert_eq!(organizer.adopt(forged), Err(TokenError::OtherFestival));
    }

    #[test]
    fn there_is_room_for_so_many_changes() {
        let keys: [_; ROTATIONS_MAX + 2] = keys();
        let mut organizer = Organizer::new(FestivalId::of(&keys[0]));
        for (epoch, pair) in (1..).zip(keys.windows(2)) {
            let taken = organizer.adopt(Rotation::rotate(&pair[0], &pair[1], epoch, None).unwrap());
            assert_eq!(taken.is_ok(), epoch as usize <= ROTATIONS_MAX);
        }
    }
}
