//! What all runs are told alike that start a cluster and leave it as it is otherwise.

use std::path::PathBuf;

use clap::Args;

use crate::cluster::{Disks, Setup};

#[derive(Debug, Args)]
pub struct Options {
    /// The program to start the nodes with.
    #[arg(long, env = "ROLLCALL_BIN", default_value = "target/debug/rollcall")]
    pub rollcall: PathBuf,
    /// Nodes of the cluster.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(3..=9))]
    pub nodes: u16,
    /// Keep the nodes' folders and logs; they are kept anyway when something does not hold.
    #[arg(long)]
    pub keep: bool,
    /// A setting for every node.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

impl Options {
    /// The run's own and those asked for by name, which come last and win.
    pub fn settings(&self, own: &[&str]) -> Vec<String> {
        own.iter().map(|setting| (*setting).to_owned()).chain(self.settings.iter().cloned()).collect()
    }

    /// Disks, clocks and network as they are.
    pub fn setup<'a>(&'a self, settings: &'a [String]) -> Setup<'a> {
        let (rollcall, size, keep) = (&*self.rollcall, self.nodes.into(), self.keep);
        Setup { rollcall, size, settings, disks: Disks::Kept, net: false, clocks: false, guest: false, keep }
    }
}
