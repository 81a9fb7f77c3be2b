//! Who is of the festival, with the files that say so.

use aws_lc_rs::signature::Ed25519KeyPair;
use protocol::token::{Revoked, Role, Rotation, Signed};

use super::*;

const NODE: NodeId = NodeId([1; 32]);
const OWN: NodeId = NodeId([9; 32]);
const DAY: u64 = 86_400;

fn zone(name: &str) -> ZoneName {
    ZoneName::new(name).unwrap()
}

fn pair() -> Ed25519KeyPair {
    Ed25519KeyPair::generate().unwrap()
}

fn token(key: &Ed25519KeyPair, node: NodeId) -> ZoneToken {
    let (festival, zone, role) = (FestivalId::of(key), zone("camping"), Role::Relay);
    let body = Membership { festival, serial: 5, node, zone, role, issued_at: DAY, not_after: 2 * DAY };
    Signed::sign(body, key).unwrap()
}

fn list(key: &Ed25519KeyPair, epoch: u64, nodes: &[NodeId]) -> String {
    let nodes = nodes.iter().copied().collect();
    let body = Revoked { festival: FestivalId::of(key), epoch, nodes, serials: BTreeSet::new() };
    Signed::sign(body, key).unwrap().to_string()
}

/// The festival as a relay with that token in its file finds it at `now`.
fn load(key: &Ed25519KeyPair, dir: &Path, now: u64) -> Result<Festival, String> {
    let files = files(dir, &token(key, OWN).to_string());
    Festival::load(&files, dir.join("revocations.pnr"), (OWN, &zone("camping")), now)
}

fn files(dir: &Path, token: &str) -> Files {
    fs::write(dir.join("zone.token"), token).unwrap();
    Files {
        token: dir.join("zone.token"),
        key: None,
        revocations: None,
        grace_hours: 48,
        trusted: BTreeSet::new(),
    }
}

fn judge(
    festival: &Festival,
    node: NodeId,
    zone_name: &str,
    token: Option<&ZoneToken>,
    now: u64,
) -> Result<Standing, MembershipError> {
    let text = token.map(ToString::to_string);
    let believed = festival.believe(node, &zone(zone_name), text.as_deref())?;
    festival.standing(node, believed.as_ref(), now)
}

#[test]
fn only_the_holder_of_a_token_of_this_festival_and_zone_is_let_in() {
    let (key, other) = (pair(), pair());
    let dir = tempfile::tempdir().unwrap();
    let festival = load(&key, dir.path(), DAY).unwrap();
    let good = token(&key, NODE);
    let judge = |node, zone_name, token| judge(&festival, node, zone_name, token, DAY);
    assert_eq!(judge(NODE, "camping", Some(&good)), Ok(Standing::Good));
    assert_eq!(judge(NODE, "camping", None), Err(MembershipError::NoToken));
    assert_eq!(judge(NodeId([2; 32]), "camping", Some(&good)), Err(MembershipError::NotItsOwn));
    assert!(matches!(judge(NODE, "stage", Some(&good)), Err(MembershipError::OtherZone { .. })));
    let refused = judge(NODE, "camping", Some(&token(&other, NODE)));
    assert_eq!(refused, Err(MembershipError::NotBelieved(TokenError::OtherFestival)));
}

#[test]
fn an_expired_token_counts_for_the_grace_time_and_a_future_one_counts() {
    let key = pair();
    let dir = tempfile::tempdir().unwrap();
    let festival = load(&key, dir.path(), DAY).unwrap();
    let good = token(&key, NODE);
    let at = |now| judge(&festival, NODE, "camping", Some(&good), now);
    assert_eq!(at(0), Ok(Standing::NotYet));
    assert_eq!(at(2 * DAY), Ok(Standing::Good));
    assert_eq!(at(4 * DAY), Ok(Standing::Expired { seconds: 2 * DAY }));
    assert_eq!(at(4 * DAY + 1), Err(MembershipError::Expired { hours: 48 }));
}

#[test]
fn the_newest_list_of_revocations_holds_and_outlives_a_restart() {
    let key = pair();
    let dir = tempfile::tempdir().unwrap();
    let festival = load(&key, dir.path(), DAY).unwrap();
    let news = festival.news();
    assert_eq!(festival.adopt(&list(&key, 2, &[NODE])), Ok(true));
    assert!(news.has_changed().unwrap());
    assert_eq!(festival.adopt(&list(&key, 1, &[])), Ok(false));
    assert_eq!(festival.adopt(&list(&pair(), 3, &[])), Err(TokenError::OtherFestival));
    let revoked = token(&key, NODE);
    assert_eq!(judge(&festival, NODE, "camping", Some(&revoked), DAY), Err(MembershipError::Revoked));
    festival.keep();
    let again = load(&key, dir.path(), DAY).unwrap();
    assert_eq!(judge(&again, NODE, "camping", Some(&revoked), DAY), Err(MembershipError::Revoked));
}

