//! Commands that wait for a shard's next batch; bounded by number and by bytes.

use std::collections::VecDeque;

use parking_lot::Mutex;
use prost::Message as _;
use rollcall_proto::schema::shard::Command;
use tokio::sync::{Notify, oneshot, watch};

use super::ShardAnswer;

pub(crate) struct Asked {
    pub command: Command,
    pub reply: oneshot::Sender<ShardAnswer>,
    size: usize,
}

impl Asked {
    pub(crate) fn new(command: Command, reply: oneshot::Sender<ShardAnswer>) -> Self {
        let size = command.encoded_len();
        Asked { command, reply, size }
    }
}

#[derive(Default)]
struct Waiting {
    commands: VecDeque<Asked>,
    bytes: usize,
}

pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    most: usize,
    most_bytes: usize,
    filled: Notify,
    /// Changes when something was taken out.
    taken: watch::Sender<()>,
}

impl Queue {
    pub(crate) fn new(most: usize, most_bytes: usize) -> Self {
        Queue { waiting: Mutex::default(), most, most_bytes, filled: Notify::new(), taken: watch::Sender::new(()) }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.is_open(&self.waiting.lock())
    }

    fn is_open(&self, waiting: &Waiting) -> bool {
        waiting.commands.len() < self.most && waiting.bytes < self.most_bytes
    }

    pub(crate) async fn room(&self) {
        let mut taken = self.taken.subscribe();
        // Never closed: this very queue holds the sender.
        while !self.has_room() && taken.changed().await.is_ok() {}
    }

    /// Enters in any case: the bound is for those who can wait.
    pub(crate) fn push(&self, asked: Asked) {
        let mut waiting = self.waiting.lock();
        waiting.bytes += asked.size;
        waiting.commands.push_back(asked);
        drop(waiting);
        self.filled.notify_one();
    }

    /// Waits until something is there.
    pub(crate) async fn filled(&self) {
        while self.waiting.lock().commands.is_empty() {
            self.filled.notified().await;
        }
    }

    /// In order, at most so many and so many bytes, but at least one if there is any.
    pub(crate) fn take(&self, most: usize, most_bytes: usize) -> Vec<Asked> {
        let mut waiting = self.waiting.lock();
        let mut taken = Vec::new();
        let mut bytes = 0;
        while let Some(next) = waiting.commands.front() {
            bytes += next.size;
            if taken.len() == most || bytes > most_bytes && !taken.is_empty() {
                break;
            }
            waiting.bytes -= next.size;
            taken.extend(waiting.commands.pop_front());
        }
        drop(waiting);
        self.taken.send_replace(());
        taken
    }

    /// Those who wait learn it by their reply's end.
    pub(crate) fn clear(&self) {
        *self.waiting.lock() = Waiting::default();
        self.taken.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use rollcall_proto::schema::shard::{Enqueue, command};

    use super::*;

    fn asked(bytes: usize) -> Asked {
        let enqueue = Enqueue { message: vec![0; bytes].into(), ..Enqueue::default() };
        Asked::new(Command { kind: Some(command::Kind::Enqueue(enqueue)) }, oneshot::channel().0)
    }

    #[test]
    fn a_batch_is_bounded_by_number_and_by_bytes_but_has_at_least_one_command() {
        let queue = Queue::new(10, 1 << 20);
        for bytes in [5_000, 400, 400, 1, 1, 1] {
            queue.push(asked(bytes));
        }
        let sizes = || queue.take(2, 1_000).iter().map(|asked| asked.size / 400).collect::<Vec<_>>();
        assert_eq!([sizes(), sizes(), sizes(), sizes(), sizes()], [vec![12], vec![1, 1], vec![0, 0], vec![0], vec![]]);
    }

    #[test]
    fn a_full_queue_has_no_room_until_something_was_taken_out() {
        for queue in [Queue::new(2, 1 << 20), Queue::new(10, 2_000)] {
            for _ in 0..2 {
                queue.push(asked(1_500));
            }
            assert!(!queue.has_room());
            let mut waiting = Box::pin(queue.room());
            assert!(waiting.as_mut().now_or_never().is_none());
            queue.take(10, 1 << 20);
            assert!(waiting.as_mut().now_or_never().is_some());
        }
    }
}
