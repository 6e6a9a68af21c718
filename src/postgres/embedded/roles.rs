//! The roles and the database of an embedded PostgreSQL.
//!
//! `postgres` is the superuser, which only this module uses. `muster` is an ordinary role that owns
//! the database `muster` and nothing else. In data of an earlier version `muster` was the superuser
//! that PostgreSQL was created with. Such a role cannot be made an ordinary one, so it gets another
//! name and no login, and a new role takes over what it owned.

use sqlx::postgres::PgConnection;
use sqlx::{ConnectOptions as _, Connection as _};

use super::socket::{SERVICE, SUPERUSER, Socket};

/// The database that always exists.
const MAINTENANCE_DATABASE: &str = "postgres";

const INVALID_AUTHORIZATION: &str = "28000";
const DUPLICATE_DATABASE: &str = "42P04";
const DUPLICATE_OBJECT: &str = "42710";

/// Creates the roles and the database, as far as they are missing. The steps may be interrupted at
/// any point: the next call continues.
pub(super) async fn ensure(socket: &Socket) -> Result<(), sqlx::Error> {
    let mut admin = connect_as_superuser(socket).await?;
    let has_database: bool =
        sqlx::query_scalar("select exists (select from pg_database where datname = 'muster')")
            .fetch_one(&mut admin)
            .await?;
    let is_superuser: Option<bool> =
        sqlx::query_scalar("select rolsuper from pg_roles where rolname = 'muster'")
            .fetch_optional(&mut admin)
            .await?;
    match is_superuser {
        Some(false) => {}
        None => create(&mut admin, "create role muster login", DUPLICATE_OBJECT).await?,
        Some(true) => {
            tracing::info!("giving the database to an ordinary role");
            let database = if has_database { SERVICE } else { MAINTENANCE_DATABASE };
            let mut inside = socket.internal_options(SUPERUSER, database).connect().await?;
            replace_superuser(&mut inside, has_database).await?;
            inside.close().await?;
        }
    }
    if !has_database {
        create(&mut admin, "create database muster owner muster", DUPLICATE_DATABASE).await?;
    }
    admin.close().await
}

/// In data of an earlier version, `muster` creates the superuser first.
async fn connect_as_superuser(socket: &Socket) -> Result<PgConnection, sqlx::Error> {
    let options = socket.internal_options(SUPERUSER, MAINTENANCE_DATABASE);
    match options.connect().await {
        Err(error) if has_code(&error, INVALID_AUTHORIZATION) => {}
        done => return done,
    }
    let mut earlier = socket.internal_options(SERVICE, MAINTENANCE_DATABASE).connect().await?;
    create(&mut earlier, "create role postgres superuser login", DUPLICATE_OBJECT).await?;
    earlier.close().await?;
    options.connect().await
}

/// Runs a statement that creates something. Another process may have created it meanwhile.
async fn create(
    connection: &mut PgConnection,
    statement: &'static str,
    duplicate: &str,
) -> Result<(), sqlx::Error> {
    match sqlx::raw_sql(statement).execute(connection).await {
        Err(error) if !has_code(&error, duplicate) => Err(error),
        _ => Ok(()),
    }
}

/// Makes `muster` an ordinary role, which owns all that the superuser of this name owned in this
/// database. PostgreSQL then reads the rules for clients again.
async fn replace_superuser(
    connection: &mut PgConnection,
    has_database: bool,
) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(
        "alter role muster rename to muster_bootstrap;
         alter role muster_bootstrap nologin;
         create role muster login",
    )
    .execute(&mut *transaction)
    .await?;
    if has_database {
        sqlx::raw_sql("alter database muster owner to muster").execute(&mut *transaction).await?;
    }
    sqlx::raw_sql(HAND_OVER).execute(&mut *transaction).await?;
    transaction.commit().await?;
    sqlx::raw_sql("select pg_reload_conf()").execute(connection).await?;
    Ok(())
}

/// Gives tables, functions, types and schemas to `muster`. A sequence of a column follows its table,
/// and a member of an extension stays with the extension.
const HAND_OVER: &str = r"
do $$
declare
    statement text;
begin
    for statement in
        with owned as (
            select 'pg_class'::regclass as catalog, c.oid, 1 as turn, c.relkind = 'S' as is_sequence,
                   format('alter table %s owner to muster', c.oid::regclass) as statement
            from pg_class c
            where c.relowner = 'muster_bootstrap'::regrole
              and c.relnamespace in (select oid from pg_namespace where nspname !~ '^pg_'
                                     and nspname <> 'information_schema')
              and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
            union all
            select 'pg_proc'::regclass, p.oid, 2, false,
                   format('alter routine %s owner to muster', p.oid::regprocedure)
            from pg_proc p
            where p.proowner = 'muster_bootstrap'::regrole
              and p.pronamespace in (select oid from pg_namespace where nspname !~ '^pg_'
                                     and nspname <> 'information_schema')
            union all
            select 'pg_type'::regclass, t.oid, 3, false,
                   format('alter type %s owner to muster', t.oid::regtype)
            from pg_type t
            left join pg_class c on c.oid = t.typrelid
            where t.typowner = 'muster_bootstrap'::regrole
              and t.typnamespace in (select oid from pg_namespace where nspname !~ '^pg_'
                                     and nspname <> 'information_schema')
              and (t.typtype in ('e', 'd', 'r') or (t.typtype = 'c' and c.relkind = 'c'))
            union all
            select 'pg_namespace'::regclass, n.oid, 4, false,
                   format('alter schema %I owner to muster', n.nspname)
            from pg_namespace n
            where n.nspowner = 'muster_bootstrap'::regrole
              and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
        )
        select owned.statement from owned
        where not exists (
            select from pg_depend d
            where d.classid = owned.catalog and d.objid = owned.oid
              and (d.deptype in ('e', 'i') or (d.deptype = 'a' and owned.is_sequence))
        )
        order by owned.turn
    loop
        execute statement;
    end loop;
end $$";

fn has_code(error: &sqlx::Error, code: &str) -> bool {
    error.as_database_error().is_some_and(|error| error.code().as_deref() == Some(code))
}
