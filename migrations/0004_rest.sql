-- Adds the storage of the REST API: attributes, complete events, idempotency keys, and indexes for
-- lists and for the search by title.

-- A JSON object that apps store with a session. The type is json and not jsonb, because Muster does
-- not interpret the object and must return its values as the app wrote them: jsonb rewrites numbers
-- and refuses U+0000.
alter table session add column attributes json not null default '{}';

-- For lists by creation: of a state, of an owner. No column of these indexes changes with the
-- members, so the usual update needs no new index entry.
create index session_by_state on session (buin, state, session_id);
create index session_by_owner on session (buin, owner, session_id);

alter table session_event
    -- Copied from the session, for the index below.
    add column buin       bigint,
    -- The reason of the change, as the operator gave it.
    add column reason     text constraint session_event_reason_some check (reason <> ''),
    -- The merge patch of the attributes that really changed. The column is separate, because
    -- changes is jsonb.
    add column attributes json,
    -- The transaction that wrote the event. Readers of new events go by this id and not by a time
    -- or a sequence, which do not show the order of commits. Every event with an id below the oldest
    -- running transaction is visible.
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

-- Finds the changes in an enterprise by time, for lists by change and for their later pages.
create index session_event_by_time on session_event (buin, created_at, session_id, version);
-- Finds the events that were written after a position, for caches.
create index session_event_by_xid on session_event (xid);

-- Finds titles by any part, in any language. The table is separate, because most updates leave the
-- title unchanged and then write no row and no index entry here.
create table session_title (
    session_id uuid     not null,
    buin       bigint   not null,
    -- The title in compatibility form (NFKC) and lower case. The search compares this text.
    folded     text     not null,
    -- The characters of the folded title, and its pairs of adjacent characters. Each is one number:
    -- the code point of the character times 2^21, plus, for a pair, the code point of the next
    -- character. A title that contains a text has all pairs of that text.
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

-- Requests that were done with an idempotency key. A repeated request is answered and not done
-- again. The answer is not stored: it is the session at this version, which the history can replay.
create table idempotency (
    buin       bigint      not null,
    app_id     text        not null,
    key        text        not null,
    -- SHA-256 of the request.
    digest     bytea       not null constraint idempotency_digest_sha256 check (length(digest) = 32),
    session_id uuid        not null,
    version    bigint      not null,
    expires_at timestamptz not null,

    constraint idempotency_pkey primary key (buin, app_id, key)
);

create index idempotency_by_end on idempotency (expires_at);
