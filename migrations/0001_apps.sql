-- Who may call: the apps of an enterprise, and the API keys that act for them.
--
-- Both tables are small and read rarely: every server keeps them in memory. They are reference
-- tables where the schema is distributed, so their keys need not carry a session.

create table app (
    buin           bigint      not null constraint app_buin_positive check (buin > 0),
    -- Unique within the enterprise only: two enterprises may use the same id.
    app_id         text        not null constraint app_id_length check (char_length(app_id) between 1 and 64),
    name           text        not null,
    -- The EncodingAESKey, 32 bytes. Whoever has it can read and write as the app.
    aes_key        bytea       not null,
    -- Names as in "sessions:read". An array, because they are read and written whole.
    permissions    text[]      not null,
    callback_url   text,
    callback_token text,
    created_at     timestamptz not null,
    -- Set while the app is disabled. Apps are never deleted: the history names them.
    disabled_at    timestamptz,

    constraint app_pkey primary key (buin, app_id),
    constraint app_callback_whole check ((callback_url is null) = (callback_token is null))
);

create table api_key (
    -- SHA-256 of the key, which itself is shown once and kept nowhere. A key has 256 random bits:
    -- there is nothing to guess, so no salt and no slow hash.
    hash         bytea       not null constraint api_key_hash_length check (octet_length(hash) = 32),
    buin         bigint      not null,
    app_id       text        not null,
    label        text        not null,
    created_at   timestamptz not null,
    -- To within a minute: servers note it in batches.
    last_used_at timestamptz,
    revoked_at   timestamptz,

    constraint api_key_pkey primary key (hash),
    constraint api_key_app_fkey foreign key (buin, app_id) references app (buin, app_id)
);

create index api_key_by_app on api_key (buin, app_id);

-- Tells running servers that they must read both tables again, so that disabling an app or revoking
-- a key takes hold at once. Administrative acts are rare; nothing on the way of a session notifies,
-- because that would serialise commits.
create function notify_apps_changed() returns trigger language plpgsql as $$
begin
    perform pg_notify('muster_apps', '');
    return null;
end
$$;

create trigger app_changed
    after insert or delete or truncate or update on app
    for each statement execute function notify_apps_changed();

-- Not on last_used_at, which is no administrative act.
create trigger api_key_changed
    after insert or delete or truncate or update of hash, buin, app_id, label, revoked_at on api_key
    for each statement execute function notify_apps_changed();
