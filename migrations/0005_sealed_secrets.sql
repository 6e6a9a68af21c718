-- Prepares the sealing of the secrets of apps, and makes the record of administrative acts.
--
-- After this migration, app.aes_key and app.callback_token hold sealed bytes. The program seals the
-- existing values directly after this migration, because the master key is never sent to the
-- database. As long as the table sealing is empty, no value is sealed and no server starts.

alter table app
    alter column callback_token type bytea using convert_to(callback_token, 'UTF8');

-- The master key that seals: one row for the whole database. A transaction that seals locks the row
-- in shared mode, and a transaction that replaces the master key locks it exclusively. So no value
-- is sealed with a key that was just replaced.
create table sealing (
    -- Always true: the primary key then allows one row only.
    only_one      boolean     not null default true constraint sealing_only_one check (only_one),
    -- Derived from the master key. The id reveals nothing else about the key.
    master_key_id bytea       not null constraint sealing_key_id_length check (octet_length(master_key_id) = 8),
    since         timestamptz not null,

    constraint sealing_pkey primary key (only_one)
);

-- One row for each administrative act: the act, its actor, its time and its machine. The transaction
-- of the act also writes the row. A row names secrets, but never contains them. Changes of sessions
-- are in session_event.
create table audit (
    -- Also the order of acts with the same time.
    audit_id  bigint      not null generated always as identity,
    at        timestamptz not null,
    -- A name such as "app.create".
    action    text        not null constraint audit_action_some check (action <> ''),
    -- The user of the operating system, and the user who called sudo, if sudo was used.
    actor     text        not null,
    sudo_user text,
    -- The machine, and the process id on it.
    host      text        not null,
    pid       bigint      not null,
    -- The app concerned, if any.
    buin      bigint,
    app_id    text,
    details   jsonb       not null,

    constraint audit_pkey primary key (audit_id)
);

create index audit_by_time on audit (at, audit_id);

-- Rows are never changed. Deletion is allowed, because servers delete rows that are older than
-- audit.retention.
create function refuse_audit_change() returns trigger language plpgsql as $$
begin
    raise exception 'lines of the audit are never changed';
end
$$;

create trigger audit_unchanged
    before update or truncate on audit
    for each statement execute function refuse_audit_change();
