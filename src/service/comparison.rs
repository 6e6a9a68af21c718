//! Compares a copy of the sessions of an enterprise with the sessions, part by part. The memory is that
//! of one part, however many sessions there are.
//!
//! A copy that is to be searched for missing sessions comes in ascending order of ids. It is merged with
//! the sessions of the enterprise, which are read in the same order.

use tokio::time::Instant;
use uuid::Uuid;

use super::owner_permits::OwnerPermit;
use super::{Caller, Error, Sessions};
use crate::domain::{
    Buin, DifferingSession, SessionId, SessionVersion, compare_ranges, difference,
};
use crate::repository::sessions;
use crate::telemetry::trace_single_statement;

/// A comparison that runs, for one caller. Each step is one statement at most, and passes the share of
/// the enterprise like a request of its own.
pub struct Comparison {
    sessions: Sessions,
    caller: Caller,
    /// The sessions of the enterprise, if those are searched that the copy does not have.
    scan: Option<VersionScan>,
    _slot: OwnerPermit<Buin>,
}

/// The sessions of an enterprise in the order of their ids, read page by page.
struct VersionScan {
    /// The last page.
    page: Vec<SessionVersion>,
    /// The number of sessions of the page that were compared.
    compared: usize,
    /// The last session that was read.
    end: SessionId,
    /// Whether the page is the last one.
    is_last: bool,
}

impl Sessions {
    /// Begins a comparison. `find_missing`: whether the result contains the sessions that the copy does
    /// not have.
    ///
    /// # Errors
    /// [`Error::TooManyComparisons`] or [`Error::Overloaded`] if too many run.
    pub fn begin_comparison(
        &self,
        caller: Caller,
        find_missing: bool,
    ) -> Result<Comparison, Error> {
        let slot = self.shared().comparison_slots.acquire(caller.app().buin)?;
        let scan = find_missing.then(VersionScan::new);
        Ok(Comparison { sessions: self.clone(), caller, scan, _slot: slot })
    }
}

impl Comparison {
    /// The maximum number of sessions of a step.
    pub const MAX_STEP: usize = 2_000;

    /// Compares a part of the copy: at least the first of its sessions, or as many as one statement
    /// reads. Returns those that differ, and the rest of the part.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn step<'p>(
        &mut self,
        part: &'p [SessionVersion],
    ) -> Result<(Vec<DifferingSession>, &'p [SessionVersion]), Error> {
        if self.scan.is_none() {
            let (part, rest) = part.split_at(part.len().min(Self::MAX_STEP));
            return Ok((self.find_differing(part).await?, rest));
        }
        self.read_page().await?;
        let Some(scan) = &mut self.scan else { return Ok((Vec::new(), &[])) };
        Ok(scan.merge(part))
    }

    /// The next sessions after all those of the copy, which the copy does not have. `None` at the end.
    /// The result is empty if only a page was read.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn rest(&mut self) -> Result<Option<Vec<DifferingSession>>, Error> {
        self.read_page().await?;
        let Some(scan) = &mut self.scan else { return Ok(None) };
        let remaining = &scan.page[scan.compared..];
        if remaining.is_empty() {
            return Ok(None);
        }
        let found = compare_ranges(&[], remaining);
        scan.compared = scan.page.len();
        Ok(Some(found))
    }

    async fn find_differing(
        &mut self,
        part: &[SessionVersion],
    ) -> Result<Vec<DifferingSession>, Error> {
        self.caller.restart_at(Instant::now());
        let pool = self.sessions.admit(&self.caller).await?;
        let finding = sessions::find_differing(&pool, self.caller.app().buin, part);
        let found = trace_single_statement("sessions.find_differing", finding).await?;
        let differing = found.into_iter().filter_map(|(copied, current)| {
            let difference = difference(copied.version, current)?;
            Some(DifferingSession { id: copied.id, difference })
        });
        Ok(differing.collect())
    }

    /// Reads the next page of the sessions, if all those of the last one were compared.
    async fn read_page(&mut self) -> Result<(), Error> {
        let Some(scan) = &mut self.scan else { return Ok(()) };
        if scan.is_last || scan.compared < scan.page.len() {
            return Ok(());
        }
        self.caller.restart_at(Instant::now());
        let pool = self.sessions.admit(&self.caller).await?;
        let buin = self.caller.app().buin;
        let reading = sessions::versions_after(&pool, buin, scan.end, Self::MAX_STEP);
        let page = trace_single_statement("sessions.versions_after", reading).await?;
        scan.replace_page(page, Self::MAX_STEP);
        Ok(())
    }
}

impl VersionScan {
    fn new() -> Self {
        let end = SessionId::new(Uuid::nil());
        Self { page: Vec::new(), compared: 0, end, is_last: false }
    }

    /// Continues with the next page, which has fewer sessions than `max` only at the end.
    fn replace_page(&mut self, page: Vec<SessionVersion>, max: usize) {
        self.is_last = page.len() < max;
        self.end = page.last().map_or(self.end, |session| session.id);
        (self.page, self.compared) = (page, 0);
    }

    /// Compares a part of the copy with the page, as far as both reach. Returns the differences, and
    /// the rest of the part.
    fn merge<'p>(
        &mut self,
        part: &'p [SessionVersion],
    ) -> (Vec<DifferingSession>, &'p [SessionVersion]) {
        let remaining = &self.page[self.compared..];
        let decided = match self.is_last {
            true => part.len(),
            false => part.partition_point(|copy| copy.id <= self.end),
        };
        let (part, rest) = part.split_at(decided);
        // Sessions after the part may be those of the next part.
        let used = match (rest, part.last()) {
            ([], Some(last)) => remaining.partition_point(|session| session.id <= last.id),
            ([], None) => 0,
            _ => remaining.len(),
        };
        let found = compare_ranges(part, &remaining[..used]);
        self.compared += used;
        (found, rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The pages of the sessions and the parts of the copy have any sizes.
        #[test]
        fn pages_and_parts_have_no_effect_on_the_result(
            copied in proptest::collection::btree_map(1_u8..60, 1_i64..3, 0..60),
            current in proptest::collection::btree_map(1_u8..60, 1_i64..3, 0..60),
            part_len in 1_usize..8,
            page_len in 1_usize..8,
        ) {
            let (copied, current) = (SessionVersion::list_for_tests(&copied), SessionVersion::list_for_tests(&current));
            let mut scan = VersionScan::new();
            let read_page = |scan: &mut VersionScan| {
                if !scan.is_last && scan.compared == scan.page.len() {
                    let later = current.iter().filter(|session| session.id > scan.end);
                    scan.replace_page(later.take(page_len).copied().collect(), page_len);
                }
            };
            let mut found = Vec::new();
            for part in copied.chunks(part_len) {
                let mut rest = part;
                while !rest.is_empty() {
                    read_page(&mut scan);
                    let (differing, after) = scan.merge(rest);
                    found.extend(differing);
                    rest = after;
                }
            }
            loop {
                read_page(&mut scan);
                if scan.compared == scan.page.len() {
                    break;
                }
                found.extend(compare_ranges(&[], &scan.page[scan.compared..]));
                scan.compared = scan.page.len();
            }
            prop_assert_eq!(found, compare_ranges(&copied, &current));
        }
    }
}
