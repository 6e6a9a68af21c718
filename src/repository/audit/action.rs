//! The administrative acts. Their names are stored, so they never change.

/// An administrative act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditAction {
    /// An app was created.
    AppCreate,
    /// An app was changed in several ways, or in a way without a separate action.
    AppUpdate,
    /// An app was disabled.
    AppDisable,
    /// An app was enabled.
    AppEnable,
    /// The secrets of an app were shown.
    AppShowSecrets,
    /// An app got another AES key.
    AppRotateKey,
    /// An app was taken out of use for ever.
    AppArchive,
    /// An app was deleted.
    AppDelete,
    /// An app's callbacks were paused.
    AppPauseCallbacks,
    /// An app's callbacks were resumed.
    AppResumeCallbacks,
    /// An API key was created.
    KeyCreate,
    /// An API key was revoked.
    KeyRevoke,
    /// Callbacks were made due again.
    DeliveryReplay,
    /// A consumer of the feed was moved to another position.
    ConsumerReset,
    /// Parked events of a consumer were released.
    ConsumerRelease,
    /// The secrets were sealed for the first time.
    SecretsSeal,
    /// The secrets were sealed with another master key.
    SecretsRotate,
    /// Old master keys were removed from their file.
    SecretsDropKeys,
    /// A backup was made.
    DatabaseBackup,
    /// A backup was restored.
    DatabaseRestore,
    /// All data were moved here from another database.
    DatabaseMove,
    /// The feed began another epoch.
    DatabaseNewEpoch,
    /// Old records of the audit were deleted.
    AuditPrune,
}

impl AuditAction {
    /// Every action.
    pub const ALL: [Self; 23] = [
        Self::AppCreate,
        Self::AppUpdate,
        Self::AppDisable,
        Self::AppEnable,
        Self::AppShowSecrets,
        Self::AppRotateKey,
        Self::AppArchive,
        Self::AppDelete,
        Self::AppPauseCallbacks,
        Self::AppResumeCallbacks,
        Self::KeyCreate,
        Self::KeyRevoke,
        Self::DeliveryReplay,
        Self::ConsumerReset,
        Self::ConsumerRelease,
        Self::SecretsSeal,
        Self::SecretsRotate,
        Self::SecretsDropKeys,
        Self::DatabaseBackup,
        Self::DatabaseRestore,
        Self::DatabaseMove,
        Self::DatabaseNewEpoch,
        Self::AuditPrune,
    ];

    /// The name of the action: its noun, a dot, and its verb.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AppCreate => "app.create",
            Self::AppUpdate => "app.update",
            Self::AppDisable => "app.disable",
            Self::AppEnable => "app.enable",
            Self::AppShowSecrets => "app.show_secrets",
            Self::AppRotateKey => "app.rotate_key",
            Self::AppArchive => "app.archive",
            Self::AppDelete => "app.delete",
            Self::AppPauseCallbacks => "app.pause_callbacks",
            Self::AppResumeCallbacks => "app.resume_callbacks",
            Self::KeyCreate => "key.create",
            Self::KeyRevoke => "key.revoke",
            Self::DeliveryReplay => "delivery.replay",
            Self::ConsumerReset => "consumer.reset",
            Self::ConsumerRelease => "consumer.release",
            Self::SecretsSeal => "secrets.seal",
            Self::SecretsRotate => "secrets.rotate",
            Self::SecretsDropKeys => "secrets.drop_keys",
            Self::DatabaseBackup => "database.backup",
            Self::DatabaseRestore => "database.restore",
            Self::DatabaseMove => "database.move",
            Self::DatabaseNewEpoch => "database.new_epoch",
            Self::AuditPrune => "audit.prune",
        }
    }

    /// The noun of the action: the part of its name before the dot.
    #[must_use]
    pub fn noun(self) -> &'static str {
        self.name().split('.').next().unwrap_or_default()
    }
}
