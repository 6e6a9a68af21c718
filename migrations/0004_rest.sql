-- What the REST API adds: attributes, a history that can be read back, keys for safe retries, and
-- the ways to find sessions without knowing their ids.

-- What apps keep with a session: a JSON object. `json` and not `jsonb`: nobody looks inside, and
-- what apps write (numbers, U+0000) is to be read as it was written.
alter table session add column attributes json not null default '{}';

-- Lists: newest first, of one state, of one owner. Nothing here changes with the members, so that
-- the usual update needs no new index entry.
create index session_by_state on session (buin, state, session_id);
create index session_by_owner on session (buin, owner, session_id);

alter table session_event
    -- Repeated from the session, for the index below.
    add column buin       bigint,
    -- Why, in the operator's words.
    add column reason     text constraint session_event_reason_some check (reason <> ''),
    -- The merge patch of what really changed in the attributes; apart from the other changes,
    -- because these are jsonb.
    add column attributes json,
    -- The transaction that wrote it. Events are followed by this and not by time or a sequence,
    -- which say nothing of who commits first: all below the oldest running transaction are there.
    add column xid        xid8 not null default pg_current_xact_id();

update session_event
set buin = session.buin
from session
where session.session_id = session_event.session_id;

alter table session_event
    alter column buin set not null,
    drop constraint session_event_kind_known,
    add constraint session_event_kind_known
        check (kind in ('created', 'updated', 'reverted', 'dissolved', 'restored'));

-- What changed lately, in an enterprise: lists by the time of change, now and as of a time.
create index session_event_by_time on session_event (buin, created_at, session_id, version);
-- What was written since: for caches.
create index session_event_by_xid on session_event (xid);

-- For finding titles by any part of them, in any language. A table of its own: most updates leave
-- the title alone, and then touch no row and no index here.
create table session_title (
    session_id uuid     not null,
    buin       bigint   not null,
    -- The title in compatibility form (NFKC) and lower case: what is searched.
    folded     text     not null,
    -- Its characters, and its pairs of neighbours: a character's code point times 2^21, plus that
    -- of the next one. Whatever contains a text has all of the text's pairs.
    grams      bigint[] not null,

    constraint session_title_pkey primary key (session_id)
);

insert into session_title (session_id, buin, folded, grams)
select session.session_id, session.buin, folded.title, grams.grams
from session
cross join lateral (select lower(normalize(session.title, nfkc)) as title) as folded
cross join lateral (
    select array_agg(distinct gram) as grams
    from generate_series(1, length(folded.title)) as place
    cross join lateral (
        select ascii(substr(folded.title, place, 1))::bigint << 21 as one,
               ascii(substr(folded.title, place + 1, 1)) as next
    ) as code
    cross join lateral (values (one), (one + next)) as gram (gram)
) as grams;

create index session_title_by_grams on session_title using gin (grams);

-- Requests that were done under a key of the caller's, so that the same one, sent again, is
-- answered and not done again. The answer is the session as it was at that version, which the
-- history keeps.
create table idempotency (
    buin       bigint      not null,
    app_id     text        not null,
    key        text        not null,
    -- SHA-256 of what was asked.
    digest     bytea       not null constraint idempotency_digest_sha256 check (length(digest) = 32),
    session_id uuid        not null,
    version    bigint      not null,
    expires_at timestamptz not null,

    constraint idempotency_pkey primary key (buin, app_id, key)
);

create index idempotency_by_end on idempotency (expires_at);
