//! The HTTP/1.1 server: accepts connections, bounds their number and cuts slow ones.
//!
//! Each connection holds a place of the address it serves. Where all are taken an idle one ends, or one of the
//! greediest address (`places/shares.rs`), so that a newcomer never waits. If nobody is greedier than the newcomer it
//! gets a place of a reserve, where only health and metrics are answered.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::ConnectInfo,
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use hyper::{
    body::{Body as _, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tower::ServiceExt;

use super::{
    body::{Coming, Going, TooSlow},
    closing,
    error::ApiError,
    limits::{CONNECTIONS_MAX, HEAD_TIMEOUT, RESERVE_MAX},
    origin::AskedHost,
    pace::MustRead,
};
use crate::{
    client::Proxies,
    drop_reason::DropReason,
    places::{
        Held, Places,
        shares::{GivesWay, Policy, Standing},
    },
};

/// How long running requests have once the relay stops.
const DRAIN: Duration = Duration::from_secs(2);
/// On connections of the reserve: a head, and everything else.
const RESERVE_HEAD: Duration = Duration::from_secs(1);
const RESERVE_TOTAL: Duration = Duration::from_secs(5);
/// Octets of an answer that the kernel keeps for a client that does not read (it takes twice as much). What is
/// beyond waits here, where it is seen that nobody reads.
const UNREAD_MAX: usize = 128 * 1024;
/// Octets of a head, and of a body that are read at once. Each connection may hold so much: 2000 that send a body and
/// stop took 128 MiB with four times as much, and no upload is faster by it.
const READ_MAX: usize = 16 * 1024;

/// A connection without progress for so long gives way to another one of its address.
const PATIENCE: Duration = Duration::from_secs(1);
/// Answers of the API that are longer, at a time: a room's history has up to 4 MiB.
const LARGE: u64 = 64 * 1024;
const LARGE_MAX: usize = 128;
const LARGE_PATIENCE: Duration = Duration::from_secs(2);

/// How many connections there may be.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// For everything.
    pub connections: usize,
    /// Beyond them, for health and metrics.
    pub reserve: usize,
}

impl Bounds {
    /// The places for all connections but those of the reserve.
    pub fn places(&self) -> Places {
        let policy = Policy { gives_way: GivesWay::Stalest, patience: PATIENCE };
        Places::new(self.connections, policy, DropReason::ConnectionGaveWay, DropReason::ConnectionRefused)
    }
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { connections: CONNECTIONS_MAX, reserve: RESERVE_MAX }
    }
}

struct Server {
    router: Router,
    proxies: Proxies,
    places: Places,
    reserve: Places,
    large: Places,
    stop: watch::Receiver<bool>,
}

/// Marks an answer that does not end: its connection takes one of these places instead of one of all connections.
#[derive(Debug, Clone)]
pub struct Endless(pub Places);

/// Whether a connection is one of all, or of the reserve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Ordinary,
    Reserve,
}

