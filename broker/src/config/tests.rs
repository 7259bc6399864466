use std::{fs, path::Path, time::Duration};

use super::*;

fn from_set(set: &[&str]) -> Result<Effective, Problems> {
    Effective::load(&Sources { set: set.iter().map(ToString::to_string).collect(), ..Sources::default() })
}

fn refusal(set: &[&str]) -> String {
    from_set(set).unwrap_err().to_string()
}

fn file(dir: &tempfile::TempDir, text: &str) -> Sources {
    let path = dir.path().join("rollcall.toml");
    fs::write(&path, text).unwrap();
    Sources { file: Some(path), ..Sources::default() }
}

#[test]
fn nothing_given_is_a_single_node_on_loopback() {
    let effective = from_set(&[]).unwrap();
    assert!(effective.is_default());
    let config = effective.config;
    assert_eq!(config.node.data_dir, Path::new("./rollcall-data"));
    assert_eq!(config.listeners["tcp"].bind.to_string(), "127.0.0.1:1883");
    assert_eq!(config.http.bind.to_string(), "127.0.0.1:8080");
    assert_eq!(config.cluster.advertised_rpc(), "127.0.0.1:7400");
    assert!(config.cluster.peers.is_empty());
    assert!(config.access.anonymous);
    assert_eq!(config.limits.max_connections, None);
    assert_eq!(config.listeners["tcp"].keep_alive_grace.deadline(Duration::from_secs(60)), Duration::from_secs(90));
}

#[test]
fn every_key_reaches_a_typed_field() {
    let sample = |key: &table::Key| match key.kind {
        kind::Kind::Secret => "s3cret",
        kind::Kind::OptionalAddress => "broker.example:1883",
        kind::Kind::OptionalPath => "file.pem",
        kind::Kind::Limit { .. } => "100",
        _ => key.default,
    };
    let mut set: Vec<String> =
        table::KEYS.iter().map(|key| format!("{}={}", key.name.replace("NAME", "tcp"), sample(key))).collect();
    set.extend(["listeners.tcp.type=tls".into(), "listeners.tcp.tls.client_auth=optional".into()]);
    let effective = Effective::load(&Sources { set, ..Sources::default() }).unwrap();
    assert!(effective.settings.values().all(|setting| setting.origin == Origin::Set));
    assert_eq!(effective.config.limits.max_connections_per_node, Some(100));
}

#[test]
fn every_key_belongs_to_a_section_of_the_reference() {
    for key in table::KEYS {
        let section = key.name.rsplit_once('.').unwrap().0;
        assert!(table::SECTIONS.iter().any(|(name, _)| *name == section), "{}", key.name);
    }
}

#[test]
fn set_wins_over_env_wins_over_file_wins_over_default() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = file(&dir, "[drain]\nrate = 1\n[inbox]\nmax_messages = 1\n[session]\nreceive_maximum = 1\n");
    sources.env.insert("ROLLCALL__INBOX__MAX_MESSAGES".into(), "2".into());
    sources.env.insert("ROLLCALL__SESSION__RECEIVE_MAXIMUM".into(), "2".into());
    sources.set = vec!["session.receive_maximum=2".into(), "session.receive_maximum=3".into()];
    let effective = Effective::load(&sources).unwrap();
    assert_eq!(effective.config.drain.rate, 1);
    assert_eq!(effective.config.inbox.max_messages, 2);
    assert_eq!(effective.config.session.receive_maximum, 3);
    assert_eq!(effective.config.events.retention, 1_000_000);
    let origin = |key: &str| effective.settings[key].origin.to_string();
    assert!(origin("drain.rate").ends_with("rollcall.toml:2"), "{}", origin("drain.rate"));
    assert_eq!(origin("inbox.max_messages"), "env ROLLCALL__INBOX__MAX_MESSAGES");
    assert_eq!(origin("session.receive_maximum"), "--set");
    assert_eq!(origin("events.retention"), "default");
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_right_one() {
    let text = refusal(&["cluster.lesae=7s"]);
    assert_eq!(text, "unknown key cluster.lesae (--set); did you mean cluster.lease?");
    let text = refusal(&["lease=7s"]);
    assert!(text.ends_with("did you mean cluster.lease?"), "{text}");
    let text = refusal(&["drain.zzz=7s"]);
    assert_eq!(text, "unknown key drain.zzz (--set) Allowed here: drain.rate, drain.timeout");
}

