-- Lets the search by title read only the titles of one enterprise.
--
-- The old index found the titles of all enterprises that have the searched pairs of characters. A
-- search read the titles of other enterprises and dropped them, so a page could end before the search
-- reached a title of its own enterprise.
--
-- An index of the type gin can have several columns, and a search can use some of them. Without an
-- extension, such an index cannot hold a bigint, but it can hold an array of bigint. Statements of
-- earlier releases name only grams and use the new index as well, so the old index is dropped. A change
-- of a title therefore still writes one index of this type.
--
-- PostgreSQL first adds new entries to a list, and later sorts the list into the index. Every search
-- reads the whole list, with the entries of all enterprises. The default limit of the list is 4 MB: a
-- search then takes 12 ms, or the planner reads the whole table instead. With a limit of 1 MB, a search
-- is fast, and PostgreSQL still sorts many entries at once.
--
-- PostgreSQL reads all titles to build the index, and writes of titles wait meanwhile. The duration
-- grows with the number of sessions.

create index session_title_by_buin_grams on session_title using gin ((array[buin]), grams)
    with (gin_pending_list_limit = 1024);

drop index session_title_by_grams;
