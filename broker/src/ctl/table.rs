//! Rows of JSON objects in columns as wide as they need.

use std::fmt;

use serde_json::Value;

pub struct Table {
    /// The first row is the header.
    rows: Vec<Vec<String>>,
    columns: Vec<String>,
}

impl Table {
    /// The columns are the fields of the objects to come.
    pub fn new(columns: &[&str]) -> Self {
        let columns: Vec<String> = columns.iter().map(ToString::to_string).collect();
        let header = columns.iter().map(|column| column.to_uppercase()).collect();
        Self { rows: vec![header], columns }
    }

    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    pub fn add(&mut self, item: &Value) {
        let cells = self.columns.iter().map(|column| cell(&item[column])).collect();
        self.row(cells);
    }
}

/// A value as a person reads it; what comes from clients cannot move the cursor.
pub fn cell(value: &Value) -> String {
    let text = match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    };
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        for row in &self.rows {
            let line: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            writeln!(f, "{}", line.join("  ").trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(&["clientid", "online"]);
        table.add(&json!({"clientid": "a long client id", "online": true}));
        table.add(&json!({"clientid": "b"}));
        assert_eq!(table.to_string(), "CLIENTID          ONLINE\na long client id  true\nb                 -\n");
    }

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(cell(&json!("a\u{1b}[2Jb")), "a\\u{1b}[2Jb");
    }
}
