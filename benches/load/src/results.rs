//! The file of all results: each kind of measurement has a chapter of its own.

use std::path::Path;

use anyhow::Context as _;

/// Writes a chapter, which begins with its heading (`# …`). Chapters of other measurements are kept.
///
/// # Errors
/// If the file cannot be read or written.
pub fn write_chapter(file: &Path, chapter: &str) -> anyhow::Result<()> {
    let before = match std::fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read.with_context(|| format!("cannot read {}", file.display()))?,
    };
    std::fs::write(file, with_chapter(&before, chapter))
        .with_context(|| format!("cannot write {}", file.display()))
}

fn with_chapter(before: &str, chapter: &str) -> String {
    let mut chapters: Vec<String> = Vec::new();
    for line in before.lines() {
        match chapters.last_mut() {
            Some(last) if !line.starts_with("# ") => last.push_str(line),
            _ => chapters.push(line.to_owned()),
        }
        if let Some(last) = chapters.last_mut() {
            last.push('\n');
        }
    }
    let heading = |text: &str| text.lines().next().map(str::to_owned);
    let chapter = format!("{}\n", chapter.trim_end());
    match chapters.iter_mut().find(|other| heading(other) == heading(&chapter)) {
        Some(other) => *other = chapter,
        None => chapters.push(chapter),
    }
    let chapters: Vec<&str> = chapters.iter().map(|chapter| chapter.trim_end()).collect();
    chapters.join("\n\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chapter_is_replaced_or_added() {
        let one = with_chapter("", "# One\n\ntext\n");
        assert_eq!(one, "# One\n\ntext\n");
        let two = with_chapter(&one, "# Two\n\n| a |\n");
        assert_eq!(two, "# One\n\ntext\n\n# Two\n\n| a |\n");
        let replaced = with_chapter(&two, "# One\n\nother\n\n## Part\n");
        assert_eq!(replaced, "# One\n\nother\n\n## Part\n\n# Two\n\n| a |\n");
    }
}
