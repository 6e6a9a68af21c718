-- Makes the tables of named consumers: readers of the feed whose place is kept here.
--
-- A consumer belongs to an app, because its members share one piece of work: an app must not be able to
-- take the events of another one. Any number of processes of the app are members of a consumer, and each
-- event goes to one of them. Events are not copied: a row says that a change is in flight.
--
-- Rows that are deleted stay in their indexes while a long transaction runs, such as a backup. So the
-- statements of a fetch seek the last place of a consumer, and read its events after a lower bound.

create table consumer (
    buin              bigint      not null,
    app_id            text        collate "C" not null,
    name              text        collate "C" not null,
    -- Changes with each reset: events that a member has from before are of another line.
    consumer_id       uuid        not null default gen_random_uuid(),
    -- The line of history that the place belongs to: see feed_state.
    epoch             uuid        not null,
    -- The filter: all conditions that are not null must hold.
    filter_member     text        collate "C",
    filter_owner      text        collate "C",
    filter_session_id uuid,
    filter_kind       text        collate "C",
    filter_app_id     text        collate "C",
    -- The time for which a member has the events that it fetched.
    lease_seconds     integer     not null,
    created_at        timestamptz not null,
    -- Renewed at most once an hour: each update leaves a row behind.
    used_at           timestamptz not null,

    constraint consumer_pkey primary key (buin, app_id, name),
    constraint consumer_by_id unique (consumer_id),
    constraint consumer_lease_bounded check (lease_seconds between 1 and 43200)
);

-- The place of each consumer in the feed: its last row. A row is not altered, but replaced by one with a
-- higher position, so a look finds it first, however many earlier ones were deleted.
create table consumer_position (
    consumer_id uuid   not null,
    -- The number of the last change that was looked at, within the enterprise.
    position    bigint not null,
    -- The same place as a cursor of the API.
    cursor      text   collate "C" not null,
    -- No event that may be handed out has this number or a lower one.
    ready_after bigint not null,

    constraint consumer_position_pkey primary key (consumer_id, position)
)
with (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

-- The changes that are selected for a consumer and not acknowledged. Their number is bounded.
create table consumer_event (
    consumer_id uuid        not null,
    seq         bigint      not null,
    session_id  uuid        not null,
    version     bigint      not null,
    -- The number of the change before it that the filter selects.
    prev_seq    bigint      not null,
    -- The size of the change, in bytes of JSON: bounds a fetch.
    bytes       integer     not null,
    -- ready: a member has it, or may get it. parked: it failed too often. waiting: an earlier change of
    -- its session is parked.
    state       text        collate "C" not null
        constraint consumer_event_state_known check (state in ('ready', 'parked', 'waiting')),
    -- The number of times that it was handed out, the last member that got it, and the end of its lease.
    attempts    integer     not null default 0,
    member      text        collate "C",
    lease_until timestamptz,
    parked_at   timestamptz,

    constraint consumer_event_pkey primary key (consumer_id, seq)
)
with (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

-- Finds the changes that are held back.
create index consumer_event_held_back on consumer_event (consumer_id, state, session_id, seq)
    where state <> 'ready';

-- Finds the consumers that were not used for long.
create index consumer_by_use on consumer (used_at);
