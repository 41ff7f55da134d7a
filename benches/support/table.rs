//! Tables on stdout.

use comfy_table::{CellAlignment, Table, presets};

/// Prints a headline, rows under a header, and what was to be reached.
pub fn print(title: &str, header: &[&str], rows: &[Vec<String>], goals: &[String]) {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(header);
    table.add_rows(rows);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("\n{title}\n\n{table}\n");
    for goal in goals {
        println!("{goal}");
    }
}

/// `goal: what: found (reached|not reached)`.
pub fn goal(what: &str, found: &str, reached: bool) -> String {
    let verdict = if reached { "reached" } else { "NOT reached" };
    format!("goal: {what}: {found}, {verdict}")
}
