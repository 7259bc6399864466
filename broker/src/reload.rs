//! The configuration of a node that runs, read anew.

use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::task::spawn_blocking;

use crate::{
    admin::AdminState,
    config::{Changes, Effective, Problems, Sources},
    node::Node,
};

pub struct Reloader {
    sources: Sources,
    /// What is in force.
    effective: Mutex<Effective>,
    node: Arc<Node>,
    /// Of HTTP.
    token: Arc<ArcSwap<Option<String>>>,
}

impl Reloader {
    pub fn new(sources: Sources, effective: Effective, node: Arc<Node>, admin: &AdminState) -> Arc<Self> {
        Arc::new(Self { sources, effective: Mutex::new(effective), node, token: admin.token() })
    }

    /// Reads the whole before anything is changed.
    ///
    /// # Errors
    /// With everything that is wrong; then nothing is changed.
    pub async fn reload(self: &Arc<Self>) -> Result<Changes, Problems> {
        let reloader = self.clone();
        // It reads a file. A panic there is the only way in which this can fail.
        let reloaded = spawn_blocking(move || reloader.take_up()).await;
        let reloaded = reloaded.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        match &reloaded {
            Ok(Changes { applied, needs_restart, only_seeds }) => {
                let [applied, needs_restart, only_seeds] =
                    [applied, needs_restart, only_seeds].map(|keys| keys.join(", "));
                tracing::info!(applied, needs_restart, only_seeds, "the configuration was read anew");
            }
            Err(problems) => tracing::error!(%problems, "the configuration is refused, and nothing was changed"),
        }
        reloaded
    }

    fn take_up(&self) -> Result<Changes, Problems> {
        // Held throughout, so that of two at once none undoes half of the other.
        let mut effective = self.effective.lock();
        let (next, changes) = effective.become_as_far_as_possible(&Effective::load(&self.sources)?)?;
        self.node.take_up(&next.config);
        self.token.store(Arc::new(next.config.http.token.clone()));
        *effective = next;
        Ok(changes)
    }
}
