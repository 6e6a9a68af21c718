-- Compares accounts and idempotency keys by their bytes, independent of the locale of the database.
--
-- The order of a locale comes from the operating system and may change with its next version. An
-- index that was built in the old order would then miss rows. A comparison of bytes is also faster.
-- No client sees this order.
--
-- The statements do not rewrite the tables, but they build the indexes again. The duration grows
-- with the number of rows.

alter table session alter column owner type text collate "C";

alter table session_member alter column account type text collate "C";

alter table idempotency alter column key type text collate "C";
