//! Room for many sockets, in this process and in those that it starts.

use rustix::process::{Resource, getrlimit, setrlimit};

/// # Errors
/// The machine allows fewer.
pub fn make_room(count: u64) -> Result<(), String> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|most| most < count) {
        return Err(format!("{count} open files are needed, and at most {:?} are allowed (ulimit -Hn)", limit.maximum));
    }
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).map_err(|error| format!("the limit of open files: {error}"))
}
