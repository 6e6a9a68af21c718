//! The rows of members that an update writes.

use std::collections::{HashMap, HashSet};

use super::columns::{MemberColumns, MemberPosition};
use crate::domain::{Account, Change, Session};

/// The members who join, move and leave, over all steps, because a statement can write a row only
/// once.
#[derive(Default)]
pub(super) struct MemberChanges<'a> {
    pub(super) added: MemberColumns<'a>,
    pub(super) moved: MemberColumns<'a>,
    pub(super) removed: MemberColumns<'a>,
}

impl<'a> MemberChanges<'a> {
    /// Pushes the changes of a session, at least one, in order.
    pub(super) fn push(
        &mut self,
        before: &'a Session,
        changes: impl ExactSizeIterator<Item = &'a Change> + Clone,
    ) {
        let Some(last) = changes.clone().last() else { return };
        if changes.len() == 1 && last.changes.members.is_none() {
            // In the usual case, members join or leave, and no member moves.
            self.added.push_all(&last.after, &last.changes.added);
            self.removed.push_all(&last.after, &last.changes.removed);
            return;
        }
        let mut positions: HashMap<&'a Account, MemberPosition> = HashMap::new();
        for change in changes {
            for account in &change.changes.removed {
                positions.remove(account);
            }
            let members = change.changes.members.as_ref().unwrap_or(&change.changes.added);
            for (position, account) in members.iter().enumerate() {
                positions
                    .insert(account, MemberPosition { joined: change.after.version, position });
            }
        }
        let after = &last.after;
        let before_members: HashSet<&Account> = before.members.iter().collect();
        let after_members: HashSet<&Account> = after.members.iter().collect();
        for (account, member_position) in positions {
            let columns =
                if before_members.contains(account) { &mut self.moved } else { &mut self.added };
            columns.push(after, account, member_position);
        }
        for account in before.members.iter().filter(|member| !after_members.contains(member)) {
            self.removed.push(
                after,
                account,
                MemberPosition { joined: after.version, position: 0 },
            );
        }
    }
}
