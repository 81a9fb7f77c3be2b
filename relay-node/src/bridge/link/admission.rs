//! The festival's part in a link: the hello shows this relay's token and what the organizer signed for all, the
//! neighbor's are judged before the link is up and for as long as it is, and what is newer goes on to all neighbors.
//! The same watch warns of the own token's end. The judgement itself is `festival`'s.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use mesh_routing::Underlay;
use protocol::{NodeId, ZoneName, token::Membership};
use quinn::{Connection, RecvStream, VarInt};
use tokio::{sync::watch, task::spawn_blocking, time::MissedTickBehavior};

use super::{
    close::Close,
    hello::Hello,
    stream::{self, Frames, StreamError},
};
use crate::{
    bridge::{LinkId, Shared, Trust},
    clock,
    membership::{
        festival::{Festival, Seen},
        judge::{MembershipError, Standing},
        revocation_list::LINES_MAX,
    },
};

/// How often links are judged anew and the operator's list of revocations is looked at.
const LOOK: Duration = Duration::from_secs(5);
/// Looks between two words in the log about this relay's own token.
const LOOKS_PER_WARNING: u32 = 720;
/// The longest revocations and key rotations, as one frame on a stream of their own.
pub(crate) const UPDATE_MAX: usize = 64 * 1024;
/// Between two streams of them that a neighbor is heard on.
const UPDATES_PAUSE: Duration = Duration::from_millis(250);

/// What the neighbor showed in its hello, and whether it counted.
#[derive(Debug)]
pub(crate) struct Shown {
    zone: ZoneName,
    token: Option<Membership>,
}

impl Shared {
    fn festival(&self) -> Option<&Arc<Festival>> {
        match &self.trust {
            Trust::Festival(festival) => Some(festival),
            Trust::Anyone | Trust::Only(_) => None,
        }
    }
}

/// What this relay says first, and where newer revocations than those in it will be told.
pub(crate) fn hello(shared: &Shared, underlay: Underlay) -> (Hello, MembershipUpdates) {
    // Before the revocations are read: what comes between is told twice rather than not.
    let news = MembershipUpdates(shared.festival().map(|festival| (festival.clone(), festival.news())));
    let (token, signed) = shared.festival().map(|festival| festival.shown()).unzip();
    let (versions, zone) = (shared.versions, shared.zone.clone());
    let (updates, incarnation) = (signed.unwrap_or_default(), Some(shared.incarnation));
    (Hello { versions, zone, festival: token, updates, underlay, incarnation }, news)
}

/// Judges what the neighbor said first, and closes the connection to an outsider.
pub(crate) fn admit(
    shared: &Shared,
    connection: &Connection,
    node: NodeId,
    hello: &Hello,
) -> Result<Shown, MembershipError> {
    let zone = hello.zone.clone();
    let Some(festival) = shared.festival() else { return Ok(Shown { zone, token: None }) };
    // The revocations first: they are signed, so they count whoever brings them, and may name their bringer.
    adopt(festival, node, &hello.updates);
    let judged = festival.believe(node, &zone, hello.festival.as_deref()).and_then(|token| {
        let standing = festival.standing(node, token.as_ref(), now())?;
        Ok((token, standing))
    });
    match judged {
        Ok((token, standing)) => {
            if standing.flagged() {
                tracing::warn!("the zone token of {} in {zone} {standing}", node.short());
            }
            Ok(Shown { zone, token })
        }
        Err(outsider) => {
            if festival.names(node, &outsider) {
                tracing::warn!("a relay of {zone} was refused: {node} {outsider}");
            } else {
                tracing::debug!("a relay of {zone} was refused again: {node} {outsider}");
            }
            connection.close(Close::Outsider.code(), reason(node, &outsider).as_bytes());
            Err(outsider)
        }
    }
}

/// In the log of both sides, so it says who is meant.
fn reason(node: NodeId, outsider: &MembershipError) -> String {
    format!("relay {} {outsider}", node.short())
}

fn adopt(festival: &Festival, bringer: NodeId, lines: &[String]) {
    for line in lines.iter().take(LINES_MAX) {
        match festival.adopt(line) {
            Ok(true) => {
                tracing::info!("a newer revocation list or key rotation came from {}", bringer.short())
            }
            Ok(false) => {}
            Err(error) => {
                tracing::debug!("a revocation list or key rotation from {} {error}", bringer.short())
            }
        }
    }
}

/// Newer revocations and key rotations, for one link.
pub(crate) struct MembershipUpdates(Option<(Arc<Festival>, watch::Receiver<u64>)>);

