//! `rollcall recover`: when the quorum is lost for good, a cluster of one node from what that node has on its disk.

use rollcall_cluster::recover::{RecoverError, Remains, Survivor, recover, remains};

use crate::config::{Config, Effective};
use crate::ctl::Table;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot start the runtime: {0}")]
    Runtime(std::io::Error),
    #[error(transparent)]
    Recover(#[from] RecoverError),
    #[error("nothing was changed: give --accept-data-loss to make this disk the whole cluster")]
    NotAccepted,
}

/// Shows what the disk has and, if that is accepted, makes it the whole cluster.
///
/// # Errors
/// When it is not accepted, the node still runs, or the disk fails.
pub fn run(effective: &Effective, accepted: bool) -> Result<(), Error> {
    let survivor = survivor(&effective.config);
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(Error::Runtime)?;
    runtime.block_on(async {
        show(&remains(&survivor).await?);
        println!(
            "\nWhat other nodes had acknowledged and this disk does not have is lost. Prefer the disk with the highest \
             terms and indexes."
        );
        if !accepted {
            return Err(Error::NotAccepted);
        }
        recover(&survivor).await?;
        println!(
            "\nDone. Start this node; it is the whole cluster. Start the others with empty data directories: they join \
             it. Never start a node of the old cluster with its old disk again."
        );
        Ok(())
    })
}

fn survivor(config: &Config) -> Survivor {
    Survivor {
        data_dir: config.node.data_dir.clone(),
        cluster_name: config.cluster.name.clone(),
        node_name: config.node.name.clone(),
        rpc_address: config.cluster.advertised_rpc(),
    }
}

fn show(remains: &[Remains]) {
    let mut table = Table::new(&["group", "term", "index", "voters"]);
    for Remains { group, last: (term, index), voters } in remains {
        let name = if *group == 0 { "roster".to_owned() } else { format!("shard-{group}") };
        table.row(vec![name, term.to_string(), index.to_string(), voters.join(" ")]);
    }
    print!("{table}");
}
