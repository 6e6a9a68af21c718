-- Makes the tables of callbacks: one row for each delivery to an app, and one for each attempt.
--
-- The statement that makes a change also writes its deliveries. So every committed change has its
-- deliveries, and a change that was rolled back has no deliveries.

-- Set while the callbacks of the app are paused. Deliveries are kept meanwhile, and are sent after
-- this time is cleared.
alter table app add column callbacks_paused_at timestamptz;

create table delivery (
    session_id       uuid        not null,
    buin             bigint      not null,
    app_id           text        not null,
    -- The reported event of the session.
    version          bigint      not null,
    -- pending: the delivery waits until due_at. leased: a worker sends it, and after due_at another
    -- worker may claim it. delivered: the receiver acknowledged it. failed: no further attempt is
    -- made unless an operator replays it.
    state            text        not null
        constraint delivery_state_known check (state in ('pending', 'leased', 'delivered', 'failed')),
    due_at           timestamptz not null,
    -- The id of the lease. Only a worker that still has the lease can finish the delivery.
    lease            uuid,
    -- The number of all attempts, and the number of attempts since the last replay. The retry
    -- schedule depends on the second number.
    attempts         integer     not null,
    tries            integer     not null,
    -- The time of the first attempt since the last replay.
    first_tried_at   timestamptz,
    created_at       timestamptz not null,
    finished_at      timestamptz,

    constraint delivery_pkey primary key (session_id, app_id, version),
    constraint delivery_leased check ((state = 'leased') = (lease is not null)),
    constraint delivery_finished check ((state in ('delivered', 'failed')) = (finished_at is not null))
)
-- Each delivery is updated at least twice, so each page keeps space for new row versions.
with (fillfactor = 70);

-- Finds due deliveries, app by app. A claim for one app thus need not read past the deliveries of
-- an app whose receiver is down.
create index delivery_due on delivery (buin, app_id, due_at, version) where state in ('pending', 'leased');

-- Finds the earliest unfinished version of a session for an app. Each claim looks this up for every
-- candidate. The lookup must read neither the finished deliveries of the session nor all waiting
-- deliveries of the app.
create index delivery_unfinished on delivery (session_id, app_id, version) where state in ('pending', 'leased');

-- Finds the deliveries whose retention has ended.
create index delivery_finished_at on delivery (state, finished_at) where state in ('delivered', 'failed');

-- One row for each attempt, written after its end.
create table delivery_attempt (
    session_id  uuid        not null,
    app_id      text        not null,
    version     bigint      not null,
    attempt     integer     not null,
    started_at  timestamptz not null,
    duration_ms integer     not null,
    -- The HTTP status, if a response arrived.
    status      integer,
    -- The reason of the failure; null if the attempt was acknowledged.
    error       text,
    -- The beginning of the response body, as text.
    answer      text,

    constraint delivery_attempt_pkey primary key (session_id, app_id, version, attempt)
);
