//! Assembly of a running relay, in order, and why it failed if it did.

use std::{net::SocketAddr, sync::Arc};

use axum::Router;
use thiserror::Error;
use tokio::sync::watch;

use crate::{
    addresses::Addresses,
    api::{self, ApiState, Ready},
    ask,
    auth::Auth,
    bridge::Identity,
    config::Config,
    metrics,
    store::Store,
};

/// Why a relay stopped, other than being told to.
#[derive(Debug, Error)]
pub enum RelayError {
    /// A port or the data directory cannot be had. Exit code 69.
    #[error("{0}")]
    Unavailable(String),
    /// Anything else. Exit code 1.
    #[error("{0}")]
    Failed(String),
}

impl RelayError {
    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        match self {
            RelayError::Unavailable(_) => 69,
            RelayError::Failed(_) => 1,
        }
    }

    /// A port that cannot be bound: names its key and what to do.
    pub fn port(key: &str, address: SocketAddr, error: &std::io::Error) -> RelayError {
        RelayError::Unavailable(format!(
            "{key} = {address} cannot be bound: {error}; stop what uses it, or choose another with --{key}"
        ))
    }
}

/// Runs a relay until it is told to stop.
pub fn run(config: Config) -> Result<(), RelayError> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| RelayError::Failed(error.to_string()))?;
    runtime.block_on(serve(config))
}

/// The data directory first: without it the relay has no name. Then the ports, then whoever uses them.
async fn serve(config: Config) -> Result<(), RelayError> {
    let unavailable = |error: &dyn std::fmt::Display| RelayError::Unavailable(error.to_string());
    let failed = |error: &dyn std::fmt::Display| RelayError::Failed(error.to_string());
    let (_store, _loaded) = Store::open(&config.data).map_err(|error| unavailable(&error))?;
    let identity = Identity::load_or_create(&config.data).map_err(|error| unavailable(&error))?;
    Addresses::remove(&config.data);
    let listener = tokio::net::TcpListener::bind(config.http)
        .await
        .map_err(|error| RelayError::port("http", config.http, &error))?;
    let http = listener.local_addr().map_err(|error| failed(&error))?;
    let (asks, _queue) = ask::queue();
    let state = ApiState {
        asks,
        auth: Arc::new(Auth::new(&config)),
        node: identity.node_id(),
        zone: config.zone.clone(),
        ready: Ready::default(),
        metrics: Some(metrics::install().map_err(|error| failed(&error))?),
    };
    let addresses = Addresses {
        http,
        media: config.media,
        bridge: config.bridge,
        node: identity.node_id(),
        zone: config.zone.clone(),
        pid: std::process::id(),
    };
    addresses.write(&config.data).map_err(|error| unavailable(&error))?;
    let (stop, stopped) = watch::channel(false);
    let server = tokio::spawn(api::server::serve(listener, api::router(state, Router::new()), stopped));
    tracing::info!(zone = %config.zone, node = %identity.node_id(), "open http://{http}");
    tokio::signal::ctrl_c().await.map_err(|error| failed(&error))?;
    // The server outlives this channel's receiver only if it has ended already.
    let _ = stop.send(true);
    server.await.map_err(|error| failed(&error))
}
