//! The role of each server of the database, and how far the standbys are behind.

use crate::repository::Pool;
use crate::repository::connections::server_answers::{self, ServerAnswer};

/// The role of a database server.
#[derive(Clone, Debug, PartialEq)]
pub enum ServerRole {
    /// Its transactions may write.
    Primary,
    /// A primary whose transactions may not write by default.
    ReadOnly,
    /// A standby, with its distance to the primary.
    Standby(ReplicationLag),
    /// No answer, and the reason.
    Unreachable(String),
}

/// How far a standby is behind the primary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ReplicationLag {
    /// Bytes of the log that it has not replayed yet; `None` if no primary answers.
    pub bytes: Option<u64>,
    /// The age of the last transaction that it replayed, in seconds; 0 if it has replayed all.
    /// `None` if it has replayed no transaction yet.
    pub seconds: Option<f64>,
}

/// One of the servers of a database.
#[derive(Clone, Debug, PartialEq)]
pub struct DatabaseServerState {
    /// Its host and port.
    pub name: String,
    /// Its role now.
    pub role: ServerRole,
}

/// The state of each server, in the order of the URL. Takes at most a second.
pub(super) async fn states(pool: &Pool) -> Vec<DatabaseServerState> {
    let answers = server_answers::ask_all(pool).await;
    let answered = answers.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    let primary = answered.filter(|answer| !answer.is_standby).filter_map(|answer| answer.position);
    let primary = primary.max();
    let state = |(name, answer): (String, Result<ServerAnswer, String>)| {
        let role = match answer {
            Err(reason) => ServerRole::Unreachable(reason),
            Ok(answer) if answer.is_standby => {
                ServerRole::Standby(ReplicationLag::new(&answer, primary))
            }
            Ok(answer) if answer.is_read_only => ServerRole::ReadOnly,
            Ok(_) => ServerRole::Primary,
        };
        DatabaseServerState { name, role }
    };
    answers.into_iter().map(state).collect()
}

impl ReplicationLag {
    /// The distance of a standby to a primary at this position.
    fn new(standby: &ServerAnswer, primary: Option<i64>) -> Self {
        let bytes = primary.zip(standby.position).map(|(primary, replayed)| {
            // The standby may have been asked a moment later.
            u64::try_from(primary - replayed).unwrap_or_default()
        });
        let seconds = if bytes == Some(0) { Some(0.0) } else { standby.replayed_age };
        Self { bytes, seconds }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_standby_that_has_replayed_all_is_not_behind() {
        for (position, replayed_age, primary, bytes, seconds) in [
            (Some(5), Some(60.0), Some(5), Some(0), Some(0.0)),
            (Some(9), Some(60.0), Some(5), Some(0), Some(0.0)),
            (Some(5), Some(60.0), Some(8), Some(3), Some(60.0)),
            (Some(5), Some(60.0), None, None, Some(60.0)),
            (Some(5), None, Some(8), Some(3), None),
            (None, None, Some(8), None, None),
        ] {
            let standby =
                ServerAnswer { is_standby: true, is_read_only: true, position, replayed_age };
            let lag = ReplicationLag::new(&standby, primary);
            assert_eq!(lag, ReplicationLag { bytes, seconds }, "{position:?} {primary:?}");
        }
    }
}
