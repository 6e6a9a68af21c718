-- Lets the search by title read only the titles of one enterprise.
--
-- Before, the index gave the titles of all enterprises that have the searched pairs of characters. A
-- search read and dropped those of the others, and a page could end before the own ones were reached.
--
-- An index of the type gin can hold several columns, and uses any of them. It has no operator class
-- for a bigint without an extension, hence the array of one element. A statement that names only grams,
-- as earlier releases do, uses the new index as well, so it replaces the old one: each change of a
-- title then still writes one index of this type.
--
-- New entries wait in a list until they are sorted into the index, and every search reads that list,
-- with the entries of all enterprises. Four megabytes, the default, take a search 12 ms, and let the
-- planner read the whole table instead. A quarter of that bounds both, and sorts many entries at once
-- still.
--
-- PostgreSQL reads all titles to build the index, and writes of titles wait meanwhile. The duration
-- grows with the number of sessions.

create index session_title_by_buin_grams on session_title using gin ((array[buin]), grams)
    with (gin_pending_list_limit = 1024);

drop index session_title_by_grams;
