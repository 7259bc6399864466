//! `rollcall serve`: one node from its configuration to its exit.

use std::{
    io::{self, Read},
    sync::Arc,
};

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{oneshot, watch},
};

use crate::{
    admin::{self, AdminState},
    config::{Effective, Sources},
    node::{self, Node},
    reload::Reloader,
    telemetry::{self, LogFormat},
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot start the runtime: {0}")]
    Runtime(io::Error),
    #[error("cannot install signal handlers: {0}")]
    Signals(io::Error),
    #[error("cannot start metrics: {0}")]
    Metrics(#[from] metrics_exporter_prometheus::BuildError),
    #[error(transparent)]
    Node(#[from] node::Error),
    #[error(transparent)]
    Admin(#[from] admin::Error),
}

/// Runs until the node has stopped by itself or was told to.
///
/// # Errors
/// When it cannot start, or fails while it runs.
pub fn run(
    sources: Sources,
    effective: Effective,
    log: Option<LogFormat>,
    exit_with_parent: bool,
) -> Result<(), Error> {
    telemetry::start_logging(log);
    let metrics = telemetry::start_metrics()?;
    if effective.is_default() {
        tracing::info!(
            "no configuration: a cluster of one node on loopback, data in ./rollcall-data, anonymous clients allowed; \
             see rollcall config"
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Error::Runtime)?;
    runtime.block_on(async {
        let stop = stop_when_told(exit_with_parent).map_err(Error::Signals)?;
        run_node(sources, effective, metrics, stop).await
    })
}

async fn run_node(
    sources: Sources,
    effective: Effective,
    metrics: PrometheusHandle,
    mut stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let hangup = signal(SignalKind::hangup()).map_err(Error::Signals)?;
    let config = &effective.config;
    let listener = admin::bind(&config.http).await?;
    tracing::info!(node = config.node.name, version = crate::version(), http = %config.http.bind, "starting");
    let state = AdminState::new(config, metrics);
    let (ended, end) = oneshot::channel::<()>();
    let admin = state.clone();
    // Served before there is a node, so that it can be told that one is starting.
    let serving = admin::serve(listener, state, async move { drop(end.await) });
    let running = async move {
        // Dropped when this has come to its end, whichever: then HTTP ends too.
        let _ended = ended;
        let node = Arc::new(Node::start(&effective.config).await?);
        admin.attach(node.cluster.clone());
        let reloader = Reloader::new(sources, effective, node.clone(), &admin);
        tokio::spawn(reload_when_told(hangup, reloader.clone()));
        admin.attach_reloader(reloader);
        let mut drain_asked = node.cluster.drain_asked();
        // An error means that nobody can say stop any more, which is one.
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => {}
            _ = drain_asked.wait_for(|asked| *asked) => tracing::info!("an operator has asked this node to drain"),
        }
        node.drain().await;
        Ok::<(), node::Error>(())
    };
    tokio::try_join!(async { serving.await.map_err(Error::from) }, async { running.await.map_err(Error::from) })?;
    Ok(())
}

async fn reload_when_told(mut hangup: Signal, reloader: Arc<Reloader>) {
    while hangup.recv().await.is_some() {
        // What came of it is logged.
        let _ = reloader.reload().await;
    }
}

/// Turns true at the first SIGINT, SIGTERM or, with `exit_with_parent`, end of standard input. A second signal ends the
/// process on the spot.
fn stop_when_told(exit_with_parent: bool) -> io::Result<watch::Receiver<bool>> {
    let (told, stop) = watch::channel(false);
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let parent = if exit_with_parent { Some(parent_gone()?) } else { None };
    tokio::spawn(async move {
        let why = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
            () = ended(parent) => "the parent process is gone",
        };
        tracing::info!(why, "stopping");
        told.send_replace(true);
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::warn!("told to stop twice: ending at once");
        std::process::exit(EXIT_INTERRUPTED);
    });
    Ok(stop)
}

/// As shells report an end by SIGINT.
const EXIT_INTERRUPTED: i32 = 130;

async fn ended(parent: Option<oneshot::Receiver<()>>) {
    match parent {
        // The sender goes when standard input has ended.
        Some(gone) => drop(gone.await),
        None => std::future::pending().await,
    }
}

/// Reads on a thread of its own: a blocking read in the runtime would hold up its end.
fn parent_gone() -> io::Result<oneshot::Receiver<()>> {
    let (alive, gone) = oneshot::channel();
    std::thread::Builder::new().name("parent".into()).spawn(move || {
        let mut ignored = [0; 64];
        while io::stdin().read(&mut ignored).is_ok_and(|read| read > 0) {}
        drop(alive);
    })?;
    Ok(gone)
}
