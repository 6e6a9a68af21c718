-- kind: expand
-- Builds the indexes of members that need less space.
--
-- Members are the largest table. Its primary key had the session and the account of each row, and the
-- index of 0002 had both a second time. The key of 0017 is the index that finds the sessions of an account,
-- so only one index has an entry for each member.

-- Becomes the primary key. An enterprise has each session once, so an account is once in a session.
create unique index concurrently session_member_by_enterprise on session_member (buin, account, session_id);

-- Finds the members of a session. PostgreSQL stores a session id that several rows have only once.
create index concurrently session_member_by_session on session_member (session_id);
