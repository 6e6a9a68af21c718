//! Suggests the known key that an operator probably meant by an unknown one.

/// The known key that `key` probably means. `known` lists all keys.
pub(super) fn find<'a, K: Iterator<Item = &'a str>>(
    key: &str,
    known: impl Fn() -> K,
) -> Option<&'a str> {
    containing(key, known()).or_else(|| nearest(key, known()))
}

/// The known key of the same section whose name contains the words of `key`, such as
/// `limits.max_body_bytes` for `limits.max_body`. Others with these words must begin with its name.
fn containing<'a>(key: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (section, name) = key.rsplit_once('.')?;
    let words = format!("_{name}_");
    let matches = |candidate: &&str| {
        candidate.rsplit_once('.').is_some_and(|(other_section, other_name)| {
            other_section == section && format!("_{other_name}_").contains(&words)
        })
    };
    let matching: Vec<&str> = known.filter(matches).collect();
    let shortest = *matching.iter().min_by_key(|candidate| candidate.len())?;
    matching.iter().all(|candidate| candidate.starts_with(shortest)).then_some(shortest)
}

/// The known key that differs from `key` by a few letters, or has the same last word in another
/// section.
fn nearest<'a>(key: &str, candidate: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let word = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
    candidate
        .map(|candidate| {
            let whole = distance(key, candidate);
            let last = distance(&word(key), &word(candidate)) + 1;
            (whole.min(last), whole, candidate)
        })
        .min()
        .filter(|(steps, _, candidate)| *steps <= (word(candidate).len() / 3).max(2))
        .map(|(_, _, candidate)| candidate)
}

/// The Levenshtein distance: the letters to insert, delete or replace to turn `a` into `b`.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.chars().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}
