-- Moves the changes of consumers that are held back to a table of their own, and counts them.
--
-- A fetch must not read the changes that no member may get, with any statistics of the planner. Each
-- of the two tables has one index, so no other index of a table can seem as cheap as the right one.

-- The changes that are selected for a consumer and held back. Their number is bounded.
create table consumer_held_event (
    consumer_id uuid    not null,
    session_id  uuid    not null,
    seq         bigint  not null,
    version     bigint  not null,
    prev_seq    bigint  not null,
    bytes       integer not null,
    attempts    integer not null,
    member      text    collate "C",
    -- The time at which the change was parked, because it failed too often. Null: the change waits,
    -- because an earlier one of its session is parked.
    parked_at   timestamptz,

    constraint consumer_held_event_pkey primary key (consumer_id, session_id, seq)
)
with (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

insert into consumer_held_event (
    consumer_id, session_id, seq, version, prev_seq, bytes, attempts, member, parked_at
)
select consumer_id, session_id, seq, version, prev_seq, bytes, attempts, member, parked_at
from consumer_event
where state <> 'ready';

delete from consumer_event where state <> 'ready';

drop index consumer_event_held_back;

alter table consumer_event drop column state, drop column parked_at;

-- The number of the rows of consumer_held_event. Each statement that moves changes between the tables
-- alters it, so two such statements for one consumer follow one another.
alter table consumer_position add column held_back bigint not null default 0;

update consumer_position
set held_back = (
    select count(*) from consumer_held_event
    where consumer_held_event.consumer_id = consumer_position.consumer_id
);
