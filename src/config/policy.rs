//! `[policy]`: rules that differ between companies.

use super::read::Reader;

/// `[policy]`: rules that differ between companies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyConfig {
    /// The members that may remove other members from a session.
    pub remove_members: RemoveMembers,
    /// How far members may leave or be removed.
    pub remaining_members: RemovalLimit,
    /// Whether a sealed create or update that was received before is refused.
    pub refuse_replayed_writes: bool,
}

/// The members that may remove other members from a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RemoveMembers {
    /// `"owner"`: only the session's owner.
    #[default]
    Owner,
    /// `"member"`: every member.
    Member,
}

/// How far members may leave a session or be removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RemovalLimit {
    /// `"keep_minimum"`: `limits.min_members` must stay.
    #[default]
    KeepMinimum,
    /// `"down_to_one"`: one member must stay.
    DownToOne,
}

impl PolicyConfig {
    pub(super) fn read(reader: &mut Reader<'_>) -> Self {
        Self {
            remove_members: reader.choice(
                "policy.remove_members",
                &[("owner", RemoveMembers::Owner), ("member", RemoveMembers::Member)],
            ),
            remaining_members: reader.choice(
                "policy.remaining_members",
                &[
                    ("keep_minimum", RemovalLimit::KeepMinimum),
                    ("down_to_one", RemovalLimit::DownToOne),
                ],
            ),
            refuse_replayed_writes: reader.boolean("policy.refuse_replayed_writes"),
        }
    }
}
