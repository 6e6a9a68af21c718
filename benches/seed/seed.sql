-- Fills a Muster database with sessions like those of years of use. Called by `run`.
--
-- Variables: sessions, the number of sessions; buin, their enterprise. The enterprise with the next
-- number gets one session in 101. The same variables give the same sessions.
--
-- Of each million:
--   accounts   200,000 in about 23 sessions each; `bot` in half of all, `audit` in every tenth
--   owners     20,000 with 50 sessions each but for `bot`, which owns every fifth
--   states     1 % dissolved
--   versions   1 for four of five, 2 to 6 for the others, and 20,000 for the one at :hot
--   titles     six languages; each title has its number, 10 have `kumquat`, and only the
--              oldest fifth has `legacy`
\set ON_ERROR_STOP on
set client_min_messages = warning;
set synchronous_commit = off;
set maintenance_work_mem = '512MB';
set work_mem = '256MB';

select count(*) > 0 as taken from session \gset
\if :taken
    \warn 'this database has sessions already: seeding is for an empty one'
    \q
\endif

-- Indexes are created at the end, which is faster. The events need that of members.
create temp table later as
select format('drop index %I', indexname) as drop, indexdef as make
from pg_indexes
where schemaname = current_schema()
  and tablename in ('session', 'session_member', 'session_event', 'session_title')
  and indexname not like '%\_pkey' and indexname <> 'session_member_by_session';
select drop from later \gexec

begin;

-- One row for each session. All other rows follow from these. The newest is a second old.
create temp table seed as
with numbered as (
    select n,
           -- A hash, so that owners have no order.
           ('x' || substr(md5(n::text), 1, 8))::bit(32)::bigint as dice,
           case when n % 101 = 0 then :buin + 1 else :buin end::bigint as buin,
           date_trunc('milliseconds', now()) - interval '1 second'
               - (:sessions - n) * interval '1 minute' as created_at
    from generate_series(1, :sessions) as n
), versioned as (
    select *,
           case
               when n = :sessions / 2 then 20000
               when dice % 5 = 0 then 2 + dice / 5 % 5
               else 1
           end::bigint as versions
    from numbered
)
select n, dice, buin, created_at, versions,
       (lpad(to_hex((extract(epoch from created_at) * 1000)::bigint), 12, '0')
           || '7' || substr(md5(n::text), 1, 3) || 'a' || substr(md5(n::text), 4, 15))::uuid
           as session_id,
       case when dice % 100 = 7 then 'dissolved' else 'active' end as state,
       case when n % 5 = 0 then 'bot' else 'user' || dice % 20000 end as owner,
       (array[
           'Release planning', 'Incident review', '项目会议', '每周例会 华东', 'リリース計画',
           'совещание отдела', 'اجتماع المشروع', 'déploiement café', 'Sales EMEA', 'a'
       ])[1 + dice / 7 % 10]
           || case when n % 100000 = 1 then ' kumquat' else '' end
           || case when n < :sessions / 5 then ' legacy' else '' end
           || ' ' || n as title,
       3 + dice / 11 % 6 as members
from versioned;
create unique index on seed (n);
analyze seed;

insert into session_member (session_id, account, buin, joined_version, position)
select session_id, account, buin, 1, min(place)
from seed
cross join lateral (
    select owner as account, 0 as place
    union all
    select 'bot', 1 where n % 2 = 0
    union all
    select 'audit', 2 where n % 10 = 3
    union all
    select 'user' || (dice * place + n * 31) % 200000, place
    from generate_series(3, members + 1) as place
) as member
group by session_id, account, buin
-- The order in which sessions are created.
order by session_id, min(place);

-- A version is an hour after the one before, or less if that would be in the future.
create temp table version as
select n, number,
       created_at + (number - 1) * least(interval '1 hour', (now() - created_at) / versions) as at
from seed
cross join lateral generate_series(1, versions) as number;

insert into session (
    session_id, buin, title, owner, version, state, member_count, created_at, updated_at
)
select session_id, buin, case when versions > 1 then title || ' v' || versions else title end,
       owner, case when state = 'dissolved' then versions + 1 else versions end, state,
       count, created_at, at
from seed
join (select session_id, count(*)::int from session_member group by session_id) as counted
    using (session_id)
join version on version.n = seed.n and number = versions
order by session_id;

insert into session_event (
    session_id, version, buin, kind, operator, app_id, title, owner, changes, created_at
)
select session_id, number, buin,
       case when number = 1 then 'created' else 'updated' end,
       owner, 'seed', called, owner,
       case
           when number = 1 then jsonb_build_object('title', called, 'owner', owner, 'member', (
               select jsonb_agg(account order by position)
               from session_member
               where session_member.session_id = seed.session_id
           ))
           else jsonb_build_object('title', called)
       end,
       at
from seed
join version using (n)
cross join lateral (
    select case when number > 1 then title || ' v' || number else title end as called
) as title
union all
select session_id, versions + 1, buin, 'dissolved', owner, 'seed',
       case when versions > 1 then title || ' v' || versions else title end, owner, '{}', at
from seed
join version using (n)
where state = 'dissolved' and number = versions
order by at, session_id, number;

insert into session_title (session_id, buin, folded)
select session_id, buin, lower(normalize(title, nfkc)) from session order by session_id;

insert into feed (position, buin, seq, session_id, version, kind, app_id, sequenced_at)
select row_number() over (order by created_at, version, session_id), buin,
       row_number() over (partition by buin order by created_at, version, session_id),
       session_id, version, kind, app_id, created_at
from session_event
order by created_at, version, session_id;

commit;

select make from later \gexec
vacuum (analyze) session, session_member, session_event, session_title, feed;

select count(*) as sessions, sum(member_count) as members, sum(version) as versions from session;
