-- Secrets sealed at rest, and a record of administrative acts.
--
-- From here on app.aes_key and app.callback_token hold sealed bytes: the program seals what is there
-- right after this migration, because the master key never comes near the database. As long as
-- sealing below has no row nothing is sealed, and no server starts.

alter table app
    alter column callback_token type bytea using convert_to(callback_token, 'UTF8');

-- Which master key seals: one row for the whole database. Who seals holds it shared, who replaces the
-- master key holds it alone, so nothing is ever sealed with a key that was just replaced.
create table sealing (
    only_one      boolean     not null default true constraint sealing_only_one check (only_one),
    -- Derived from the key; tells nothing else about it.
    master_key_id bytea       not null constraint sealing_key_id_length check (octet_length(master_key_id) = 8),
    since         timestamptz not null,

    constraint sealing_pkey primary key (only_one)
);

-- Who did what, when and from where: one row for each administrative act, written in the transaction
-- of the act. It names secrets, but holds none. What happens to sessions is in session_event.
create table audit (
    -- Also the order of lines of the same time.
    audit_id  bigint      not null generated always as identity,
    at        timestamptz not null,
    -- As in "app.create".
    action    text        not null constraint audit_action_some check (action <> ''),
    -- The user of the operating system, and who became that user by sudo.
    actor     text        not null,
    sudo_user text,
    -- Where, and as which process.
    host      text        not null,
    pid       bigint      not null,
    -- The app that it is about, if it is about one.
    buin      bigint,
    app_id    text,
    details   jsonb       not null,

    constraint audit_pkey primary key (audit_id)
);

create index audit_by_time on audit (at, audit_id);

-- What is written stays as it is. Rows may go only when they are old: that is up to audit.keep.
create function refuse_audit_change() returns trigger language plpgsql as $$
begin
    raise exception 'lines of the audit are never changed';
end
$$;

create trigger audit_unchanged
    before update or truncate on audit
    for each statement execute function refuse_audit_change();