#[test]
fn an_unknown_key_in_a_file_or_the_environment_says_where() {
    let dir = tempfile::tempdir().unwrap();
    let mut sources = file(&dir, "[listeners.mqtt]\n\nbnid = \"127.0.0.1:1\"\n");
    sources.env.insert("ROLLCALL__HTTP__TOCKEN".into(), "x".into());
    let text = Effective::load(&sources).unwrap_err().to_string();
    assert!(text.contains("rollcall.toml:3); did you mean listeners.mqtt.bind?"), "{text}");
    assert!(text.contains("http.tocken (env ROLLCALL__HTTP__TOCKEN); did you mean http.token?"), "{text}");
}

#[test]
fn a_wrong_value_is_refused_with_what_is_allowed() {
    let text = refusal(&["cluster.lease=7"]);
    assert!(text.starts_with("cluster.lease = \"7\" (--set): allowed is a duration from 300ms to 2m"), "{text}");
    let text = refusal(&["events.node=adress"]);
    assert_eq!(text, "events.node = \"adress\" (--set): allowed is address or name; did you mean address?");
    let text = refusal(&["listeners.tcp.type=udp"]);
    assert_eq!(text, "listeners.tcp.type = \"udp\" (--set): allowed is tcp or tls or ws or wss");
    let text = refusal(&["cluster=3"]);
    assert!(text.starts_with("cluster (--set) is a section, not a key: give one of cluster.batch_commands"), "{text}");
    let text = refusal(&["listeners.Tcp.bind=127.0.0.1:1"]);
    assert!(text.starts_with("listener name `Tcp`"), "{text}");
    assert!(refusal(&["nonsense"]).contains("--set section.key=value"));
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let text = refusal(&["cluster.lesae=7s", "drain.rate=-1", "http.bind=nowhere"]);
    assert_eq!(text.lines().count(), 3, "{text}");
}

#[test]
fn values_of_the_wrong_toml_type_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let sources =
        file(&dir, "[drain]\nrate = 1.5\n[cluster]\nname = 7\npeers = [1]\n[access]\nanonymous = \"maybe\"\n");
    let text = Effective::load(&sources).unwrap_err().to_string();
    for wrong in ["drain.rate = 1.5", "cluster.name = 7", "cluster.peers = [1]", "access.anonymous = \"maybe\""] {
        assert!(text.contains(wrong), "{text}");
    }
}

#[test]
fn leases_out_of_order_are_refused() {
    let text = refusal(&["cluster.lease=10s"]);
    assert_eq!(text, "cluster.lease = \"10s\" (--set): must be below cluster.node_timeout = \"10s\"");
    let text = refusal(&["cluster.route_lease=8s"]);
    assert!(text.contains("must be below cluster.lease = \"7s\""), "{text}");
    let text = refusal(&["cluster.election=1s"]);
    assert!(text.starts_with("cluster.route_lease = \"2s\" (default): must be at least 3 times"), "{text}");
    let text = refusal(&["cluster.heartbeat=300ms"]);
    assert!(text.contains("must be below cluster.election"), "{text}");
}

#[test]
fn what_cannot_work_together_is_refused() {
    let text = refusal(&["http.bind=0.0.0.0:1883"]);
    assert!(
        text.contains("listeners.tcp.bind = \"127.0.0.1:1883\" (default): is already taken by http.bind"),
        "{text}"
    );
    let text = refusal(&["listeners.tcp.max_packet=2MiB"]);
    assert!(text.contains("must not be above inbox.max_bytes"), "{text}");
    let text = refusal(&["listeners.tcp.keep_alive_min=60s", "listeners.tcp.keep_alive_max=30s"]);
    assert!(text.contains("must not be above listeners.tcp.keep_alive_max"), "{text}");
    let text = refusal(&["cluster.peers=0.0.0.0:7400,b:7400", "cluster.rpc_bind=0.0.0.0:7400"]);
    assert!(text.contains("node.name is not set") && text.contains("cluster.rpc_advertise is not set"), "{text}");
    let text = refusal(&["cluster.peers=a:7400,a:7400", "node.name=a"]);
    assert!(text.contains("twice"), "{text}");
    assert!(text.contains("must list this node too"), "{text}");
}

