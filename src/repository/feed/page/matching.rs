//! The conditions of a filter, which all statements on the feed share.

/// A statement of `sqlx` with the conditions of a filter for the rows of `candidate`, which has the
/// columns of `feed`. The text before the conditions ends with `where`. The first arguments are: $1 buin,
/// $2 the start, $3 member, $4 owner, $5 kind, $6 app, $7 session.
///
/// An account without a change of a role has the role since version 1 if it has it at present.
macro_rules! matching {
    (
        $query:ident!($($row:ident,)?),
        [$($before:tt)+],
        [$($after:literal)+],
        $arguments:tt $(,)?
    ) => {
        with_role_lookups!(
            $query!($($row,)?),
            [
                $($before)+
                r#"
                ($5::text is null or candidate.kind = $5)
                and ($6::text is null or candidate.app_id = $6)
                and ($7::uuid is null or candidate.session_id = $7)
                and ($3::text is null or "#
                (
                    had_role "$1" "$3" "'member'" "candidate.session_id" "candidate.version"
                    else r#"exists (
                    select from session_member as present
                    where present.buin = $1 and present.session_id = candidate.session_id
                      and present.account = $3
                    offset 0
                )"#
                )
                r#")
                and ($4::text is null or "#
                (
                    had_role "$1" "$4" "'owner'" "candidate.session_id" "candidate.version"
                    else r#"exists (
                    select from session as present
                    where present.buin = $1 and present.session_id = candidate.session_id
                      and present.owner = $4
                    offset 0
                )"#
                )
                ")"
                $($after)+
            ],
            $arguments,
        )
    };
}

pub(super) use matching;
