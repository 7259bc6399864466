//! The figures side by side, with their ratio to mosquitto's.

use std::fmt;

use rollcall_tests::bench::Figure;

#[derive(Debug, Default)]
pub struct Table(Vec<(String, String, Figure)>);

impl Table {
    pub fn add(&mut self, what: &str, broker: &str, figure: Figure) {
        self.0.push((what.to_owned(), broker.to_owned(), figure));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rows = self.0.clone();
        // Stable, so that brokers stay in order within a row; rows come in the order of their first figure.
        let order = |what: &str| self.0.iter().position(|(name, ..)| name == what);
        rows.sort_by_key(|(what, ..)| order(what));
        writeln!(out, "{:<28} {:<18} {:>12} {:>14} {:>14}", "", "", "per second", "CPU µs each", "of mosquitto's")?;
        for (what, broker, figure) in &rows {
            let yardstick = rows.iter().find(|(name, by, _)| name == what && by == "mosquitto");
            let ratio = yardstick.map_or(f64::NAN, |(.., other)| figure.cpu_each() / other.cpu_each());
            let (rate, cpu) = (figure.per_second(), figure.cpu_each());
            writeln!(out, "{what:<28} {broker:<18} {rate:>12.0} {cpu:>14.2} {ratio:>13.2}×")?;
        }
        Ok(())
    }
}
