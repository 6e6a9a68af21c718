//! The parts of a schema that can run code or refuse rows: functions, triggers, views, rules,
//! policies, constraints, indexes.
//!
//! They are compared before and after rows are loaded, so a restore cannot leave anything else than
//! what the migrations of this program have created.

use sqlx::PgConnection;

use crate::repository::Error;

/// The definition of each such part of the schema, in a fixed order.
pub(super) async fn definitions(connection: &mut PgConnection) -> Result<Vec<String>, Error> {
    Ok(sqlx::query_scalar(
        "with own_class as (
             select oid, relname, relkind from pg_class
             where relnamespace = to_regnamespace(quote_ident(current_schema()))
         )
         select format('function %s %s', oid::regprocedure, pg_get_functiondef(oid)) as definition
         from pg_proc
         where pronamespace = to_regnamespace(quote_ident(current_schema())) and prokind in ('f', 'p')
         union all
         select format('trigger %s', pg_get_triggerdef(pg_trigger.oid))
         from pg_trigger join own_class on own_class.oid = tgrelid
         where not tgisinternal
         union all
         select format('%s %s', case relkind when 'v' then 'view' when 'm' then 'materialized view'
                                             else 'foreign table' end, relname)
         from own_class where relkind in ('v', 'm', 'f')
         union all
         select format('rule %s on %s', rulename, relname)
         from pg_rewrite join own_class on own_class.oid = ev_class
         union all
         select format('policy %s on %s', polname, relname)
         from pg_policy join own_class on own_class.oid = polrelid
         union all
         select format('constraint %s on %s: %s', conname, relname, pg_get_constraintdef(con.oid))
         from pg_constraint as con join own_class on own_class.oid = conrelid
         union all
         select format('index %s', pg_get_indexdef(indexrelid))
         from pg_index join own_class on own_class.oid = indrelid
         union all
         select format('default of %s.%s: %s', relname, attname, pg_get_expr(adbin, adrelid))
         from pg_attrdef join own_class on own_class.oid = adrelid
         join pg_attribute on attrelid = adrelid and attnum = adnum
         order by definition",
    )
    .fetch_all(connection)
    .await?)
}
