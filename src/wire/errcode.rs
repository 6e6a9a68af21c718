//! The table of error codes: the vendor's, and Muster's own in the block that it leaves free.

/// The `errcode` of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Errcode {
    /// It worked.
    Ok = 0,
    /// Something inside Muster failed; nothing about it leaves the house.
    Internal = -1,
    /// The app lacks the permission for this call.
    NoRight = 3,
    /// `opUser` is no member, or may not do this.
    IllegalAccess = 4,
    /// No access token, or an empty one.
    TokenEmpty = 100_000,
    /// An access token that is forged, of an unknown app, or revoked.
    TokenUnknown = 100_001,
    /// An access token that has expired.
    TokenExpired = 100_002,
    /// A field is missing, too long, of the wrong type, or contradictory.
    BadRequest = 100_003,
    /// Not JSON, or no JSON object; the outer message or the inner one.
    BadFormat = 100_004,
    /// An app that is unknown, disabled, or not the one that the token was given to.
    InvalidAppId = 100_005,
    /// The envelope cannot be opened.
    CannotDecrypt = 100_006,
    /// `buin` is missing.
    BuinMissing = 100_008,
    /// `buin` is not that of the app.
    BuinWrong = 100_009,
    /// `appId` is missing.
    AppIdMissing = 100_010,
    /// `encrypt` is missing.
    EncryptMissing = 100_011,
    /// `buin` is no integer.
    BuinNotInteger = 100_012,
    /// `appId` is no string.
    AppIdNotString = 100_013,
    /// `encrypt` is no string.
    EncryptNotString = 100_014,
    /// `sessionId` is missing.
    SessionIdMissing = 400_001,
    /// `sessionId` is no UUID.
    SessionIdInvalid = 400_002,
    /// No such session of this enterprise.
    SessionUnknown = 400_003,
    /// Fewer members than allowed.
    TooFewMembers = 400_004,
    /// More members than allowed.
    TooManyMembers = 400_005,
    /// The session is dissolved.
    SessionDissolved = 400_006,
    /// The session has another version than the caller named.
    VersionConflict = 400_009,
}

impl Errcode {
    /// The number on the wire.
    #[must_use]
    pub fn number(self) -> i32 {
        self as i32
    }
}
