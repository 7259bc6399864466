//! The command line.

use std::{fmt::Display, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{
    config::{Effective, Sources},
    ctl, dev, recover, serve,
    telemetry::LogFormat,
};

#[derive(Debug, Parser)]
#[command(name = "rollcall", version = crate::version(), about, long_about = None, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run one node
    Serve(Serve),
    /// Run a cluster on this machine, one process per node
    Dev(dev::Options),
    /// Print the effective configuration and where each value comes from
    Config(Configuration),
    /// Ask or command a running node
    Ctl(ctl::Options),
    /// Make a cluster of one node from this node's disk, when most of the others are lost for good
    Recover(Recover),
}

#[derive(Debug, Args)]
struct Recover {
    #[command(flatten)]
    configuration: Configuration,
    /// What only other nodes had on their disks is lost; without this, only what this disk has is shown
    #[arg(long)]
    accept_data_loss: bool,
}

#[derive(Debug, Args)]
struct Serve {
    #[command(flatten)]
    configuration: Configuration,
    /// What log lines look like; by default for people on a terminal, JSON otherwise
    #[arg(long, value_enum, value_name = "FORMAT")]
    log: Option<LogFormat>,
    /// Stop as soon as standard input ends: how a parent process takes its children along
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

/// Where the configuration comes from, besides the environment.
#[derive(Debug, Args)]
struct Configuration {
    /// A TOML file
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One key of the configuration; may be given many times
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl Configuration {
    fn load(self) -> Result<Effective, crate::config::Problems> {
        Effective::load(&self.sources())
    }

    fn sources(self) -> Sources {
        Sources::of_process(self.config, self.set)
    }
}

/// Reads the command line and does what it says.
pub fn run() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(Serve { configuration, log, exit_with_parent }) => {
            let sources = configuration.sources();
            match Effective::load(&sources) {
                Ok(effective) => exit_code(serve::run(sources, effective, log, exit_with_parent)),
                Err(problems) => refused(&problems),
            }
        }
        Command::Dev(options) => exit_code(dev::run(options)),
        Command::Config(configuration) => match configuration.load() {
            Ok(effective) => {
                print!("{effective}");
                ExitCode::SUCCESS
            }
            Err(problems) => refused(&problems),
        },
        Command::Ctl(options) => exit_code(ctl::run(options)),
        Command::Recover(Recover { configuration, accept_data_loss }) => match configuration.load() {
            Ok(effective) => exit_code(recover::run(&effective, accept_data_loss)),
            Err(problems) => refused(&problems),
        },
    }
}

/// As sysexits' EX_CONFIG, so that a supervisor can tell it from a crash.
const EXIT_CONFIG: u8 = 78;

fn refused(problems: &impl Display) -> ExitCode {
    eprintln!("rollcall: the configuration is refused\n{problems}");
    ExitCode::from(EXIT_CONFIG)
}

fn exit_code<E: std::error::Error>(result: Result<(), E>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("rollcall: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
