use aws_lc_rs::signature::Ed25519KeyPair;
use protocol::token::{Revoked, Signed};

use super::*;

const NODE: NodeId = NodeId([1; 32]);
const DAY: u64 = 86_400;

fn zone(name: &str) -> ZoneName {
    ZoneName::new(name).unwrap()
}

fn token(key: &Ed25519KeyPair, node: NodeId) -> ZoneToken {
    let (festival, zone) = (FestivalId::of(key), zone("camping"));
    Signed::sign(Membership { festival, serial: 5, node, zone, issued_at: DAY, not_after: 2 * DAY }, key)
        .unwrap()
}

fn festival(key: &Ed25519KeyPair, dir: &Path) -> Festival {
    Festival {
        id: FestivalId::of(key),
        token: token(key, NodeId([9; 32])),
        trusted: BTreeSet::new(),
        grace: 2 * DAY,
        kept: dir.join("revocations.pnr"),
        revocations: Mutex::default(),
    }
}

#[test]
fn only_the_holder_of_a_token_of_this_festival_and_zone_is_let_in() {
    let (key, other) = (Ed25519KeyPair::generate().unwrap(), Ed25519KeyPair::generate().unwrap());
    let dir = tempfile::tempdir().unwrap();
    let festival = festival(&key, dir.path());
    let text = token(&key, NODE).to_string();
    let judge = |node, zone_name, text| festival.judge(node, &zone(zone_name), text, DAY);
    assert_eq!(judge(NODE, "camping", Some(text.as_str())), Ok(Standing::Good));
    assert_eq!(judge(NODE, "camping", None), Err(Outsider::NoToken));
    assert_eq!(judge(NodeId([2; 32]), "camping", Some(text.as_str())), Err(Outsider::NotItsOwn));
    assert!(matches!(judge(NODE, "stage", Some(text.as_str())), Err(Outsider::OtherZone { .. })));
    let theirs = token(&other, NODE).to_string();
    let refused = judge(NODE, "camping", Some(theirs.as_str()));
    assert_eq!(refused, Err(Outsider::NotBelieved(TokenError::OtherFestival)));
}

#[test]
fn an_expired_token_counts_for_the_grace_time_and_a_future_one_counts() {
    let key = Ed25519KeyPair::generate().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let festival = festival(&key, dir.path());
    let text = token(&key, NODE).to_string();
    let at = |now| festival.judge(NODE, &zone("camping"), Some(&text), now);
    assert_eq!(at(0), Ok(Standing::NotYet));
    assert_eq!(at(2 * DAY), Ok(Standing::Good));
    assert_eq!(at(4 * DAY), Ok(Standing::Expired { seconds: 2 * DAY }));
    assert_eq!(at(4 * DAY + 1), Err(Outsider::Expired { hours: 48 }));
}

#[test]
fn the_newest_list_of_revocations_holds_and_is_kept() {
    let key = Ed25519KeyPair::generate().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let festival = festival(&key, dir.path());
    let list = |epoch, nodes: &[NodeId]| {
        let nodes = nodes.iter().copied().collect();
        let body = Revoked { festival: FestivalId::of(&key), epoch, nodes, serials: BTreeSet::new() };
        Signed::sign(body, &key).unwrap().to_string()
    };
    let text = token(&key, NODE).to_string();
    assert_eq!(festival.adopt(&list(2, &[NODE])), Ok(true));
    assert_eq!(festival.adopt(&list(1, &[])), Ok(false));
    assert_eq!(festival.judge(NODE, &zone("camping"), Some(&text), DAY), Err(Outsider::Revoked));
    assert!(festival.revoked(&NODE, Some(&text)));
    assert_eq!(fs::read_to_string(dir.path().join("revocations.pnr")).unwrap(), list(2, &[NODE]));
}
