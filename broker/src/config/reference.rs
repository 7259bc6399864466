//! The key table as people read it: the effective configuration as TOML, and the reference in Markdown.

use std::fmt::{self, Write};

use super::{
    kind::Kind,
    resolve::{Effective, Setting},
    table::{KEYS, Key, SECTIONS},
};

/// The effective configuration as TOML, each value with its origin; secrets are not shown.
impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = "";
        for (section, _) in SECTIONS {
            let of_section = |setting: &Setting| setting.key.name.rsplit_once('.').is_some_and(|(of, _)| of == section);
            let found = self.settings.iter().filter(|(_, setting)| of_section(setting));
            for (name, setting) in found {
                let Some((table, leaf)) = name.rsplit_once('.') else { continue };
                if table != last {
                    writeln!(f, "{}[{table}]", if last.is_empty() { "" } else { "\n" })?;
                    last = table;
                }
                writeln!(f, "{:<44} # {}", shown(leaf, setting), setting.origin)?;
            }
        }
        Ok(())
    }
}

fn shown(leaf: &str, setting: &Setting) -> String {
    match (&setting.value, setting.key.kind) {
        (Some(_), Kind::Secret) => format!("{leaf} = \"<redacted>\""),
        (Some(value), _) => format!("{leaf} = {value}"),
        (None, kind) => format!("{leaf} = \"{}\"", kind.unset().unwrap_or_default()),
    }
}

/// The reference of all keys, as Markdown.
pub fn reference() -> String {
    let mut out = String::from(INTRODUCTION);
    for (section, about) in SECTIONS {
        let within = |key: &&Key| key.name.rsplit_once('.').is_some_and(|(table, _)| table == section);
        // Writing to a String cannot fail.
        let _ =
            write!(out, "\n## `{section}`\n\n{about}\n\n| key | type | default | change | |\n|---|---|---|---|---|\n");
        for key in KEYS.iter().filter(within) {
            let default = match (key.kind, key.default) {
                (Kind::Addresses, "") => "`[]`".to_owned(),
                (_, "") => "not set".to_owned(),
                (_, default) => format!("`{default}`"),
            };
            let about = format!("{} Allowed: {}.", key.about, key.kind.allowed());
            let (kind, change) = (key.kind.name(), key.change.word());
            let _ = writeln!(out, "| `{}` | {kind} | {default} | {change} | {} |", key.name, about.replace('|', "\\|"));
        }
    }
    out
}

const INTRODUCTION: &str = "# Configuration

Generated from the table of keys in the program (`UPDATE=1 cargo test -p rollcall` writes it anew).

A key can be given in three places; the later one wins over the earlier, and all of them over the default:

1. the TOML file named by `rollcall serve --config FILE`: `[cluster]`, `lease = \"7s\"`;
2. the environment: `ROLLCALL__CLUSTER__LEASE=7s`;
3. the command line: `--set cluster.lease=7s`.

A key that does not exist, a value that is not allowed and values that contradict each other are refused at start, each
with its name, what is allowed and the nearest right one. `rollcall config` prints what is in force and where each value
came from.

*change* says when another value comes into force that a running node finds in its file: with its next *restart*; at a
*reload* (SIGHUP, or `rollcall ctl reload`), where what belongs to a connection is that of those which come; or only *over HTTP*.
A reload reads the whole first: one wrong value, and nothing is changed.

Durations are a whole number and `ms`, `s`, `m`, `h` or `d`; sizes a whole number and `B`, `KiB`, `MiB` or `GiB`.
";
