//! A defect that a peer meets, which no peer of the tests in `media/tests` can bring about.

use std::sync::Arc;

use protocol::SessionId;

use super::plan::{Flow, SessionPlan};
use super::*;
use crate::{
    sdp::{EgressPlan, Setup},
    track::id::StreamTracks,
    transport::{Credentials, DtlsRole, Identity, TransportConfig},
};

#[test]
#[expect(clippy::disallowed_methods, reason = "an arbitrary origin for virtual time")]
fn a_defect_that_a_peer_meets_ends_its_session_and_no_other() {
    let now = Instant::now();
    let identity = Arc::new(Identity::generate().expect("a certificate"));
    let mut worker = Worker::new(0);
    let keys = [1u8, 2].map(|n| {
        let plan = SessionPlan {
            id: SessionId([n; 16]),
            transport: TransportConfig {
                fingerprint: identity.fingerprint(),
                identity: identity.clone(),
                role: DtlsRole::Server,
                local: Credentials { ufrag: format!("relay{n}"), pwd: "relay-password-relay-pw".into() },
                remote: Credentials { ufrag: "browser".into(), pwd: "browser-password-browser".into() },
                data_channels: false,
            },
            flow: Flow::Egress {
                merged: false,
                plan: EgressPlan {
                    setup: Setup::Passive,
                    tracks: Vec::new(),
                    unserved: Vec::new(),
                    data_channel: false,
                },
                tracks: StreamTracks::from_first(0),
                cname: "relay".into(),
            },
            claim: Claim::default(),
        };
        worker.sessions.insert(Session::new(Arc::new(plan), now))
    });
    worker.guarded(keys[0], |_| panic!("a defect"));
    assert_eq!(worker.holdings().sessions, 1);
    assert!(worker.sessions.get_mut(keys[1]).is_some());
    assert_eq!(worker.stats().drops[&DropReason::SessionPanicked], 1);
    let event = worker.poll_event();
    assert!(
        matches!(event, Some(Event::Closed { session, reason: CloseReason::Panicked, .. }) if session == SessionId([1; 16])),
        "{event:?}"
    );
}
