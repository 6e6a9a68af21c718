-- Makes the table of snapshots: sessions as they were at some of their versions.
--
-- A past version is the replay of the events up to it. The replay starts at the nearest snapshot, so
-- that its duration does not grow with the history.
--
-- Readers of the history write the snapshots, and the statements of changes do not, because these
-- must stay fast. A snapshot is written once at least four times its size of events has been read
-- since the one before it, so all snapshots together are much smaller than the history. The table may be
-- emptied at any time: the next readers write the same rows again. The previous release ignores it.

create table session_snapshot (
    session_id uuid        not null,
    -- The version that the snapshot shows.
    version    bigint      not null,
    buin       bigint      not null,
    title      text        not null,
    owner      text        not null,
    state      text        not null
        constraint session_snapshot_state_known check (state in ('active', 'dissolved')),
    -- All accounts in their order. They are read and written together, and never searched.
    members    text[]      not null,
    -- As in session: json, because jsonb rewrites numbers and refuses U+0000.
    attributes json        not null,
    created_at timestamptz not null,
    updated_at timestamptz not null,

    constraint session_snapshot_pkey primary key (session_id, version)
);