/// Serves until `stop` turns true, then lets running requests end for two seconds. Handlers find who asks as
/// `ConnectInfo<Client>`.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    proxies: Proxies,
    places: Places,
    bounds: Bounds,
    mut stop: watch::Receiver<bool>,
) {
    let policy = Policy { gives_way: GivesWay::Stalest, patience: Duration::ZERO };
    let reserve =
        Places::new(bounds.reserve, policy, DropReason::ConnectionGaveWay, DropReason::ConnectionRefused);
    let policy = Policy { gives_way: GivesWay::Stalest, patience: LARGE_PATIENCE };
    let large = Places::new(LARGE_MAX, policy, DropReason::AnswerGaveWay, DropReason::AnswerRefused);
    let server = Arc::new(Server { router, proxies, places, reserve, large, stop: stop.clone() });
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // An error says that whoever could stop us is gone.
            _ = stop.wait_for(|stop| *stop) => break,
        };
        match accepted {
            Ok((stream, remote)) => {
                // One that finds no place even in the reserve ends here, without a word.
                if let Some((held, door)) = server.place(remote) {
                    connections.spawn(server.clone().serve_connection(stream, remote, held, door));
                }
            }
            Err(error) => {
                // Mostly too many open files.
                tracing::warn!(%error, "cannot accept a connection");
                server.places.make_room();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    // What is still running then is cut when the set is dropped.
    let _ = timeout(DRAIN, drained).await;
}

impl Server {
    fn place(&self, remote: SocketAddr) -> Option<(Arc<Held>, Door)> {
        let holder = remote.ip().into();
        match self.places.take(holder) {
            Ok(held) => Some((Arc::new(held), Door::Ordinary)),
            Err(_) => self.reserve.take(holder).ok().map(|held| (Arc::new(held), Door::Reserve)),
        }
    }

    async fn serve_connection(
        self: Arc<Server>,
        stream: TcpStream,
        remote: SocketAddr,
        held: Arc<Held>,
        door: Door,
    ) {
        let lost = held.clone();
        let serving = async move {
            match door {
                Door::Ordinary => self.speak(stream, remote, held, door).await,
                // Whoever is not done then was not asking for health.
                Door::Reserve => {
                    let _ = timeout(RESERVE_TOTAL, self.speak(stream, remote, held, door)).await;
                }
            }
        };
        tokio::select! {
            () = serving => {}
            () = lost.lost() => {}
        }
    }

    async fn speak(self: Arc<Server>, stream: TcpStream, remote: SocketAddr, held: Arc<Held>, door: Door) {
        // Answers are small and wanted at once. If the socket refuses, it is only slower.
        let _ = stream.set_nodelay(true);
        let _ = socket2::SockRef::from(&stream).set_send_buffer_size(UNREAD_MAX);
        let mut stop = self.stop.clone();
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let (server, held) = (self.clone(), held.clone());
            async move { Ok::<_, std::convert::Infallible>(server.answer(request, remote, held, door).await) }
        });
        let (stream, mut returned) = closing::lend(MustRead::new(stream));
        let head = if door == Door::Ordinary { HEAD_TIMEOUT } else { RESERVE_HEAD };
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head)
            .keep_alive(door == Door::Ordinary)
            .max_buf_size(READ_MAX)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = Box::pin(connection);
        // Errors are the client's: it went away, was too slow or does not speak HTTP.
        let stopping = tokio::select! {
            _ = connection.as_mut() => false,
            _ = stop.wait_for(|stop| *stop) => true,
        };
        if stopping {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
            return;
        }
        drop(connection);
        // One that became a WebSocket is not returned yet, and nothing here reads from it.
        if let Ok(stream) = returned.try_recv() {
            closing::hear_out(stream).await;
        }
    }

    async fn answer(
        &self,
        request: hyper::Request<Incoming>,
        remote: SocketAddr,
        held: Arc<Held>,
        door: Door,
    ) -> Response {
        let client = self.proxies.client(remote, request.headers());
        held.hand_over(client.holder());
        held.stand(Standing::Unproven);
        let is_api = request.uri().path().starts_with("/api/");
        let mut response = if door == Door::Reserve && !is_health(request.uri().path()) {
            let title = "this relay has no connection left: try again in a few seconds";
            close(ApiError::unavailable(title, 5).into_response())
        } else {
            let slow = TooSlow::default();
            let (mut parts, body) = request.into_parts();
            if let Some(host) = self.proxies.host(remote, &parts.headers) {
                parts.extensions.insert(AskedHost(host));
            }
            parts.extensions.insert(ConnectInfo(client));
            let body = Coming::new(Body::new(body), held.clone(), slow.clone());
            let request = hyper::Request::from_parts(parts, Body::new(body));
            let Ok(response) = self.router.clone().oneshot(request).await;
            if slow.get() { close(ApiError::too_slow().into_response()) } else { response }
        };
        // What is told whole is in memory until the client has read it: the pages are too, but once for all.
        let length = response.body().size_hint().exact().unwrap_or(0);
        if let Some(Endless(places)) = response.extensions_mut().remove() {
            return match places.take_beside(client.holder(), held.notice()) {
                Ok(place) => {
                    // It leaves its place to others, and cannot have it back.
                    held.leave();
                    close(response.map(|body| Body::new(Going::new(body, held, Some(place)))))
                }
                Err(_) => {
                    let title = "too many streams of events are read: try again in a few seconds";
                    let refused = ApiError::unavailable(title, 5).into_response();
                    refused.map(|body| Body::new(Going::new(body, held, None)))
                }
            };
        }
        if !is_api || length <= LARGE {
            return response.map(|body| Body::new(Going::new(body, held, None)));
        }
        match self.large.take_beside(client.holder(), held.notice()) {
            Ok(place) => response.map(|body| Body::new(Going::new(body, held, Some(place)))),
            Err(_) => {
                let title = "too many long answers are on their way: try again in a few seconds";
                let refused = ApiError::unavailable(title, 5).into_response();
                refused.map(|body| Body::new(Going::new(body, held, None)))
            }
        }
    }
}

/// What is answered when nothing else is.
fn is_health(path: &str) -> bool {
    matches!(path, "/livez" | "/readyz" | "/metrics")
}

fn close(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
