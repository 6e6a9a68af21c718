//! The rule that tells which role an account has before or after a change, for all statements.
//!
//! `role_change` has a row for each version in which an account gains or loses a role. An account keeps a
//! role from one of its rows to the next. So the last row up to a version decides, else the first row
//! after it, else a value that depends on the statement. The change that ends a role counts too.

/// A statement of `sqlx`. Its text is a list of literals and of these lookups:
///
/// - `(had_role BUIN ACCOUNT ROLE SESSION VERSION else OTHERWISE)`: whether the account has the role before or
///   after the change. `OTHERWISE` is the value without any row.
/// - `(last_role_change COLUMNS BUIN ACCOUNT ROLE SESSION VERSION)`: columns of the last row up to the version.
/// - `(had_role_until_next_change BUIN ACCOUNT ROLE SESSION VERSION)`: the same as `had_role`, by the first row
///   after the version; null without such a row.
macro_rules! with_role_lookups {
    ($query:ident!($($row:ident,)?), [$($text:tt)+], $arguments:tt $(,)?) => {
        with_role_lookups!(@ $query, [$($row,)?], [], [$($text)+], $arguments)
    };
    (
        @ $query:ident, $row:tt, [$($done:literal)*],
        [
            (
                had_role $buin:literal $account:literal $role:literal $session:literal
                $version:literal else $otherwise:literal
            )
            $($rest:tt)*
        ],
        $arguments:tt
    ) => {
        with_role_lookups!(
            @ $query, $row, [$($done)* "coalesce("],
            [
                (
                    last_role_change ["gained or role_change.version = " $version]
                    $buin $account $role $session $version
                )
                ", "
                (had_role_until_next_change $buin $account $role $session $version)
                ", " $otherwise ")"
                $($rest)*
            ],
            $arguments
        )
    };
    (
        @ $query:ident, $row:tt, [$($done:literal)*],
        [
            (
                last_role_change [$($columns:literal)+] $buin:literal $account:literal
                $role:literal $session:literal $version:literal
            )
            $($rest:tt)*
        ],
        $arguments:tt
    ) => {
        with_role_lookups!(
            @ $query, $row,
            [
                $($done)* r#"(
                    select "# $($columns)+ r#"
                    from role_change
                    where role_change.buin = "# $buin " and role_change.account = " $account r#"
                      and role_change.role = "# $role " and role_change.session_id = " $session r#"
                      and role_change.version <= "# $version r#"
                    order by role_change.version desc
                    limit 1
                )"#
            ],
            [$($rest)*], $arguments
        )
    };
    (
        @ $query:ident, $row:tt, [$($done:literal)*],
        [
            (
                had_role_until_next_change $buin:literal $account:literal $role:literal
                $session:literal $version:literal
            )
            $($rest:tt)*
        ],
        $arguments:tt
    ) => {
        with_role_lookups!(
            @ $query, $row,
            [
                $($done)* r#"(
                    select not gained
                    from role_change
                    where role_change.buin = "# $buin " and role_change.account = " $account r#"
                      and role_change.role = "# $role " and role_change.session_id = " $session r#"
                      and role_change.version > "# $version r#"
                    order by role_change.version
                    limit 1
                )"#
            ],
            [$($rest)*], $arguments
        )
    };
    (
        @ $query:ident, $row:tt, [$($done:literal)*], [$text:literal $($rest:tt)*], $arguments:tt
    ) => {
        with_role_lookups!(@ $query, $row, [$($done)* $text], [$($rest)*], $arguments)
    };
    (
        @ $query:ident, [$($row:ident,)?], [$first:literal $($done:literal)*], [],
        ($($argument:expr),* $(,)?)
    ) => {
        sqlx::$query!($($row,)? $first $(+ $done)*, $($argument),*)
    };
}

pub(super) use with_role_lookups;