impl MembershipUpdates {
    /// Tells the neighbor each time there are newer ones, until the link ends.
    pub async fn tell(self, connection: Connection) -> String {
        let Some((festival, mut news)) = self.0 else { return std::future::pending().await };
        loop {
            if news.changed().await.is_err() {
                return "this relay is stopping".to_owned();
            }
            let lines = festival.shown().1;
            if let Err(error) = send(&connection, &lines).await {
                return error.to_string();
            }
        }
    }

    /// Takes the neighbor's newer ones, until the link ends.
    pub fn listen(
        &self,
        connection: Connection,
        node: NodeId,
    ) -> impl Future<Output = String> + Send + 'static {
        let festival = self.0.as_ref().map(|(festival, _)| festival.clone());
        async move {
            loop {
                let stream = match connection.accept_uni().await {
                    Ok(stream) => stream,
                    Err(error) => return error.to_string(),
                };
                match receive(stream).await {
                    // Without a festival they concern nobody here.
                    Ok(lines) => drop(festival.as_ref().map(|festival| adopt(festival, node, &lines))),
                    Err(error) => return error.to_string(),
                }
                // A neighbor that tells without end is not listened to without end.
                tokio::time::sleep(UPDATES_PAUSE).await;
            }
        }
    }
}

async fn send(connection: &Connection, lines: &[String]) -> Result<(), StreamError> {
    let mut stream = connection.open_uni().await.map_err(quinn::WriteError::ConnectionLost)?;
    let frame = postcard::to_stdvec(lines).expect("texts always serialize");
    stream::write_frame(&mut stream, frame.into()).await?;
    // It is open, so it can be finished.
    let _ = stream.finish();
    Ok(())
}

async fn receive(mut stream: RecvStream) -> Result<Vec<String>, StreamError> {
    let frame = stream::read_frame(&mut stream, &mut Frames::new(UPDATE_MAX)).await?;
    let _ = stream.stop(VarInt::from_u32(0));
    updates_in(&frame)
}

/// The revocations and key rotations in a frame, whatever is in them.
pub(crate) fn updates_in(frame: &[u8]) -> Result<Vec<String>, StreamError> {
    postcard::from_bytes(frame).map_err(|_| StreamError::NotUpdates)
}

/// Keeps what is known on disk, and the links to those whom it leaves in. Runs as long as the bridges.
pub(crate) async fn watch(shared: Arc<Shared>) {
    let Some(festival) = shared.festival().cloned() else { return };
    let mut news = festival.news();
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut seen, mut warned) = (Seen::default(), false);
    let mut flagged = BTreeSet::new();
    for count in 0_u32.. {
        // Anything that a slow disk holds up waits here and nowhere else.
        let disk = festival.clone();
        let keep = count == 0 || news.has_changed().unwrap_or(false);
        news.mark_unchanged();
        let read = spawn_blocking(move || {
            if keep {
                disk.keep();
            }
            disk.read_given(seen)
        });
        seen = read.await.unwrap_or(seen);
        judge(&shared, &festival, &mut flagged);
        metrics::gauge!("relay_token_seconds_left").set(festival.seconds_left(now()) as f64);
        let warning = festival.warning(now());
        if let Some(warning) = &warning
            && (!warned || count.is_multiple_of(LOOKS_PER_WARNING))
        {
            tracing::error!("{warning}");
        }
        warned = warning.is_some();
        tokio::select! {
            _ = looks.tick() => {}
            _ = news.changed() => news.mark_changed(),
        }
    }
}

/// Closes the links to those who do not count any more, and names those who soon will not.
fn judge(shared: &Shared, festival: &Festival, flagged: &mut BTreeSet<LinkId>) {
    let links = shared.neighbors.links();
    flagged.retain(|id| links.iter().any(|link| link.id == *id));
    for link in links {
        let Shown { zone, token } = &link.shown;
        match festival.standing(link.neighbor, token.as_ref(), now()) {
            Ok(Standing::Expired { seconds }) if flagged.insert(link.id) => {
                let standing = Standing::Expired { seconds };
                tracing::warn!("the zone token of {} in {zone} {standing}", link.neighbor.short());
            }
            Ok(_) => {}
            Err(outsider) => {
                tracing::warn!("a bridge to {zone} is closed: relay {} {outsider}", link.neighbor);
                link.close(Close::Outsider, &reason(link.neighbor, &outsider));
            }
        }
    }
}

/// Unix seconds.
fn now() -> u64 {
    clock::wall().0 / 1000
}
