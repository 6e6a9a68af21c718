-- Makes the tables of the feed: all changes of sessions in one order, with a number without gaps.
--
-- A sequence, a time and a transaction id do not show the order of commits, and a reader that goes by
-- one of them misses changes that are committed late. So the statement of a change writes a row of
-- outbox, and one server moves all visible rows of outbox into feed: a number is given after the
-- commit. A reader that has seen a number has seen all changes with lower numbers. The numbers are
-- ordinary rows, and survive every kind of copy of the database.
--
-- The migration numbers the existing changes in the order of their times. The duration grows with
-- their number, and changes wait meanwhile. Servers of the previous release must be stopped before:
-- they write no rows of outbox.

-- Nothing depends on transaction ids any more. The index goes with the column. This is the first
-- statement because it locks the table: no change may come between those that are numbered.
alter table session_event drop column xid;

-- Changes that are committed and have no number yet. One row for each statement, which writes up to
-- some dozens of changes. Rows live for some milliseconds.
create table outbox (
    -- The time of the statement, by the clock of the database. Deleted rows stay in the index while
    -- any transaction is older than their deletion. A reader skips them with a lower bound for this
    -- time.
    written_at  timestamptz not null,
    outbox_id   uuid        not null default gen_random_uuid(),
    -- The changes: each session with its new version.
    session_ids uuid[]      not null,
    versions    bigint[]    not null,

    -- Logical replication needs a key.
    constraint outbox_pkey primary key (written_at, outbox_id),
    constraint outbox_pairs check (cardinality(session_ids) = cardinality(versions))
)
-- The table is always nearly empty, so it is vacuumed by the number of deleted rows alone, and fast.
-- To shorten the file would lock the table.
with (
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0, vacuum_truncate = off
);

-- One row for each change, in the order of the numbers. Rows are never altered and never deleted. The
-- columns after version are copied from session_event, for the indexes and their filters.
create table feed (
    -- The number among the changes of all enterprises, and among those of the enterprise, both from 1.
    position     bigint      not null,
    buin         bigint      not null,
    seq          bigint      not null,
    session_id   uuid        not null,
    version      bigint      not null,
    kind         text        collate "C" not null,
    app_id       text        collate "C" not null,
    -- The time at which the number was given. It is never lower than that of an earlier number, and
    -- never lower than the time of the change. Changes that this migration numbers have their own
    -- time: a reader can then begin at any time of the history.
    sequenced_at timestamptz not null,

    constraint feed_pkey primary key (position),
    -- Finds the changes of an enterprise, and its last number.
    constraint feed_by_enterprise unique (buin, seq)
);

-- One row: the identity of this line of history. A restore of an older backup begins another one, in
-- which the same numbers may stand for other changes. A copy or a move of the whole database keeps it.
create table feed_state (
    -- Always true: the primary key then allows one row only.
    only_one boolean not null default true constraint feed_state_only_one check (only_one),
    epoch    uuid    not null,

    constraint feed_state_pkey primary key (only_one)
);

insert into feed_state (epoch) values (gen_random_uuid());

-- When an account became or stopped being a member or the owner of a session by an update. Together
-- with the present members and owners, the rows tell in which versions an account had a role: an
-- account with a role and without a row has had it since version 1, and the first row of an account
-- tells the state before it.
create table role_change (
    buin       bigint  not null,
    account    text    collate "C" not null,
    role       text    collate "C" not null constraint role_change_role_known check (role in ('member', 'owner')),
    session_id uuid    not null,
    version    bigint  not null,
    -- Whether the account has the role from this version on, or had it until the version before.
    gained     boolean not null,

    constraint role_change_pkey primary key (buin, account, role, session_id, version)
);

insert into feed (position, buin, seq, session_id, version, kind, app_id, sequenced_at)
select row_number() over (order by created_at, version, session_id), buin,
       row_number() over (partition by buin order by created_at, version, session_id),
       session_id, version, kind, app_id, created_at
from session_event;

insert into role_change (buin, account, role, session_id, version, gained)
select buin, change.account, change.role, session_id, version, change.gained
from session_event as event
cross join lateral (
    select added.account, 'member' as role, true as gained
    from jsonb_array_elements_text(changes -> 'addMember') as added (account)
    union all
    select removed.account, 'member', false
    from jsonb_array_elements_text(changes -> 'delMember') as removed (account)
    union all
    select owner_change.account, 'owner', owner_change.gained
    from session_event as previous
    cross join lateral (values (previous.owner, false), (event.owner, true))
        as owner_change (account, gained)
    where previous.session_id = event.session_id and previous.version = event.version - 1
      and previous.owner <> event.owner
) as change
where version > 1;

-- Finds the changes of a session, and those of an app, of a kind, or of both in an enterprise.
create index feed_by_session on feed (session_id, seq);
create index feed_by_source on feed (buin, app_id, kind, seq);

-- Finds the accounts that had a role in a session.
create index role_change_by_session on role_change (session_id, version);
