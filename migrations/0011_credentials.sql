-- Restrictions of API keys and the address of their last use, a second AES key of an app during a
-- rotation, and archived apps.
--
-- All new columns are null at first, which is the meaning of every existing row: a key without
-- restrictions, and an app with one key. A server of the previous release ignores the columns, so
-- restrictions hold only on servers of this release.

alter table api_key
    -- The key is refused from this time on; null: never.
    add column expires_at     timestamptz,
    -- The key has those of these permissions that its app has; null: all of them.
    add column permissions    text[],
    -- The key is refused from other networks; null: from none.
    add column networks       cidr[],
    -- The client of the last use: an IPv4 address, or a /64 of IPv6. Servers write it in batches,
    -- together with last_used_at.
    add column last_used_from cidr;

alter table app
    -- The AES key before the last rotation, sealed like aes_key, and the time until which it is
    -- accepted. Servers delete both after this time.
    add column previous_aes_key       bytea,
    add column previous_aes_key_until timestamptz,
    -- Set for an app that is out of use for ever, but that the history names. An app that no history
    -- names can be deleted.
    add column archived_at            timestamptz,
    add constraint app_previous_aes_key_whole
        check ((previous_aes_key is null) = (previous_aes_key_until is null)),
    add constraint app_archived_disabled check (archived_at is null or disabled_at is not null);
