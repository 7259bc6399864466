//! What must hold between keys.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use super::{
    error::{Problem, Problems},
    resolve::Setting,
    source::Origin,
    typed::{ClientAuth, Config, Listener, ProxyProtocol},
};

type Settings = BTreeMap<String, Setting>;

pub(super) fn check(config: &Config, settings: &Settings) -> Result<(), Problems> {
    let mut rules = Rules { settings, broken: Vec::new() };
    timing(config, &mut rules);
    listeners(config, &mut rules);
    membership(config, &mut rules);
    node_links(config, &mut rules);
    addresses(config, &mut rules);
    if rules.broken.is_empty() { Ok(()) } else { Err(Problems(rules.broken)) }
}

struct Rules<'a> {
    settings: &'a Settings,
    broken: Vec<Problem>,
}

impl Rules<'_> {
    fn require(&mut self, holds: bool, key: &str, rule: impl FnOnce(&Self) -> String) {
        if holds {
            return;
        }
        let rule = rule(self);
        let origin = self.settings.get(key).map_or(Origin::Default, |setting| setting.origin.clone());
        self.broken.push(Problem::Conflict { key: key.to_owned(), value: self.shown(key), origin, rule });
    }

    fn shown(&self, key: &str) -> String {
        let value = self.settings.get(key).and_then(|setting| setting.value.as_ref());
        value.map_or_else(|| "(not set)".to_owned(), ToString::to_string)
    }

    /// `lesser` must be strictly below `greater`, both durations.
    fn below(&mut self, holds: bool, lesser: &str, greater: &str) {
        self.require(holds, lesser, |rules| format!("must be below {greater} = {}", rules.shown(greater)));
    }
}

fn timing(config: &Config, rules: &mut Rules<'_>) {
    const ELECTIONS_PER_ROUTE_LEASE: u32 = 3;
    let cluster = &config.cluster;
    rules.below(cluster.heartbeat < cluster.election, "cluster.heartbeat", "cluster.election");
    rules.require(
        cluster.route_lease >= cluster.election * ELECTIONS_PER_ROUTE_LEASE,
        "cluster.route_lease",
        |rules| {
            format!(
                "must be at least {ELECTIONS_PER_ROUTE_LEASE} times cluster.election = {}",
                rules.shown("cluster.election")
            )
        },
    );
    rules.below(cluster.route_lease < cluster.lease, "cluster.route_lease", "cluster.lease");
    rules.below(cluster.lease < cluster.node_timeout, "cluster.lease", "cluster.node_timeout");
    rules.below(cluster.batch_interval < cluster.route_lease, "cluster.batch_interval", "cluster.route_lease");
    rules.below(cluster.batch_interval < cluster.claim_timeout, "cluster.batch_interval", "cluster.claim_timeout");
}

fn listeners(config: &Config, rules: &mut Rules<'_>) {
    for (name, listener) in &config.listeners {
        let key = |leaf: &str| format!("listeners.{name}.{leaf}");
        rules.require(listener.keep_alive_min <= listener.keep_alive_max, &key("keep_alive_min"), |rules| {
            format!("must not be above {} = {}", key("keep_alive_max"), rules.shown(&key("keep_alive_max")))
        });
        transports(&key, listener, rules);
        for (bound, holder) in [
            (config.inbox.max_bytes, "inbox.max_bytes"),
            (config.cluster.link_window_bytes, "cluster.link_window_bytes"),
        ] {
            rules.require(listener.max_packet <= bound, &key("max_packet"), |rules| {
                format!("must not be above {holder} = {}, or such a packet could never be sent on", rules.shown(holder))
            });
        }
    }
}

