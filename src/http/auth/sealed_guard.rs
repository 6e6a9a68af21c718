//! Guards the sealed form against attackers who have a credential of an app, but not its AES key: an
//! app that sends texts which cannot be opened is throttled at its address, and a text that was
//! accepted can be refused a second time.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use ipnet::IpNet;

use super::attempt_throttle::AttemptThrottle;
use crate::clock::Clock;
use crate::domain::{App, AppId, Buin};
use crate::metrics::{Metrics, SealedRejections};
use crate::service::ReplayMemory;
use crate::wire::SealedFingerprint;

/// Failures are forgotten after this time. A client with a valid credential sends none, and a patient
/// attacker must not get many free attempts in a day.
const RESET_AFTER: TimeDelta = TimeDelta::hours(1);
/// The number of creates and updates that are remembered, to refuse them a second time.
const MAX_REMEMBERED_WRITES: usize = 1_048_576;

/// The sealed texts that the server has seen.
pub(super) struct SealedGuard {
    /// The failures of an app at a network.
    throttle: AttemptThrottle<(IpNet, Buin, AppId)>,
    /// The creates and updates that were accepted, if they are refused a second time.
    accepted_writes: Option<ReplayMemory>,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl SealedGuard {
    /// An app must wait after `free_attempts` failures; 0 disables the throttle.
    pub(super) fn new(
        free_attempts: u32,
        refuse_replayed_writes: bool,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Self {
        let throttle = AttemptThrottle::new(free_attempts, RESET_AFTER);
        let accepted_writes =
            refuse_replayed_writes.then(|| ReplayMemory::new(MAX_REMEMBERED_WRITES));
        Self { throttle, accepted_writes, clock, metrics }
    }

    pub(super) fn rejections(&self) -> &SealedRejections {
        &self.metrics.sealed_rejections
    }

    /// The number of failures after which an app must wait.
    pub(super) fn max_failures(&self) -> u32 {
        self.throttle.free_attempts()
    }

    /// The time for which the app is throttled. Takes a lock only if there are failures of any app.
    pub(super) fn retry_after(
        &self,
        network: impl FnOnce() -> IpNet,
        app: &App,
    ) -> Option<Duration> {
        if !self.throttle.has_records() {
            return None;
        }
        let source = (network(), app.buin, app.app_id.clone());
        self.counted(self.throttle.retry_after(&source, self.clock.now()))
    }

    /// Records a failure. Returns the wait if the app is throttled already.
    pub(super) fn record_failure(&self, network: IpNet, app: &App) -> Option<Duration> {
        let source = (network, app.buin, app.app_id.clone());
        self.counted(self.throttle.record_failure(&source, self.clock.now()))
    }

    fn counted(&self, wait: Option<Duration>) -> Option<Duration> {
        if wait.is_some() {
            self.rejections().throttled.inc();
        }
        wait
    }

    /// The fingerprint of a create or update, if it must be remembered.
    pub(super) fn write_fingerprint(&self, sealed: &str) -> Option<SealedFingerprint> {
        self.accepted_writes.as_ref().and_then(|_| SealedFingerprint::from_sealed(sealed))
    }

    /// Remembers a create or update. Returns whether it is new.
    pub(super) fn remember_write(&self, fingerprint: SealedFingerprint) -> bool {
        self.accepted_writes.as_ref().is_none_or(|memory| memory.remember(fingerprint))
    }
}
