//! The text of a migration, divided into statements and words.
//!
//! PostgreSQL gets one statement at a time: a statement that fails is then the only one that is undone,
//! and a distributed engine accepts no more. Quotes, dollar quotes and comments may contain semicolons.
//!
//! The surprise: the body of a function must be quoted, because `begin atomic` is not understood.

/// The kind of a piece of SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SqlToken {
    /// Blanks.
    Blank,
    /// A comment, without the end of its line.
    Comment,
    /// A name, a key word or a number.
    Word,
    /// A quoted text or name.
    Quoted,
    /// The end of a statement.
    Semicolon,
    /// Any other character.
    Sign,
}

/// The pieces of `sql` in their order. Together they are the whole text.
pub(super) fn tokens(sql: &str) -> impl Iterator<Item = (SqlToken, &str)> {
    let mut rest = sql;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let (token, length) = measure(rest, first);
        let (piece, after) = rest.split_at(length);
        rest = after;
        Some((token, piece))
    })
}

/// The statements of `sql`, each with the comments before it and without its semicolon.
pub(super) fn split(sql: &str) -> Vec<&str> {
    let mut statements = Vec::new();
    let (mut start, mut at, mut has_code) = (0, 0, false);
    for (token, piece) in tokens(sql) {
        match token {
            SqlToken::Semicolon => {
                if has_code {
                    statements.push(sql[start..at].trim());
                }
                (start, has_code) = (at + piece.len(), false);
            }
            SqlToken::Blank | SqlToken::Comment => {}
            SqlToken::Word | SqlToken::Quoted | SqlToken::Sign => has_code = true,
        }
        at += piece.len();
    }
    if has_code {
        statements.push(sql[start..].trim());
    }
    statements
}

/// The kind and the length of the first piece, which begins with `first`.
fn measure(text: &str, first: char) -> (SqlToken, usize) {
    let length_while = |belongs: fn(char) -> bool| {
        text.find(|character| !belongs(character)).unwrap_or(text.len())
    };
    match first {
        ';' => (SqlToken::Semicolon, 1),
        '-' if text.starts_with("--") => (SqlToken::Comment, text.find('\n').unwrap_or(text.len())),
        '/' if text.starts_with("/*") => (SqlToken::Comment, block_comment(text)),
        '\'' => (SqlToken::Quoted, quoted(text, '\'', false)),
        '"' => (SqlToken::Quoted, quoted(text, '"', false)),
        '$' => match dollar_quoted(text) {
            Some(length) => (SqlToken::Quoted, length),
            None => (SqlToken::Sign, 1),
        },
        'e' | 'E' if text[1..].starts_with('\'') => {
            (SqlToken::Quoted, 1 + quoted(&text[1..], '\'', true))
        }
        first if first.is_whitespace() => (SqlToken::Blank, length_while(char::is_whitespace)),
        first if is_of_word(first) => (SqlToken::Word, length_while(is_of_word)),
        first => (SqlToken::Sign, first.len_utf8()),
    }
}

/// Whether a name can contain this character. A dollar sign inside of a name begins no quote.
fn is_of_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '$') || !character.is_ascii()
}

/// The length of a comment, which may contain others.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    loop {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
        } else {
            at += rest.chars().next().map_or(0, char::len_utf8);
        }
        if depth == 0 || at == text.len() {
            return at;
        }
    }
}

/// The length of a text in quotes. Two quotes in it stand for one; they end it and begin another, which
/// makes no difference here.
fn quoted(text: &str, quote: char, has_escapes: bool) -> usize {
    let mut is_escaped = false;
    for (at, character) in text.char_indices().skip(1) {
        if is_escaped {
            is_escaped = false;
        } else if has_escapes && character == '\\' {
            is_escaped = true;
        } else if character == quote {
            return at + quote.len_utf8();
        }
    }
    text.len()
}

/// The length of a text between two tags such as `$$` or `$body$`; `None` if no tag is at the start.
fn dollar_quoted(text: &str) -> Option<usize> {
    let name = text[1..].find('$').map(|end| &text[1..=end])?;
    let is_tag = name.chars().all(|character| is_of_word(character) && character != '$')
        && !name.starts_with(|first: char| first.is_ascii_digit());
    if !is_tag {
        return None;
    }
    let tag = &text[..name.len() + 2];
    let body = &text[tag.len()..];
    Some(body.find(tag).map_or(text.len(), |end| 2 * tag.len() + end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_semicolons_outside_of_quotes_and_comments() {
        for (sql, statements) in [
            ("", vec![]),
            (" ;; -- nothing; here\n;", vec![]),
            ("select 1", vec!["select 1"]),
            ("select 1; select 2;\n", vec!["select 1", "select 2"]),
            ("select ';'; b", vec!["select ';'", "b"]),
            ("select 'it''s;'; b", vec!["select 'it''s;'", "b"]),
            (r"select 'C:\'; b", vec![r"select 'C:\'", "b"]),
            (r"select e'\';', E'\\'; b", vec![r"select e'\';', E'\\'", "b"]),
            (r#"select "a;""b;"; c"#, vec![r#"select "a;""b;""#, "c"]),
            ("do $$ begin; end; $$; b", vec!["do $$ begin; end; $$", "b"]),
            ("do $a$ $$; $b$; $a$; b", vec!["do $a$ $$; $b$; $a$", "b"]),
            ("select a$b$; c$b$", vec!["select a$b$", "c$b$"]),
            ("select $1; $2", vec!["select $1", "$2"]),
            ("select $1::text || $2; b", vec!["select $1::text || $2", "b"]),
            ("a -- it's; \n; b", vec!["a -- it's;", "b"]),
            ("a /* ; /* ; */ ' ; */; b", vec!["a /* ; /* ; */ ' ; */", "b"]),
            ("a / b - c; d", vec!["a / b - c", "d"]),
            ("-- first\n\na;\n-- second;\nb;\n-- last", vec!["-- first\n\na", "-- second;\nb"]),
            ("select 'é;ü'; größe", vec!["select 'é;ü'", "größe"]),
            ("select 'open; b", vec!["select 'open; b"]),
            ("do $x$ open; b", vec!["do $x$ open; b"]),
            ("/* open; b", vec![]),
        ] {
            assert_eq!(split(sql), statements, "{sql}");
            let whole: String = tokens(sql).map(|(_, piece)| piece).collect();
            assert_eq!(whole, sql);
        }
    }
}
