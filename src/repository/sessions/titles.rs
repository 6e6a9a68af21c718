//! Titles in the form for searches: by any part, in any language, without a database extension, and
//! in any locale.

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

/// Texts that every title has that contains a folded text: the pairs of its adjacent characters, or its only
/// character. The index `session_title_by_pairs` finds the titles that have all of them.
pub(in crate::repository) fn pairs(folded: &str) -> Vec<&str> {
    let starts: Vec<usize> = folded.char_indices().map(|(start, _)| start).collect();
    if starts.len() < 2 {
        return vec![folded];
    }
    let ends = starts.iter().skip(2).copied().chain([folded.len()]);
    let mut pairs: Vec<&str> =
        starts.iter().zip(ends).map(|(start, end)| &folded[*start..end]).collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs
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
    fn pairs_are_adjacent_characters() {
        for (folded, expected) in [
            ("a", vec!["a"]),
            ("ab", vec!["ab"]),
            ("会议 a", vec![" a", "会议", "议 "]),
            ("aaa", vec!["aa"]),
        ] {
            assert_eq!(pairs(folded), expected, "{folded}");
        }
    }

    proptest! {
        #[test]
        fn ascii_shortcut_folds_alike(title in "[\\x00-\\x7F]{0,40}") {
            prop_assert_eq!(fold(&title), fold_unchecked(&title));
        }

        #[test]
        fn pairs_are_in_the_text_and_cover_it(text in "\\PC{2,20}") {
            let pairs = pairs(&text);
            prop_assert!(pairs.iter().all(|pair| text.contains(pair) && pair.chars().count() == 2));
            let chars: Vec<char> = text.chars().collect();
            let all = chars.windows(2).map(|pair| pair.iter().collect::<String>());
            prop_assert!(all.into_iter().all(|pair| pairs.contains(&pair.as_str())));
        }
    }
}
