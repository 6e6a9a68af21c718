//! The conditions of a filter, which all statements on the feed share.

/// A statement of `sqlx` with the conditions of a filter for the rows of `candidate`, which has the
/// columns of `feed`. The text before the conditions ends with `where`. The first arguments are: $1 buin,
/// $2 the start, $3 member, $4 owner, $5 kind, $6 app, $7 session.
///
/// A role of an account is decided by the last change of the role up to the version, else by the first
/// one after it, else by the present. A change that ends the role matches.
macro_rules! matching {
    (
        $query:ident!($($row:ident,)?),
        [$($before:literal)+],
        [$($after:literal)+],
        $arguments:tt $(,)?
    ) => {
        matching!(
            @with_roles $query, [$($row,)?], [$($before)+], [$($after)+], $arguments,
            ("$3", "'member'", "session_member", "account"),
            ("$4", "'owner'", "session", "owner")
        )
    };
    (
        @with_roles $query:ident, [$($row:ident,)?], [$($before:literal)+], [$($after:literal)+],
        ($($argument:expr),* $(,)?),
        $(($account:literal, $role:literal, $present:literal, $column:literal)),+
    ) => {
        sqlx::$query!(
            $($row,)?
            $($before +)+ r#"
                ($5::text is null or candidate.kind = $5)
                and ($6::text is null or candidate.app_id = $6)
                and ($7::uuid is null or candidate.session_id = $7)"#
            $(
                + r#"
                and ("# + $account + r#"::text is null or coalesce((
                    select gained or role_change.version = candidate.version
                    from role_change
                    where buin = $1 and account = "# + $account + " and role = " + $role + r#"
                      and role_change.session_id = candidate.session_id
                      and role_change.version <= candidate.version
                    order by role_change.version desc
                    limit 1
                ), (
                    select not gained
                    from role_change
                    where buin = $1 and account = "# + $account + " and role = " + $role + r#"
                      and role_change.session_id = candidate.session_id
                      and role_change.version > candidate.version
                    order by role_change.version
                    limit 1
                ), exists (
                    select from "# + $present + r#" as present
                    where present.buin = $1 and present.session_id = candidate.session_id
                      and present."# + $column + " = " + $account + r#"
                    offset 0
                )))"#
            )+
            $(+ $after)+,
            $($argument),*
        )
    };
}

pub(super) use matching;
