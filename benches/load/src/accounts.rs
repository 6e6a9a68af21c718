//! Who is in a made-up session: the same arithmetic here and in the scripts of pgbench, so that
//! both sides write alike and answers can be checked without having kept anything.

/// Accounts there are.
const ACCOUNTS: u64 = 100_000;
/// From one member to the next; far from a divisor of the number of accounts.
const MEMBER_STRIDE: u64 = 17;
/// Spreads neighbouring sessions over the accounts.
const SPREAD: u64 = 7_919;
/// From one visited session to the next. It is coprime with every count of sessions here, so a walk
/// visits all of them, neighbours far apart.
pub const STRIDE: u64 = 7_919;
/// Digits of an id that number the session in its set.
pub const DIGITS: usize = 15;

/// The first account of the seeded session `n`.
pub fn first_of(n: u64) -> u64 {
    n * SPREAD % ACCOUNTS
}

/// A first account at random.
pub fn any_first() -> u64 {
    rand::random_range(0..ACCOUNTS)
}

/// The member at `place` of a session whose first account is `first`.
pub fn member(first: u64, place: u64) -> String {
    format!("u{:05}", (first + place * MEMBER_STRIDE) % ACCOUNTS)
}

/// The first `count` members.
pub fn members(first: u64, count: u64) -> Vec<String> {
    (0..count).map(|place| member(first, place)).collect()
}

/// Who takes the place of the fifth member, and gives it back.
pub fn stand_in(first: u64) -> String {
    member(first, 4).replace('u', "x")
}

/// The pgbench lines that make `:a1` to `:a5` from `:b`.
pub fn in_pgbench() -> String {
    (0..5)
        .map(|k| format!("\\set a{} (:b + {}) % {ACCOUNTS}\n", k + 1, k * MEMBER_STRIDE))
        .collect()
}

/// The pgbench line that makes `:b` from `:n`, as [`first_of`] does.
pub fn first_in_pgbench() -> String {
    format!("\\set b (:n * {SPREAD}) % {ACCOUNTS}\n")
}

/// The pgbench line that makes `:b` at random.
pub fn any_first_in_pgbench() -> String {
    format!("\\set b random(0, {})\n", ACCOUNTS - 1)
}
