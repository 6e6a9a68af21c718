//! Titles in the form for searches: by any part, in any language, without a database extension, and
//! in any locale.

use std::fmt::Write as _;

use caseless::Caseless as _;
use unicode_normalization::UnicodeNormalization as _;

/// A title or a part of one in the form for comparison. Compatibility characters (full width,
/// ligatures, composed or not) and case, as Unicode folds it, make no difference.
pub(in crate::repository) fn fold(title: &str) -> String {
    if title.is_ascii() {
        return title.to_ascii_lowercase();
    }
    fold_unchecked(title)
}

fn fold_unchecked(title: &str) -> String {
    // Folding can yield characters that must be composed again.
    title.nfkc().default_case_fold().nfkc().collect()
}

/// The characters of a folded title and its pairs of adjacent characters, each as one number,
/// sorted, without duplicates. The comment of the column `session_title.grams` defines the format.
pub(in crate::repository) fn grams(folded: &str) -> Vec<i64> {
    let mut grams = Vec::with_capacity(2 * folded.len());
    let mut codes = folded.chars().map(|c| i64::from(u32::from(c))).peekable();
    while let Some(code) = codes.next() {
        grams.push(code << 21);
        if let Some(next) = codes.peek() {
            grams.push((code << 21) + next);
        }
    }
    grams.sort_unstable();
    grams.dedup();
    grams
}

/// The grams of every title that contains a folded text: its pairs, or its only character.
pub(in crate::repository) fn query_grams(folded: &str) -> Vec<i64> {
    let mut grams = grams(folded);
    if folded.chars().nth(1).is_some() {
        grams.retain(|gram| gram & ((1 << 21) - 1) != 0);
    }
    grams
}

/// A `bigint[]` as a PostgreSQL literal.
pub(super) fn array_literal(numbers: &[i64]) -> String {
    let mut text = String::with_capacity(12 * numbers.len() + 2);
    text.push('{');
    for (index, number) in numbers.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        // A write into memory cannot fail.
        let _ = write!(text, "{comma}{number}");
    }
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn equivalent_titles_fold_alike() {
        for (title, typed) in [
            ("ÉTÉ 2026", "été"),
            ("e\u{301}te\u{301}", "ÉTÉ"),
            ("ＡＢＣ１２３", "abc1"),
            ("项目 Alpha", "目 a"),
            ("ﬁle", "FI"),
            ("ΣΊΣΥΦΟΣ", "σίσυφος"),
            ("Straße", "STRASSE"),
        ] {
            assert!(fold(title).contains(&fold(typed)), "{title} {typed}");
        }
    }

    #[test]
    fn array_literals_match_postgresql() {
        assert_eq!(array_literal(&[]), "{}");
        assert_eq!(
            array_literal(&grams("aa")),
            format!("{{{},{}}}", 97_i64 << 21, (97_i64 << 21) + 97)
        );
    }

    proptest! {
        #[test]
        fn ascii_shortcut_folds_alike(title in "[\\x00-\\x7F]{0,40}") {
            prop_assert_eq!(fold(&title), fold_unchecked(&title));
        }

        #[test]
        fn grams_of_a_part_are_grams_of_the_whole(
            before in "\\PC{0,8}", part in "\\PC{1,8}", after in "\\PC{0,8}",
        ) {
            let part = fold(&part);
            let whole = grams(&format!("{}{part}{}", fold(&before), fold(&after)));
            prop_assert!(query_grams(&part).iter().all(|gram| whole.contains(gram)));
        }
    }
}