#[test]
fn what_a_listener_cannot_do_without_its_other_keys_is_refused() {
    let text = refusal(&["listeners.a.type=tls", "listeners.a.tls.cert=c.pem"]);
    assert!(text.contains("listeners.a.tls.key is not set"), "{text}");
    let text = refusal(&["listeners.a.type=ws", "listeners.a.tls.cert=c.pem"]);
    assert!(text.contains("is for listeners of type tls and wss"), "{text}");
    let tls = ["listeners.a.type=wss", "listeners.a.tls.cert=c.pem", "listeners.a.tls.key=k.pem"];
    assert!(from_set(&tls).is_ok());
    let text = refusal(&[&tls[..], &["listeners.a.tls.client_auth=required"]].concat());
    assert!(text.contains("listeners.a.tls.client_ca is not set"), "{text}");
    let text = refusal(&[&tls[..], &["listeners.a.tls.client_ca=ca.pem"]].concat());
    assert!(text.contains("client_ca") && text.contains("client_auth = none"), "{text}");
    let text = refusal(&["listeners.a.tls.client_auth=required"]);
    assert!(text.contains("is for listeners of type tls and wss") && !text.contains("client_ca"), "{text}");
    let text = refusal(&["listeners.a.proxy_protocol=v2"]);
    assert!(text.contains("listeners.a.trusted_proxies is not set"), "{text}");
    assert!(from_set(&["listeners.a.proxy_protocol=v2", "listeners.a.trusted_proxies=10.0.0.0/8"]).is_ok());
}

#[test]
fn nodes_speak_tls_or_stay_on_loopback_or_are_told_to_speak_plainly() {
    let wide = ["cluster.rpc_bind=0.0.0.0:7400", "cluster.rpc_advertise=node-0.example:7400"];
    let text = refusal(&wide);
    assert!(text.contains("cluster.rpc_bind") && text.contains("cluster.plaintext = true"), "{text}");
    assert!(from_set(&[&wide[..], &["cluster.plaintext=true"]].concat()).is_ok());
    let tls = ["cluster.tls.ca=ca.pem", "cluster.tls.cert=c.pem", "cluster.tls.key=k.pem"];
    assert!(from_set(&[&wide[..], &tls].concat()).is_ok());
    let text = refusal(&[&wide[..], &tls, &["cluster.plaintext=true"]].concat());
    assert!(text.contains("cluster.plaintext") && text.contains("contradicts cluster.tls"), "{text}");
    let text = refusal(&[&wide[..], &tls[..2]].concat());
    assert!(text.contains("cluster.tls.key is not set") && text.contains("belong together"), "{text}");
}

#[test]
fn a_named_listener_takes_the_place_of_the_default_one() {
    let effective = from_set(&["listeners.plant-7.bind=127.0.0.1:1884"]).unwrap();
    assert_eq!(effective.config.listeners.keys().collect::<Vec<_>>(), ["plant-7"]);
    assert_eq!(effective.config.listeners["plant-7"].max_qos, 2);
}

#[test]
fn the_printed_configuration_names_origins_and_hides_secrets() {
    let effective = from_set(&["http.token=s3cret", "limits.max_connections=100"]).unwrap();
    let text = effective.to_string();
    assert!(!text.contains("s3cret"), "{text}");
    assert!(!format!("{:?}", effective.config).contains("s3cret"));
    assert!(text.contains("token = \"<redacted>\""), "{text}");
    let line = text.lines().find(|line| line.starts_with("max_connections = 100 ")).unwrap();
    assert!(line.ends_with("# --set"), "{line}");
}

#[test]
fn the_printed_configuration_reads_back_as_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let first = from_set(&["cluster.peers=a:7400,127.0.0.1:7400", "node.name=a", "listeners.tcp.keep_alive_grace=+5s"])
        .unwrap();
    let second = Effective::load(&file(&dir, &first.to_string())).unwrap();
    assert_eq!(format!("{:?}", first.config), format!("{:?}", second.config));
}

#[test]
fn a_refused_secret_is_not_shown() {
    let text = refusal(&["http.token=my secret"]);
    assert!(text.contains("http.token") && !text.contains("my secret"), "{text}");
}

#[test]
fn the_reference_in_docs_is_the_one_the_program_has() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    if std::env::var_os("UPDATE").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, reference()).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == reference(), "docs/configuration.md is stale: run UPDATE=1 cargo nextest run -p rollcall");
}