#[test]
fn a_token_of_the_next_key_counts_once_the_rotation_is_known_and_the_old_one_until_it_is_given_up() {
    let (old, new) = (pair(), pair());
    let dir = tempfile::tempdir().unwrap();
    let festival = load(&old, dir.path(), DAY).unwrap();
    let (before, after) = (token(&old, NODE), token(&new, NODE));
    let at = |token, now| judge(&festival, NODE, "camping", Some(token), now);
    assert_eq!(at(&after, DAY), Err(MembershipError::NotBelieved(TokenError::OtherFestival)));
    let rotation = Rotation::rotate(&old, &new, 1, Some(DAY + 9)).unwrap();
    assert_eq!(festival.adopt(&rotation.to_string()), Ok(true));
    assert_eq!(at(&after, DAY), Ok(Standing::Good));
    assert_eq!(at(&before, DAY + 8), Ok(Standing::Good));
    assert_eq!(at(&before, DAY + 9), Err(MembershipError::OldKey));
    // A list of the old key does not undo one of the new key, whatever its number.
    assert_eq!(festival.adopt(&list(&new, 1, &[NODE])), Ok(true));
    assert_eq!(festival.adopt(&list(&old, 9, &[])), Ok(false));
    assert_eq!(at(&after, DAY), Err(MembershipError::Revoked));
}

#[test]
fn a_relay_starts_with_a_token_that_ended_and_not_with_one_of_another_relay() {
    let key = pair();
    let dir = tempfile::tempdir().unwrap();
    let festival = load(&key, dir.path(), 30 * DAY).unwrap();
    let told = festival.status_line(30 * DAY);
    assert!(told.contains("ended 672 h ago"), "{told}");
    assert!(load(&key, dir.path(), DAY).unwrap().status_line(DAY).contains("24 h: renew"));

    let files = files(dir.path(), &token(&key, NODE).to_string());
    let error = Festival::load(&files, dir.path().join("x"), (OWN, &zone("camping")), DAY).unwrap_err();
    assert!(error.contains("the zone token of another relay"), "{error}");
}

#[test]
fn a_neighbor_named_with_trust_needs_no_token_but_can_be_revoked() {
    let key = pair();
    let dir = tempfile::tempdir().unwrap();
    let mut files = files(dir.path(), &token(&key, OWN).to_string());
    files.trusted.insert(NODE);
    let kept = dir.path().join("revocations.pnr");
    let festival = Festival::load(&files, kept, (OWN, &zone("camping")), DAY).unwrap();
    assert_eq!(judge(&festival, NODE, "stage", None, DAY), Ok(Standing::Trusted));
    festival.adopt(&list(&key, 1, &[NODE])).unwrap();
    assert_eq!(judge(&festival, NODE, "stage", None, DAY), Err(MembershipError::Revoked));
}

/// Writes it so that the change is seen, however coarse the clock of the disk is.
fn replace(path: &Path, text: &str) {
    let later = fs::metadata(path).unwrap().modified().unwrap() + std::time::Duration::from_secs(2);
    fs::write(path, text).unwrap();
    fs::File::options().write(true).open(path).unwrap().set_modified(later).unwrap();
}

#[test]
fn the_operators_files_are_read_again_when_they_change() {
    let (key, other) = (pair(), pair());
    let dir = tempfile::tempdir().unwrap();
    let mut files = files(dir.path(), &token(&key, OWN).to_string());
    let path = dir.path().join("given.pnr");
    fs::write(&path, list(&key, 1, &[])).unwrap();
    files.revocations = Some(path.clone());
    let kept = dir.path().join("revocations.pnr");
    let festival = Festival::load(&files, kept, (OWN, &zone("camping")), DAY).unwrap();
    let seen = festival.read_given(Seen::default());
    assert_eq!(festival.read_given(seen), seen);
    let revoked = token(&key, NODE);
    replace(&path, &list(&key, 2, &[NODE]));
    let seen = festival.read_given(seen);
    assert_eq!(judge(&festival, NODE, "camping", Some(&revoked), DAY), Err(MembershipError::Revoked));

    // One for another relay changes nothing; one that lasts longer does.
    let before = festival.seconds_left(DAY);
    for text in [token(&key, NODE), token(&other, OWN)] {
        replace(&files.token, &text.to_string());
        festival.read_given(seen);
        assert_eq!(festival.seconds_left(DAY), before);
    }
    let mut body = token(&key, OWN).unverified().clone();
    body.not_after += DAY;
    replace(&files.token, &Signed::sign(body, &key).unwrap().to_string());
    festival.read_given(seen);
    assert_eq!(festival.seconds_left(DAY), before + DAY as i64);
}
