//! The pooler between Muster and PostgreSQL, and the settings of a URL that a pooler does not take.

use reqwest::Url;

/// The pooler behind `database.url`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PoolerMode {
    /// No pooler: each connection has a session of PostgreSQL.
    #[default]
    None,
    /// A pooler that lends a session of PostgreSQL for one transaction.
    Transaction,
}

/// The URL without its parameter `options`, and the settings that this parameter makes.
///
/// # Errors
/// The expected form. It holds no value of the URL.
pub(super) fn take_settings(url: &str) -> Result<(String, Vec<(String, String)>), String> {
    let mut url = Url::parse(url).map_err(|_| "expected a URL".to_owned())?;
    let mut settings = Vec::new();
    let mut left = Vec::new();
    for (key, value) in url.query_pairs() {
        let named = key.strip_prefix("options[").and_then(|rest| rest.strip_suffix(']'));
        match named {
            Some(name) => settings.push((name.to_owned(), value.into_owned())),
            None if key == "options" => settings.extend(parse(&value)?),
            None => left.push((key.into_owned(), value.into_owned())),
        }
    }
    url.set_query(None);
    if !left.is_empty() {
        url.query_pairs_mut().extend_pairs(left);
    }
    Ok((url.into(), settings))
}

/// Parses `-c NAME=VALUE` and `--NAME=VALUE`, as PostgreSQL does.
fn parse(options: &str) -> Result<Vec<(String, String)>, String> {
    let mut settings = Vec::new();
    let mut words = split(options).into_iter();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--") {
            Some(setting) => Some(setting.to_owned()),
            None if word == "-c" => words.next(),
            None => word.strip_prefix("-c").map(str::to_owned),
        };
        let setting = setting.as_ref().and_then(|setting| setting.split_once('='));
        let (name, value) = setting.ok_or("expected only `-c NAME=VALUE` as `options`")?;
        settings.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(settings)
}

/// Splits at spaces. A backslash keeps the character after it.
fn split(options: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut characters = options.chars();
    while let Some(character) = characters.next() {
        if character.is_ascii_whitespace() {
            words.extend(word.take());
            continue;
        }
        let kept = if character == '\\' { characters.next() } else { Some(character) };
        word.get_or_insert_default().extend(kept);
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_a_url_are_separated_from_it() {
        for (url, left, expected) in [
            ("postgres://h/m", "postgres://h/m", &[][..]),
            (
                "postgres://u:p%40@h/m?sslmode=require&options=-c%20search_path%3Da%5C%20b",
                "postgres://u:p%40@h/m?sslmode=require",
                &[("search_path", "a b")],
            ),
            (
                "postgres://h/m?options=--work-mem%3D1MB+-cjit%3Don&options[x]=y",
                "postgres://h/m",
                &[("work_mem", "1MB"), ("jit", "on"), ("x", "y")],
            ),
        ] {
            let (without, settings) = take_settings(url).unwrap();
            let settings: Vec<(&str, &str)> =
                settings.iter().map(|(name, value)| (&**name, &**value)).collect();
            assert_eq!((&*without, &*settings), (left, expected), "{url}");
        }
        for options in ["-B%2010", "-c", "-c%20x", "x%3Dy"] {
            let error = take_settings(&format!("postgres://h/m?options={options}")).unwrap_err();
            assert!(error.contains("-c NAME=VALUE"), "{options}: {error}");
        }
    }
}
