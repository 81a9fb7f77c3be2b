//! The hello's part in who may be a neighbor: shows this relay's token, has the neighbor's judged, and
//! closes the links of those a newer list of revocations names. The judgement is `festival.rs`'s.

use mesh_routing::Underlay;
use protocol::NodeId;
use quinn::Connection;

use super::{Shared, Trust, link::Close, stream::Hello};
use crate::{
    clock,
    festival::{Outsider, Standing},
};

/// What this relay says first.
pub(super) fn hello(shared: &Shared, underlay: Underlay) -> Hello {
    let (festival, revocations) = match &shared.trust {
        Trust::Festival(festival) => {
            let (token, revocations) = festival.shown();
            (Some(token), revocations)
        }
        Trust::Anyone | Trust::Only(_) => (None, None),
    };
    Hello { zone: shared.zone.clone(), festival, revocations, underlay }
}

/// Judges what the neighbor said first, and closes the connection to an outsider.
pub(super) fn admit(
    shared: &Shared,
    connection: &Connection,
    node: NodeId,
    hello: &Hello,
) -> Result<(), Outsider> {
    let Trust::Festival(festival) = &shared.trust else { return Ok(()) };
    // The list first: it is signed, so it counts whoever brings it, and it may name its bringer.
    match hello.revocations.as_deref().map(|list| festival.adopt(list)) {
        Some(Ok(true)) => {
            tracing::info!("a newer list of revocations came from {}", node.short());
            for link in shared.neighbors.links() {
                if festival.revoked(&link.neighbor, link.token.as_deref()) {
                    link.close(Close::Outsider, "revoked by the organizer");
                }
            }
        }
        Some(Err(error)) => tracing::warn!("the list of revocations of {} {error}", node.short()),
        Some(Ok(false)) | None => {}
    }
    match festival.judge(node, &hello.zone, hello.festival.as_deref(), clock::wall().0 / 1000) {
        Ok(Standing::Good | Standing::Trusted) => Ok(()),
        Ok(standing) => {
            tracing::warn!(
                "the zone token of {} in {}: {standing:?}; look at the clocks, then renew it",
                node.short(),
                hello.zone
            );
            Ok(())
        }
        Err(outsider) => {
            tracing::warn!("a relay was refused: {node} {outsider}");
            connection.close(Close::Outsider.code(), format!("this relay {outsider}").as_bytes());
            Err(outsider)
        }
    }
}
