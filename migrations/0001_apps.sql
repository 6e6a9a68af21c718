-- Makes the tables of the callers: the apps of an enterprise, and the API keys of the apps.
--
-- Both tables are small, and every server keeps them in memory, so they are read rarely. They are
-- reference tables if the schema is distributed, so their keys need not contain a session id.

create table app (
    buin           bigint      not null constraint app_buin_positive check (buin > 0),
    -- Unique within the enterprise only: two enterprises may use the same id.
    app_id         text        not null constraint app_id_length check (char_length(app_id) between 1 and 64),
    name           text        not null,
    -- The EncodingAESKey, 32 bytes. A program that has this key can read and write as the app.
    aes_key        bytea       not null,
    -- Names such as "sessions:read". The type is an array, because all names are read and written
    -- together.
    permissions    text[]      not null,
    callback_url   text,
    callback_token text,
    created_at     timestamptz not null,
    -- Set while the app is disabled. An app that the history names is never deleted.
    disabled_at    timestamptz,

    constraint app_pkey primary key (buin, app_id),
    constraint app_callback_whole check ((callback_url is null) = (callback_token is null))
);

create table api_key (
    -- SHA-256 of the key. The key itself is shown once and never stored. A key has 256 random bits
    -- and cannot be guessed, so a salt and a slow hash are not needed.
    hash         bytea       not null constraint api_key_hash_length check (octet_length(hash) = 32),
    buin         bigint      not null,
    app_id       text        not null,
    label        text        not null,
    created_at   timestamptz not null,
    -- Exact to a minute, because servers write this time in batches.
    last_used_at timestamptz,
    revoked_at   timestamptz,

    constraint api_key_pkey primary key (hash),
    constraint api_key_app_fkey foreign key (buin, app_id) references app (buin, app_id)
);

create index api_key_by_app on api_key (buin, app_id);

-- Notifies running servers that they must read both tables again, so that a disabled app or a
-- revoked key is refused at once. Administrative acts are rare. Statements on sessions do not
-- notify, because notifications serialise commits.
create function notify_apps_changed() returns trigger language plpgsql as $$
begin
    perform pg_notify('muster_apps', '');
    return null;
end
$$;

create trigger app_changed
    after insert or delete or truncate or update on app
    for each statement execute function notify_apps_changed();

-- The column last_used_at is left out, because the use of a key is no administrative act.
create trigger api_key_changed
    after insert or delete or truncate or update of hash, buin, app_id, label, revoked_at on api_key
    for each statement execute function notify_apps_changed();
