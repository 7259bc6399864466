//! The figures side by side, with their ratios to Rollcall's on as many nodes.

use std::fmt;
use std::time::Duration;

use rollcall_tests::bench::Figure;
use rollcall_tests::latency::Latencies;

pub struct Row {
    pub broker: String,
    pub nodes: u16,
    pub latencies: Latencies,
    pub one_at_a_time: Figure,
    pub publishing: Figure,
    pub draining: Figure,
    pub live: Figure,
}

pub struct Table {
    sync: Duration,
    rows: Vec<Row>,
}

/// What a PUBACK says, out of the box; in the order of the first columns' names.
const PROMISES: &str = "\
rollcall   on disk (fdatasync) on a majority of the replicas
nats       in the page cache of a majority of the stream's replicas; synced every 2 minutes
rabbitmq   on disk on a majority of the quorum queue's replicas
mosquitto  in memory; saved every 30 minutes and at a clean stop";

impl Table {
    /// `sync`: how long the disk takes for a small write.
    pub fn new(sync: Duration) -> Self {
        Self { sync, rows: Vec::new() }
    }

    pub fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Rollcall on as many nodes.
    fn yardstick(&self, row: &Row) -> Option<&Row> {
        self.rows.iter().find(|other| other.nodes == row.nodes && other.broker.starts_with("rollcall"))
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "\nPUBACK, one message at a time ({:.1?} is what the disk takes for a sync)", self.sync)?;
        writeln!(out, "{:<20} {:>10} {:>10} {:>12} {:>14}", "", "p50 ms", "p99 ms", "CPU µs each", "of rollcall's")?;
        for row in &self.rows {
            let ms = |share| row.latencies.quantile(share).as_secs_f64() * 1e3;
            let (p50, p99, cpu) = (ms(0.5), ms(0.99), row.one_at_a_time.cpu_each());
            let ratio = self.ratio(row, |row| row.one_at_a_time.cpu_each());
            writeln!(out, "{:<20} {p50:>10.2} {p99:>10.2} {cpu:>12.1} {ratio:>13.2}×", row.broker)?;
        }
        self.rates(out, "published for 20 sessions that are away, 20 × 50 on their way", |row| row.publishing)?;
        self.rates(out, "taken by the 20 sessions when they are back", |row| row.draining)?;
        self.rates(out, "published to the 20 sessions while they are there, and taken", |row| row.live)?;
        writeln!(out, "\nWhat a PUBACK says:\n{PROMISES}")
    }
}

impl Table {
    fn ratio(&self, row: &Row, value: impl Fn(&Row) -> f64) -> f64 {
        self.yardstick(row).map_or(f64::NAN, |yardstick| value(row) / value(yardstick))
    }

    fn rates(&self, out: &mut fmt::Formatter<'_>, what: &str, figure: fn(&Row) -> Figure) -> fmt::Result {
        writeln!(out, "\n{what}")?;
        writeln!(
            out,
            "{:<20} {:>12} {:>14} {:>12} {:>14}",
            "", "per second", "of rollcall's", "CPU µs each", "of rollcall's"
        )?;
        for row in &self.rows {
            let (rate, cpu) = (figure(row).per_second(), figure(row).cpu_each());
            let rates = self.ratio(row, |row| figure(row).per_second());
            let costs = self.ratio(row, |row| figure(row).cpu_each());
            writeln!(out, "{:<20} {rate:>12.0} {rates:>13.2}× {cpu:>12.1} {costs:>13.2}×", row.broker)?;
        }
        Ok(())
    }
}
