//! The hash chain of the records. A trigger of the database makes the hashes.
//!
//! The formula stands in the migration and in the statement of [`verify`], and for auditors in
//! `docs/operate/audit.md`. It has every column but the id, whose order the links between records prove.

use sqlx::PgConnection;

use crate::domain::{AuditChain, AuditChainFault};
use crate::repository::{Error, Pool};

/// The field of the details of a deletion with the hash of the last deleted record.
pub(super) const LAST_HASH: &str = "lastHash";

/// Checks all records in one snapshot. Reads the table once, in the order of the ids. `expected` is a hash
/// that [`AuditChain::head`] once was, as hexadecimal digits.
///
/// # Errors
/// When the database fails.
pub async fn verify(pool: &Pool, expected: Option<&str>) -> Result<AuditChain, Error> {
    let row = sqlx::query!(
        r#"
        with link as (
            select
                audit_id, at, action, hash,
                hash <> sha256(coalesce(previous_hash, '') || convert_to(jsonb_build_array(
                    (extract(epoch from at) * 1000000)::bigint, action, actor, sudo_user, host, pid, buin,
                    app_id, details
                )::text, 'UTF8')) as is_altered,
                previous_hash is distinct from case
                    when row_number() over chain > 1 then lag(hash) over chain
                    -- The last deletion of old records names the one before the first that is left.
                    else (
                        select decode(pruned.details ->> 'lastHash', 'hex') from audit as pruned
                        where pruned.action = 'audit.prune'
                        order by pruned.audit_id desc limit 1
                    )
                end as is_unlinked,
                coalesce(
                    $1 in (
                        encode(hash, 'hex'),
                        case when action = 'audit.prune' then details ->> 'lastHash' end
                    ),
                    false
                ) as is_expected
            from audit
            window chain as (order by audit_id)
        ), fault as (
            select audit_id, at, action, is_altered from link
            where is_altered or is_unlinked
            order by audit_id limit 1
        )
        select
            count(*) as "records!",
            min(link.at) as first_at,
            (select encode(audit.hash, 'hex') from audit order by audit_id desc limit 1) as head,
            coalesce(bool_or(link.is_expected), false) as "has_expected!",
            (select audit_id from fault) as fault_id,
            (select at from fault) as fault_at,
            (select action from fault) as fault_action,
            (select is_altered from fault) as fault_is_altered
        from link
        "#,
        expected,
    )
    .fetch_one(pool)
    .await?;
    let fault = match (row.fault_id, row.fault_at, row.fault_action, row.fault_is_altered) {
        (Some(audit_id), Some(at), Some(action), Some(is_altered)) => {
            Some(AuditChainFault { audit_id, at, action, is_altered })
        }
        _ => None,
    };
    Ok(AuditChain {
        records: row.records.unsigned_abs(),
        first_at: row.first_at,
        head: row.head,
        fault,
        has_expected: row.has_expected,
    })
}

/// Lets no other transaction write or delete records until this one ends.
pub(super) async fn lock(connection: &mut PgConnection) -> Result<(), Error> {
    sqlx::query!(
        "select pg_advisory_xact_lock(
             (x'4d757374'::int::bigint << 32) | 'audit'::regclass::oid::bigint
         )"
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// The hexadecimal digits of a hash.
pub(super) fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
