//! Printing: results to standard output, errors to standard error.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is where commands print")]

use serde::Serialize;

/// Prints a result for people.
pub(super) fn text(text: &str) {
    println!("{text}");
}

/// Prints a result for programs.
pub(super) fn json(value: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}

/// Prints a warning about something that the command did nevertheless.
pub(super) fn warning(text: &str) {
    eprintln!("warning: {text}");
}

/// Prints a failure: its message, and each cause on its own line.
pub(super) fn error(error: &anyhow::Error) {
    eprintln!("error: {}", causes(error).join("\n  because: "));
}

/// The texts of an error and its causes. A cause is left out if an earlier text contains it,
/// because some libraries repeat their cause.
pub(super) fn causes(error: &anyhow::Error) -> Vec<String> {
    let mut texts: Vec<String> = Vec::new();
    for cause in error.chain().map(ToString::to_string) {
        if !texts.iter().any(|before| before.contains(&cause)) {
            texts.push(cause);
        }
    }
    texts
}

/// A table: rows under a header, each column as wide as its widest cell.
pub(super) fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let cells = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let rows = rows.iter().map(|row| line(row.each_ref().map(String::as_str)));
    std::iter::once(line(head)).chain(rows).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    #[test]
    fn repeated_causes_are_left_out() {
        let error =
            anyhow::anyhow!("refused").context("cannot connect: refused").context("no start");
        assert_eq!(super::causes(&error), ["no start", "cannot connect: refused"]);
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["1".to_owned(), "项目".to_owned()], ["1000".to_owned(), String::new()]];
        assert_eq!(super::table(["buin", "name"], &rows), "buin  name\n1     项目\n1000");
    }
}