fn transports(key: &impl Fn(&str) -> String, listener: &Listener, rules: &mut Rules<'_>) {
    let (tls, is_encrypted) = (&listener.tls, listener.r#type.is_encrypted());
    let asks = tls.client_auth != ClientAuth::None;
    let for_encrypted = |_: &Rules<'_>| "is for listeners of type tls and wss".to_owned();
    for (leaf, file) in [("tls.cert", &tls.cert), ("tls.key", &tls.key), ("tls.client_ca", &tls.client_ca)] {
        rules.require(is_encrypted || file.is_none(), &key(leaf), for_encrypted);
        let is_needed = is_encrypted && (leaf != "tls.client_ca" || asks);
        if is_needed && file.is_none() {
            let rule = "a listener needs it that speaks TLS, or asks clients for certificates".to_owned();
            rules.broken.push(Problem::Missing { key: key(leaf), rule });
        }
    }
    rules.require(is_encrypted || !asks, &key("tls.client_auth"), for_encrypted);
    rules.require(!is_encrypted || tls.client_ca.is_none() || asks, &key("tls.client_ca"), |_| {
        format!("is of no use while {} = none: set that to optional or required", key("tls.client_auth"))
    });
    if listener.proxy_protocol != ProxyProtocol::Off && listener.trusted_proxies.is_empty() {
        let rule =
            "with proxy_protocol it says who may speak for others; list the load balancer's addresses".to_owned();
        rules.broken.push(Problem::Missing { key: key("trusted_proxies"), rule });
    }
}

fn membership(config: &Config, rules: &mut Rules<'_>) {
    // One more would add to the majority, and not to the losses it survives.
    for (number, key) in
        [(config.cluster.replicas as usize, "cluster.replicas"), (config.cluster.voters, "cluster.voters")]
    {
        rules.require(number % 2 == 1, key, |_| "must be an odd number".to_owned());
    }
    let peers = &config.cluster.peers;
    let mut sorted = peers.clone();
    sorted.sort();
    sorted.dedup();
    rules.require(sorted.len() == peers.len(), "cluster.peers", |_| "an address is in the list twice".to_owned());
    if peers.is_empty() {
        return;
    }
    let me = config.cluster.advertised_rpc();
    rules.require(peers.contains(&me), "cluster.peers", |_| {
        format!("must list this node too, by its cluster.rpc_advertise (or cluster.rpc_bind) = \"{me}\"")
    });
    let name_is_default = rules.settings.get("node.name").is_none_or(|s| s.origin == Origin::Default);
    if name_is_default && peers.len() > 1 {
        rules.broken.push(Problem::Missing {
            key: "node.name".to_owned(),
            rule: "with several cluster.peers each node needs a name of its own".to_owned(),
        });
    }
    if config.cluster.rpc_advertise.is_none() && config.cluster.rpc_bind.ip().is_unspecified() {
        rules.broken.push(Problem::Missing {
            key: "cluster.rpc_advertise".to_owned(),
            rule: format!("other nodes cannot reach the wildcard cluster.rpc_bind = \"{}\"", config.cluster.rpc_bind),
        });
    }
}

/// All three files or none; and none only where nobody else can reach the port, or it is asked for.
fn node_links(config: &Config, rules: &mut Rules<'_>) {
    let (cluster, tls) = (&config.cluster, &config.cluster.tls);
    let files = [("cluster.tls.ca", &tls.ca), ("cluster.tls.cert", &tls.cert), ("cluster.tls.key", &tls.key)];
    if files.iter().any(|(_, file)| file.is_some()) {
        for (key, _) in files.iter().filter(|(_, file)| file.is_none()) {
            let rule = "cluster.tls.ca, cluster.tls.cert and cluster.tls.key belong together".to_owned();
            rules.broken.push(Problem::Missing { key: (*key).to_owned(), rule });
        }
        let rule = |_: &Rules<'_>| "contradicts cluster.tls: nodes speak either with TLS or without".to_owned();
        rules.require(!cluster.plaintext, "cluster.plaintext", rule);
        return;
    }
    let rule = |_: &Rules<'_>| {
        "is reached by more than this machine, and nodes would speak without TLS: set cluster.tls.ca, cluster.tls.cert and \
         cluster.tls.key, or cluster.plaintext = true where the network is trusted"
            .to_owned()
    };
    rules.require(cluster.plaintext || cluster.rpc_bind.ip().is_loopback(), "cluster.rpc_bind", rule);
}

fn addresses(config: &Config, rules: &mut Rules<'_>) {
    let mut binds =
        vec![("cluster.rpc_bind".to_owned(), config.cluster.rpc_bind), ("http.bind".to_owned(), config.http.bind)];
    binds.extend(config.listeners.iter().map(|(name, l)| (format!("listeners.{name}.bind"), l.bind)));
    for (index, (key, bind)) in binds.iter().enumerate() {
        if let Some((other, taken)) = binds[..index].iter().find(|(_, taken)| collide(*taken, *bind)) {
            rules.require(false, key, |_| format!("is already taken by {other} = \"{taken}\""));
        }
    }
}

/// Port 0 is any free port and collides with nothing.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let overlap = |a: IpAddr, b: IpAddr| a == b || a.is_unspecified() || b.is_unspecified();
    a.port() != 0 && a.port() == b.port() && overlap(a.ip(), b.ip())
}
