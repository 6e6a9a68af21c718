-- The forms of messages that an app may use: sealed (`/cgi` with `encrypt`), plain (an API key and bare
-- JSON, under `/cgi` and `/v1`), or both.
--
-- The seal has no MAC, so an app that does not need it is safer without it. An app whose messages must
-- never cross the network in the clear can forbid the plain form.
--
-- Before this migration, every app could use `both`. The default stays, so that an `insert`
-- without the column has the same meaning. PostgreSQL adds a column with a constant default at once,
-- for every size of the table.

alter table app
    add column forms text not null default 'both'
        constraint app_forms_known check (forms in ('sealed', 'plain', 'both'));
