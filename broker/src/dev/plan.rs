//! What each node of a development cluster is started with.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

use super::{Error, Options};
use crate::config::{Effective, Sources, key_of};

/// One node to be.
pub(super) struct NodePlan {
    pub name: String,
    pub program: PathBuf,
    /// `key=value`, secrets left out.
    pub set: Vec<String>,
    /// Environment variable and value: what must not be seen in a process list.
    pub secrets: Vec<(String, String)>,
    pub mqtt: Vec<SocketAddr>,
    pub http: SocketAddr,
    pub rpc: SocketAddr,
    pub log: PathBuf,
    pub drain_timeout: Duration,
}

/// What tells the nodes apart is not for `--set`, which is for all of them.
const OUR_KEYS: [&str; 5] =
    ["node.name", "node.data_dir", "node.advertise_mqtt", "cluster.peers", "cluster.rpc_advertise"];

pub(super) fn plan(options: &Options) -> Result<Vec<NodePlan>, Error> {
    for (flag, first) in
        [("--mqtt-port", options.mqtt_port), ("--http-port", options.http_port), ("--rpc-port", options.rpc_port)]
    {
        if first.checked_add(options.nodes).is_none() {
            return Err(Error::PortsEnd { flag, first, nodes: options.nodes });
        }
    }
    for assignment in &options.set {
        let key = assignment.split('=').next().unwrap_or_default().trim();
        if OUR_KEYS.contains(&key) {
            return Err(Error::OurKey { key: key.to_owned() });
        }
    }
    let program = std::env::current_exe().map_err(Error::NoProgram)?;
    let sources = Sources::of_process(None, Vec::new());
    (0..options.nodes).map(|index| node(options, &program, &sources, index)).collect()
}

fn node(options: &Options, program: &Path, inherited: &Sources, index: u16) -> Result<NodePlan, Error> {
    let name = format!("node-{index}");
    let mut assignments: Vec<String> = inherited_binds(inherited).map(|bind| shifted(&bind, index)).collect();
    assignments.extend(ours(options, &name, index));
    assignments.extend(options.set.iter().map(|assignment| shifted(assignment, index)));
    let sources = Sources { set: assignments.clone(), ..inherited.clone() };
    let effective = Effective::load(&sources).map_err(|problems| Error::Config { node: name.clone(), problems })?;
    let (secrets, set): (Vec<String>, Vec<String>) = assignments.into_iter().partition(|assignment| {
        let key = assignment.split('=').next().unwrap_or_default().trim();
        effective.settings.get(key).is_some_and(|setting| setting.is_secret())
    });
    let config = effective.config;
    Ok(NodePlan {
        program: program.to_owned(),
        set,
        secrets: secrets.iter().filter_map(|assignment| as_variable(assignment)).collect(),
        mqtt: config.listeners.values().map(|listener| listener.bind).collect(),
        http: config.http.bind,
        rpc: config.cluster.rpc_bind,
        log: options.data_dir.join(format!("{name}.log")),
        drain_timeout: config.drain.timeout,
        name,
    })
}

fn ours(options: &Options, name: &str, index: u16) -> Vec<String> {
    let port = |first: u16| first + index;
    let mut set = vec![
        format!("node.name={name}"),
        format!("node.data_dir={}", options.data_dir.join(name).display()),
        format!("listeners.tcp.bind=127.0.0.1:{}", port(options.mqtt_port)),
        format!("http.bind=127.0.0.1:{}", port(options.http_port)),
        format!("cluster.rpc_bind=127.0.0.1:{}", port(options.rpc_port)),
    ];
    if options.nodes > 1 {
        let peers: Vec<String> = (0..options.nodes).map(|i| format!("127.0.0.1:{}", options.rpc_port + i)).collect();
        set.push(format!("cluster.peers={}", peers.join(",")));
    }
    set
}

/// The binds that all children would take from the environment.
fn inherited_binds(sources: &Sources) -> impl Iterator<Item = String> {
    let keys = sources.env.iter().filter_map(|(variable, value)| Some((key_of(variable)?, value)));
    keys.filter(|(key, _)| key.ends_with(".bind")).map(|(key, value)| format!("{key}={value}"))
}

/// A bind of `--set` or of the environment is node-0's; each further node has the next port.
fn shifted(assignment: &str, index: u16) -> String {
    let Some((key, value)) = assignment.split_once('=') else { return assignment.to_owned() };
    let bind = if key.trim().ends_with(".bind") { value.parse::<SocketAddr>().ok() } else { None };
    match bind.and_then(|bind| Some(SocketAddr::new(bind.ip(), bind.port().checked_add(index)?))) {
        Some(bind) => format!("{key}={bind}"),
        None => assignment.to_owned(),
    }
}

fn as_variable(assignment: &str) -> Option<(String, String)> {
    let (key, value) = assignment.split_once('=')?;
    Some((format!("ROLLCALL__{}", key.trim().replace('.', "__").to_uppercase()), value.to_owned()))
}

