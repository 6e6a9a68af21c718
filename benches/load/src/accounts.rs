//! The members of a generated session. The scripts of pgbench use the same arithmetic, so both
//! sides write sessions of the same kind, and answers can be checked without stored state.

/// The number of accounts.
const ACCOUNTS: u64 = 100_000;
/// The distance from one member to the next; far from a divisor of the number of accounts.
const MEMBER_STRIDE: u64 = 17;
/// The distance from the first account of a session to that of the next.
const FIRST_ACCOUNT_STRIDE: u64 = 7_919;
/// The distance from one visited session to the next. It is coprime with every number of sessions
/// here, so each session is visited once in each pass.
pub const VISIT_STRIDE: u64 = 7_919;
/// The digits of an id that number the session in its set.
pub const DIGITS: usize = 15;

/// The first account of the seeded session `n`.
pub fn first_account(n: u64) -> u64 {
    n * FIRST_ACCOUNT_STRIDE % ACCOUNTS
}

/// A random first account.
pub fn random_first() -> u64 {
    rand::random_range(0..ACCOUNTS)
}

/// The member at `index` of a session whose first account is `first`.
pub fn member(first: u64, index: u64) -> String {
    format!("u{:05}", (first + index * MEMBER_STRIDE) % ACCOUNTS)
}

/// The first `count` members.
pub fn members(first: u64, count: u64) -> Vec<String> {
    (0..count).map(|index| member(first, index)).collect()
}

/// The account that updates exchange with the fifth member.
pub fn substitute(first: u64) -> String {
    member(first, 4).replace('u', "x")
}

/// The pgbench lines that set `:a1` to `:a5` from `:b`.
pub fn pgbench_members() -> String {
    (0..5)
        .map(|k| format!("\\set a{} (:b + {}) % {ACCOUNTS}\n", k + 1, k * MEMBER_STRIDE))
        .collect()
}

/// The pgbench line that sets `:b` from `:n`, as [`first_account`] does.
pub fn pgbench_first() -> String {
    format!("\\set b (:n * {FIRST_ACCOUNT_STRIDE}) % {ACCOUNTS}\n")
}

/// The pgbench line that sets `:b` at random.
pub fn pgbench_random_first() -> String {
    format!("\\set b random(0, {})\n", ACCOUNTS - 1)
}
