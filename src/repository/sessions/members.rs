//! The members of one session: a page of them, or one.

use super::stored::{account, version};
use crate::domain::{Account, Buin, Member, SessionId, Version};
use crate::repository::Error;
use crate::repository::Pool;

/// The position of a member in the list of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberSeekKey {
    /// The version that set the position.
    pub joined_version: i64,
    /// The position among the members placed by that version.
    pub position: i32,
}

/// A page of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MembersPage {
    /// The version of the session.
    pub version: Version,
    /// The members, in order.
    pub members: Vec<Member>,
    /// The position of the last member, if more members follow.
    pub next: Option<MemberSeekKey>,
}

/// One account and its session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberLookup {
    /// The version of the session.
    pub version: Version,
    /// The account as a member; `None` if it is not one.
    pub member: Option<Member>,
}

/// Reads a page of the members of a session, after a position or from the first one. `None` if the
/// enterprise has no such session.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn members(
    pool: &Pool,
    buin: Buin,
    id: SessionId,
    after: Option<MemberSeekKey>,
    limit: u16,
) -> Result<Option<MembersPage>, Error> {
    let after = after.unwrap_or(MemberSeekKey { joined_version: 0, position: 0 });
    let mut rows = sqlx::query!(
        r#"
        select account as "account?", joined_version as "joined_version?",
               position as "position?", account = owner as is_owner, version
        from session
        left join lateral (
            select account, joined_version, position
            from session_member
            where session_member.session_id = session.session_id
              and (joined_version, position) > ($3, $4)
            order by joined_version, position
            limit $5
        ) as member on true
        where session_id = $1 and session.buin = $2
        order by joined_version, position
        "#,
        id.uuid(),
        buin.get(),
        after.joined_version,
        after.position,
        i64::from(limit) + 1,
    )
    .fetch_all(pool)
    .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let current = version("session", first.version)?;
    let more = rows.len() > usize::from(limit);
    rows.truncate(limit.into());
    let mut page =
        MembersPage { version: current, members: Vec::with_capacity(rows.len()), next: None };
    for row in rows {
        let (Some(text), Some(joined_version), Some(position)) =
            (row.account, row.joined_version, row.position)
        else {
            break;
        };
        page.members.push(Member {
            account: account("session_member", "account", &text)?,
            joined_version: version("session_member", joined_version)?,
            is_owner: row.is_owner.unwrap_or_default(),
        });
        page.next = more.then_some(MemberSeekKey { joined_version, position });
    }
    Ok(Some(page))
}

/// Reads one member of a session. `None` if the enterprise has no such session.
///
/// # Errors
/// When the database fails, or holds an invalid value.
pub async fn member(
    pool: &Pool,
    buin: Buin,
    id: SessionId,
    member_account: &Account,
) -> Result<Option<MemberLookup>, Error> {
    let row = sqlx::query!(
        r#"
        select joined_version as "joined_version?", owner = $3 as "is_owner!", version
        from session
        left join session_member
            on session_member.session_id = session.session_id and account = $3
               and session_member.buin = $2
        where session.session_id = $1 and session.buin = $2
        "#,
        id.uuid(),
        buin.get(),
        member_account.as_str(),
    )
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let joined = row.joined_version.map(|joined| version("session_member", joined)).transpose()?;
    let member = joined.map(|joined_version| Member {
        account: member_account.clone(),
        joined_version,
        is_owner: row.is_owner,
    });
    Ok(Some(MemberLookup { version: version("session", row.version)?, member }))
}
