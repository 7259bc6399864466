//! The HTTP interface for operators and their programs. Every route is declared once, and that declaration is both what
//! is served and what `/api/v1/openapi.json` tells.

mod auth;
mod cluster;
mod events;
mod extract;
mod health;
mod nodes;
mod openapi;
mod problem;
mod reload;
mod sessions;

use std::{
    convert::Infallible,
    future::Future,
    io,
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use arc_swap::ArcSwap;
use axum::{
    Router,
    http::{Method, Uri},
    middleware,
};
use metrics_exporter_prometheus::PrometheusHandle;
use rollcall_cluster::Cluster;
use tokio::{net::TcpListener, sync::Semaphore};
use utoipa_axum::{router::OpenApiRouter, routes};

pub use problem::Problem;

use crate::{
    config::{self, Config, EventNode},
    reload::Reloader,
};

/// What the handlers need. Cheap to clone.
#[derive(Clone)]
pub struct AdminState {
    /// Empty until the node has opened its disk; HTTP is there before.
    cluster: Arc<OnceLock<Cluster>>,
    metrics: PrometheusHandle,
    token: Arc<ArcSwap<Option<String>>>,
    reloader: Arc<OnceLock<Arc<Reloader>>>,
    max_followers: usize,
    followers: Arc<Semaphore>,
    event_node: EventNode,
}

impl AdminState {
    pub fn new(config: &Config, metrics: PrometheusHandle) -> Self {
        Self {
            cluster: Arc::default(),
            metrics,
            token: Arc::new(ArcSwap::from_pointee(config.http.token.clone())),
            reloader: Arc::default(),
            max_followers: config.http.max_followers,
            followers: Arc::new(Semaphore::new(config.http.max_followers)),
            event_node: config.events.node,
        }
    }

    /// From now on there is something to tell.
    pub fn attach(&self, cluster: Cluster) {
        // A second cluster would be a mistake of the caller; the first one stays.
        let _ = self.cluster.set(cluster);
    }

    /// From now on the configuration can be read anew.
    pub fn attach_reloader(&self, reloader: Arc<Reloader>) {
        // As with the cluster.
        let _ = self.reloader.set(reloader);
    }

    /// `http.token`, which may change.
    pub fn token(&self) -> Arc<ArcSwap<Option<String>>> {
        self.token.clone()
    }

    fn cluster(&self) -> Result<&Cluster, Problem> {
        self.cluster.get().ok_or_else(|| Problem::not_ready("the node is starting: wait"))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot serve HTTP on {bind}: {cause}; free the port or change http.bind")]
    Bind { bind: SocketAddr, cause: io::Error },
    #[error("HTTP ended: {0}")]
    Serve(io::Error),
}

/// # Errors
/// When the address is in use or not this host's.
pub async fn bind(config: &config::Http) -> Result<TcpListener, Error> {
    let bind = config.bind;
    TcpListener::bind(bind).await.map_err(|cause| Error::Bind { bind, cause })
}

/// Serves until `stop` is done. Requests still being answered, and streams, are then cut off.
///
/// # Errors
/// When the listener fails.
pub async fn serve(listener: TcpListener, state: AdminState, stop: impl Future<Output = ()>) -> Result<(), Error> {
    let metrics = state.metrics.clone();
    tokio::select! {
        ended = axum::serve(listener, router(state)).into_future() => ended.map_err(Error::Serve),
        () = stop => Ok(()),
        never = upkeep(metrics) => match never {},
    }
}

/// Histograms gather samples until they are summed up; without this, for ever where nobody asks for the metrics.
async fn upkeep(metrics: PrometheusHandle) -> Infallible {
    const PERIOD: Duration = Duration::from_secs(5);
    loop {
        tokio::time::sleep(PERIOD).await;
        metrics.run_upkeep();
    }
}

/// All routes, with their errors as problem JSON.
pub fn router(state: AdminState) -> Router {
    let (routes, mut document) = routes().split_for_parts();
    openapi::complete(&mut document);
    let document: Arc<str> = document.to_json().unwrap_or_default().into();
    routes
        .fallback(async |uri: Uri| Problem::unknown_route(uri.path()))
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            Problem::method_not_allowed(method.as_str(), uri.path())
        })
        .layer(axum::Extension(openapi::Document(document)))
        .layer(middleware::from_fn_with_state(state.clone(), auth::check))
        .with_state(state)
}

fn routes() -> OpenApiRouter<AdminState> {
    OpenApiRouter::with_openapi(openapi::base())
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
        .routes(routes!(openapi::document))
        .routes(routes!(cluster::cluster))
        .routes(routes!(reload::reload))
        .routes(routes!(nodes::nodes))
        .routes(routes!(nodes::remove))
        .routes(routes!(nodes::drain))
        .routes(routes!(nodes::rebalance))
        .routes(routes!(cluster::limits, cluster::set_limits))
        .routes(routes!(sessions::sessions))
        .routes(routes!(sessions::session, sessions::kick))
        .routes(routes!(events::events))
}

#[cfg(test)]
mod tests;
