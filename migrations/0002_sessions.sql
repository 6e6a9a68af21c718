-- Makes the tables of sessions, of their members, and of the history of their changes.
--
-- Every unique key contains session_id, so the schema can be distributed by this column. The tables
-- have no triggers, and no foreign keys between them: one statement writes all rows of a change or
-- no row. Only memberships are ever deleted.

create table session (
    -- A UUID v7, so that new rows go to the end of the index.
    session_id   uuid        not null,
    buin         bigint      not null,
    -- The program checks lengths and characters. The constraints refuse only values that no rule
    -- can allow.
    title        text        not null constraint session_title_some check (title <> ''),
    owner        text        not null constraint session_owner_some check (owner <> ''),
    -- 1 at creation, plus 1 for each change. Every update requires the version that it was decided
    -- for.
    version      bigint      not null constraint session_version_positive check (version > 0),
    state        text        not null constraint session_state_known check (state in ('active', 'dissolved')),
    -- Stored, so that lists need not count the members.
    member_count integer     not null constraint session_member_count_positive check (member_count > 0),
    created_at   timestamptz not null,
    updated_at   timestamptz not null,

    constraint session_pkey primary key (session_id)
)
-- Each page keeps space for new row versions. An update that changes no indexed column then needs
-- no new index entry.
with (fillfactor = 85);

create table session_member (
    session_id     uuid    not null,
    account        text    not null constraint session_member_account_some check (account <> ''),
    -- Copied from the session, for the index below.
    buin           bigint  not null,
    -- The order of members: first by the version that placed the member, then by the position in
    -- the list of that version. A new member thus comes last, and the insert need not read the last
    -- position.
    joined_version bigint  not null,
    position       integer not null,

    constraint session_member_pkey primary key (session_id, account)
);

-- Finds the sessions of an account.
create index session_member_by_account on session_member (buin, account, session_id);

-- One row for each version: the change, its operator and its app. The statement that makes the
-- change also writes the row. A row is never altered. The rows of a session, replayed in their
-- order, give the session.
create table session_event (
    session_id uuid        not null,
    version    bigint      not null,
    kind       text        not null constraint session_event_kind_known check (kind in ('created', 'updated')),
    -- The account that made the change, and the app that sent the request.
    operator   text        not null,
    app_id     text        not null,
    -- The title and the owner after the change, so that a reader need not search earlier rows.
    title      text        not null,
    owner      text        not null,
    -- For the kind created: title, owner, member. For the kind updated: those fields of title,
    -- owner, addMember, delMember that really changed.
    changes    jsonb       not null,
    created_at timestamptz not null,

    -- The last protection against two writers: each version can be written only once.
    constraint session_event_pkey primary key (session_id, version)
);
