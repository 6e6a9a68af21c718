-- kind: contract
-- Removes what 0015 and 0016 replace.

-- Logical replication needs a key, so the new one comes with the same statement.
alter table session_member
    drop constraint session_member_pkey,
    add constraint session_member_pkey primary key using index session_member_by_enterprise;

drop index concurrently session_member_by_account;

-- The column stays, because the statements of this release fill it as long as its index exists.
alter table session_title alter column grams drop not null;

drop index concurrently session_title_by_buin_grams;