/// Before any child is started, so that one is not left half up for another's sake.
pub(super) fn check_ports(plans: &[NodePlan]) -> Result<(), Error> {
    for plan in plans {
        let mqtt = plan.mqtt.iter().map(|bind| (*bind, "--mqtt-port (or --set listeners.NAME.bind)"));
        let others = [(plan.http, "--http-port"), (plan.rpc, "--rpc-port")];
        for (address, remedy) in mqtt.chain(others) {
            TcpListener::bind(address).map_err(|cause| Error::PortTaken {
                node: plan.name.clone(),
                address,
                cause,
                remedy: remedy.to_owned(),
            })?;
        }
    }
    Ok(())
}

impl NodePlan {
    /// What to type to start this node by hand. Secrets are to be filled in.
    pub fn command_line(&self) -> String {
        let mut words: Vec<String> = self.secrets.iter().map(|(name, _)| format!("{name}=…")).collect();
        words.push(quoted(&self.program.display().to_string()));
        words.push("serve".to_owned());
        for assignment in &self.set {
            words.push("--set".to_owned());
            words.push(quoted(assignment));
        }
        words.join(" ")
    }
}

/// For a POSIX shell.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-=:/,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(set: &[&str]) -> Options {
        Options {
            nodes: 3,
            mqtt_port: 1883,
            http_port: 8080,
            rpc_port: 7400,
            data_dir: "data dir".into(),
            set: set.iter().map(ToString::to_string).collect(),
            respawn: false,
        }
    }

    #[test]
    fn each_node_has_its_own_name_ports_and_directory() {
        let plans = plan(&options(&["limits.max_connections=100", "listeners.tcp.max_qos=1"])).ok().unwrap();
        assert_eq!(plans.len(), 3);
        assert_eq!(plans[2].name, "node-2");
        assert_eq!(plans[2].mqtt, ["127.0.0.1:1885".parse().unwrap()]);
        assert_eq!(plans[2].http.port(), 8082);
        assert_eq!(plans[2].rpc.port(), 7402);
        let line = plans[1].command_line();
        for part in [
            " serve --set node.name=node-1 --set 'node.data_dir=data dir/node-1' ",
            " --set cluster.peers=127.0.0.1:7400,127.0.0.1:7401,127.0.0.1:7402 ",
            " --set limits.max_connections=100 ",
        ] {
            assert!(line.contains(part), "{line}");
        }
    }

    #[test]
    fn a_further_listener_gets_its_own_port_on_each_node() {
        let plans = plan(&options(&["listeners.plant.bind=127.0.0.1:2883"])).ok().unwrap();
        assert_eq!(plans[2].mqtt, ["127.0.0.1:2885".parse().unwrap(), "127.0.0.1:1885".parse().unwrap()]);
    }

    #[test]
    fn a_further_listener_of_the_environment_gets_its_own_port_on_each_node() {
        let env = [("ROLLCALL__LISTENERS__PLANT__BIND".to_owned(), "127.0.0.1:2883".to_owned())].into();
        let inherited = Sources { env, ..Sources::default() };
        let plan = node(&options(&[]), Path::new("rollcall"), &inherited, 2).ok().unwrap();
        assert_eq!(plan.mqtt, ["127.0.0.1:2885".parse().unwrap(), "127.0.0.1:1885".parse().unwrap()]);
    }

    #[test]
    fn a_secret_is_neither_in_the_arguments_nor_in_the_printed_line() {
        let plans = plan(&options(&["http.token=s3cret"])).ok().unwrap();
        assert!(!plans[0].set.iter().any(|assignment| assignment.contains("s3cret")));
        assert_eq!(plans[0].secrets, [("ROLLCALL__HTTP__TOKEN".to_owned(), "s3cret".to_owned())]);
        let line = plans[0].command_line();
        assert!(!line.contains("s3cret") && line.starts_with("ROLLCALL__HTTP__TOKEN="), "{line}");
    }

    #[test]
    fn what_tells_the_nodes_apart_cannot_be_set_for_all() {
        let refused = plan(&options(&["node.name=x"])).err().unwrap().to_string();
        assert!(refused.contains("node.name"), "{refused}");
        let refused = plan(&options(&["cluster.lesae=7s"])).err().unwrap().to_string();
        assert!(refused.contains("cluster.lease"), "{refused}");
        let far = Options { mqtt_port: 65_534, ..options(&[]) };
        assert!(plan(&far).err().unwrap().to_string().contains("--mqtt-port 65534"));
    }

    #[test]
    fn a_port_in_use_is_named_with_the_way_out() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let bind = format!("http.bind={}", taken.local_addr().unwrap());
        let plans = plan(&Options { nodes: 1, mqtt_port: 0, rpc_port: 0, ..options(&[&bind]) }).ok().unwrap();
        let refused = check_ports(&plans).unwrap_err().to_string();
        assert!(refused.contains(&taken.local_addr().unwrap().to_string()), "{refused}");
        assert!(refused.contains("--http-port"), "{refused}");
    }
}
