//! The error codes: those of the vendor, and Muster's own in the block that the vendor leaves free.

/// The `errcode` of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Errcode {
    /// Success.
    Ok = 0,
    /// An internal error, without details for the client.
    Internal = -1,
    /// The app lacks the permission for this request.
    NoRight = 3,
    /// `opUser` is not a member, or lacks the right to do this.
    IllegalAccess = 4,
    /// The access token is missing or empty.
    TokenEmpty = 100_000,
    /// The access token is forged or revoked, or its app is unknown.
    TokenUnknown = 100_001,
    /// The access token has expired.
    TokenExpired = 100_002,
    /// A field is missing, too long, of the wrong type, or contradictory.
    BadRequest = 100_003,
    /// The outer or the inner message is not JSON, or not a JSON object.
    BadFormat = 100_004,
    /// The app is unknown, disabled, or another app than that of the token.
    InvalidAppId = 100_005,
    /// The envelope cannot be opened.
    CannotDecrypt = 100_006,
    /// `buin` is missing.
    BuinMissing = 100_008,
    /// `buin` is not the enterprise of the app.
    BuinWrong = 100_009,
    /// `appId` is missing.
    AppIdMissing = 100_010,
    /// `encrypt` is missing.
    EncryptMissing = 100_011,
    /// `buin` is not an integer.
    BuinNotInteger = 100_012,
    /// `appId` is not a string.
    AppIdNotString = 100_013,
    /// `encrypt` is not a string.
    EncryptNotString = 100_014,
    /// `sessionId` is missing.
    SessionIdMissing = 400_001,
    /// `sessionId` is not a UUID.
    SessionIdInvalid = 400_002,
    /// The enterprise has no such session.
    SessionUnknown = 400_003,
    /// Too few members.
    TooFewMembers = 400_004,
    /// Too many members.
    TooManyMembers = 400_005,
    /// The session is dissolved.
    SessionDissolved = 400_006,
    /// The session has another version than the caller expects.
    VersionConflict = 400_009,
}

impl Errcode {
    /// The number in the protocol.
    #[must_use]
    pub fn number(self) -> i32 {
        self as i32
    }
}
