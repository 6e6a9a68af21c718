//! The lock that admits one migration at a time. It is that of sqlx, which ends with its connection.
//!
//! The surprise: no statement waits for the lock. An index that is built while its table is in use waits
//! for all older transactions, so a statement that waits for the lock would wait for itself.

use std::time::Duration;

use sqlx::postgres::PgConnection;

/// The interval between two attempts to get the lock.
const INTERVAL: Duration = Duration::from_millis(100);

/// Waits until this connection has the lock of its database.
pub(super) async fn acquire(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let database: String =
        sqlx::query_scalar("select current_database()::text").fetch_one(&mut *connection).await?;
    let id = lock_id(&database);
    loop {
        let is_locked: bool = sqlx::query_scalar("select pg_try_advisory_lock($1)")
            .bind(id)
            .fetch_one(&mut *connection)
            .await?;
        if is_locked {
            return Ok(());
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// The number of the lock for a database, as sqlx computes it.
fn lock_id(database: &str) -> i64 {
    0x3d32_ad9e * i64::from(crc32(database.as_bytes()))
}

/// The CRC-32 of the standards for ZIP and Ethernet.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| match crc & 1 {
            0 => crc >> 1,
            _ => (crc >> 1) ^ 0xedb8_8320,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_has_the_number_of_the_one_of_sqlx() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        assert_eq!(lock_id("123456789"), 0x3d32_ad9e * 0xcbf4_3926);
    }
}
