-- kind: expand
-- Links the lines of the audit to a hash chain: each line has the hash of the line before it and its own.
-- A line that is changed, removed or inserted later breaks the chain. `muster audit verify` checks it.
--
-- A trigger makes the hashes, so lines of the previous release have them too. Lines with a hash are
-- copies from another database, and keep it.

alter table audit
    -- The hash of the line before, in the order of audit_id. Null: the first line.
    add column previous_hash bytea,
    -- SHA-256 of the previous hash and the content of the line; docs/operate/audit.md has the formula.
    add column hash          bytea;

create function chain_audit_line() returns trigger language plpgsql as $$
declare
    last_id   bigint;
    last_hash bytea;
begin
    if new.hash is not null then
        return new;
    end if;
    -- The lock ends with the transaction, so each line sees the line before it. The key is unique in the
    -- database, also if several schemas have tables of Muster: its upper half is "Must" in ASCII.
    perform pg_advisory_xact_lock((x'4d757374'::int::bigint << 32) | tg_relid::bigint);
    execute format(
        'select audit_id, hash from %I.%I order by audit_id desc limit 1', tg_table_schema, tg_table_name
    )
    into last_id, last_hash;
    -- Ids are drawn before the lock is held, so the order of the ids can be another one.
    new.audit_id := greatest(new.audit_id, last_id + 1);
    new.previous_hash := last_hash;
    new.hash := sha256(coalesce(last_hash, '') || convert_to(jsonb_build_array(
        (extract(epoch from new.at) * 1000000)::bigint, new.action, new.actor, new.sudo_user, new.host,
        new.pid, new.buin, new.app_id, new.details
    )::text, 'UTF8'));
    return new;
end
$$;

create trigger audit_chained before insert on audit for each row execute function chain_audit_line();

-- The lines that exist. The trigger against changes is off in this transaction alone.
create function chain_earlier_audit_lines() returns void language plpgsql as $$
declare
    line      record;
    last_hash bytea;
begin
    alter table audit disable trigger audit_unchanged;
    for line in select * from audit order by audit_id loop
        update audit
        set previous_hash = last_hash,
            hash = sha256(coalesce(last_hash, '') || convert_to(jsonb_build_array(
                (extract(epoch from at) * 1000000)::bigint, action, actor, sudo_user, host, pid, buin, app_id,
                details
            )::text, 'UTF8'))
        where audit_id = line.audit_id
        returning hash into last_hash;
    end loop;
    alter table audit enable trigger audit_unchanged;
end
$$;

select chain_earlier_audit_lines();

drop function chain_earlier_audit_lines();

alter table audit
    add constraint audit_hash_length check (hash is not null and octet_length(hash) = 32);
