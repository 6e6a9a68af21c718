-- What callers name, accounts and keys for retries, is compared by its bytes, whatever locale the
-- database has.
--
-- Nobody is shown this order, and bytes are compared faster than words of a language. What matters
-- more: the order of a locale comes with the operating system, and may change with its next version.
-- An index that was built by the order before does not find then what is in it.
--
-- The tables stay as they are; their indexes are built anew, which takes as long as that takes.

alter table session alter column owner type text collate "C";

alter table session_member alter column account type text collate "C";

alter table idempotency alter column key type text collate "C";
