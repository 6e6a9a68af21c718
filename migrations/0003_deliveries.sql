-- Callbacks: what is to be told to whom, and every try of telling it.
--
-- A delivery is written by the statement that makes the change: no change without its deliveries,
-- and none for a change that did not commit.

-- Set while an app's callbacks wait. They are kept, and go on when it is cleared.
alter table app add column callbacks_paused_at timestamptz;

create table delivery (
    session_id       uuid        not null,
    buin             bigint      not null,
    app_id           text        not null,
    -- The version that it tells of: an event of the session.
    version          bigint      not null,
    -- pending: waits until due_at. leased: a worker sends it, until due_at; then another may.
    -- delivered: the receiver acknowledged it. failed: given up, until somebody replays it.
    state            text        not null
        constraint delivery_state_known check (state in ('pending', 'leased', 'delivered', 'failed')),
    due_at           timestamptz not null,
    -- Names the lease; who finishes must still hold it.
    lease            uuid,
    -- Tries ever, and tries since it was last replayed: the schedule goes by the latter.
    attempts         integer     not null,
    tries            integer     not null,
    -- When the current round of tries began.
    first_tried_at   timestamptz,
    created_at       timestamptz not null,
    finished_at      timestamptz,

    constraint delivery_pkey primary key (session_id, app_id, version),
    constraint delivery_leased check ((state = 'leased') = (lease is not null)),
    constraint delivery_finished check ((state in ('delivered', 'failed')) = (finished_at is not null))
)
-- Each delivery is updated at least twice in its short life.
with (fillfactor = 70);

-- What is due, app by app: one that is down must not be read past to find the others' work.
create index delivery_due on delivery (buin, app_id, due_at, version) where state in ('pending', 'leased');

-- Is an earlier version still to be told to this app? Every claim asks that of every candidate. It
-- must read neither the session's long past nor all that waits for the app.
create index delivery_unfinished on delivery (session_id, app_id, version) where state in ('pending', 'leased');

-- What has been kept long enough.
create index delivery_finished_at on delivery (state, finished_at) where state in ('delivered', 'failed');

-- One row for each try, written when it has ended.
create table delivery_attempt (
    session_id  uuid        not null,
    app_id      text        not null,
    version     bigint      not null,
    attempt     integer     not null,
    started_at  timestamptz not null,
    duration_ms integer     not null,
    -- The HTTP status, if there was an answer.
    status      integer,
    -- Why it does not count; null for the one that was acknowledged.
    error       text,
    -- The first bytes of the answer's body, as text.
    answer      text,

    constraint delivery_attempt_pkey primary key (session_id, app_id, version, attempt)
);
