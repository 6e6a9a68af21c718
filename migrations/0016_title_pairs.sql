-- kind: expand
-- Builds an index for the search by title that needs no stored column, and that finds the newest and the
-- oldest titles of a search first.
--
-- The index computes the pairs of adjacent characters of a title, and its characters. Before, the table stored
-- them, which was the largest part of a row. U+0001 separates them: a title has no control characters. One
-- expression takes the pairs that begin at characters 1, 3, 5, the other one those that begin at 2, 4, 6.
--
-- The first column has the enterprise, and the enterprise with the first 3, 4 and 5 digits of the session id.
-- An id begins with the time of the creation, so an entry stands for a part of the history: of 2.2 years, 50
-- days, 3.1 days. A search can thus ask for titles of one part. An index of the type gin has no order, so a
-- search for the newest titles asks part by part. Shorter parts would often have an entry for each session,
-- of 40 bytes.
create index concurrently session_title_by_pairs on session_title using gin (
    (array[
        buin::text || ':',
        buin::text || ':' || left(session_id::text, 3),
        buin::text || ':' || left(session_id::text, 4),
        buin::text || ':' || left(session_id::text, 5)
    ] collate "C"),
    ((
        string_to_array(
            regexp_replace(folded, '(.)(.)', '\1\2' || chr(1), 'g') || chr(1)
                || regexp_replace(substr(folded, 2), '(.)(.)', '\1\2' || chr(1), 'g'),
            chr(1)
        ) || string_to_array(folded, null)
    ) collate "C")
) with (gin_pending_list_limit = 1024);
