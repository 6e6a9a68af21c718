-- What Muster is for: sessions, their members, and every change that ever was.
--
-- Every unique key carries session_id, so the same schema can be distributed by it. There are no
-- triggers, and no foreign keys between these three: one statement writes all of them or none, and
-- nothing is ever deleted but a membership.

create table session (
    -- A UUID v7, so that new sessions land at the right edge of the index.
    session_id   uuid        not null,
    buin         bigint      not null,
    -- Lengths and characters are checked where values are made; here only what must never be.
    title        text        not null constraint session_title_some check (title <> ''),
    owner        text        not null constraint session_owner_some check (owner <> ''),
    -- 1 at creation, plus 1 for each change: the guard of every update.
    version      bigint      not null constraint session_version_positive check (version > 0),
    state        text        not null constraint session_state_known check (state in ('active', 'dissolved')),
    -- Kept beside the members so that lists need not count them.
    member_count integer     not null constraint session_member_count_positive check (member_count > 0),
    created_at   timestamptz not null,
    updated_at   timestamptz not null,

    constraint session_pkey primary key (session_id)
)
-- Room for the next version on the same page: an update that touches no indexed column needs no
-- new index entry then.
with (fillfactor = 85);

create table session_member (
    session_id     uuid    not null,
    account        text    not null constraint session_member_account_some check (account <> ''),
    -- Repeated from the session, for the index below.
    buin           bigint  not null,
    -- The order of members: by the version that brought them, then by their place in its list. So a
    -- newcomer stands last without anybody looking up who is last now.
    joined_version bigint  not null,
    position       integer not null,

    constraint session_member_pkey primary key (session_id, account)
);

-- "Which sessions is this account in?"
create index session_member_by_account on session_member (buin, account, session_id);

-- One row for each version: who did what through which app. Written in the statement that makes the
-- change, never altered. Replaying a session's rows gives the session.
create table session_event (
    session_id uuid        not null,
    version    bigint      not null,
    kind       text        not null constraint session_event_kind_known check (kind in ('created', 'updated')),
    -- The account that acted, and the app that acted for it.
    operator   text        not null,
    app_id     text        not null,
    -- As they were from this version on, so that nobody must look back for them.
    title      text        not null,
    owner      text        not null,
    -- created: title, owner, member. updated: of title, owner, addMember, delMember those that
    -- really changed.
    changes    jsonb       not null,
    created_at timestamptz not null,

    -- Also the last guard: one version can be made only once.
    constraint session_event_pkey primary key (session_id, version)
);
