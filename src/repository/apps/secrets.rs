//! The secrets of all apps at once, to seal them with another master key.

use sqlx::PgConnection;
use zeroize::Zeroizing;

use crate::wire::SealContext;

/// The secrets of an app, sealed or not.
pub(in crate::repository) struct AppSecrets {
    pub(in crate::repository) buin: i64,
    pub(in crate::repository) app_id: String,
    pub(in crate::repository) aes_key: Zeroizing<Vec<u8>>,
    pub(in crate::repository) callback_token: Option<Zeroizing<Vec<u8>>>,
    pub(in crate::repository) previous_aes_key: Option<Zeroizing<Vec<u8>>>,
}

/// The context of an app's AES key, to which its seal is bound.
pub(in crate::repository) fn aes_key_context(buin: i64, app_id: &str) -> SealContext<'_> {
    SealContext { column: "app.aes_key", buin, app_id }
}

/// The context of the AES key before the last rotation, to which its seal is bound.
pub(in crate::repository) fn previous_aes_key_context(buin: i64, app_id: &str) -> SealContext<'_> {
    SealContext { column: "app.previous_aes_key", buin, app_id }
}

/// The context of an app's callback token, to which its seal is bound.
pub(in crate::repository) fn callback_token_context(buin: i64, app_id: &str) -> SealContext<'_> {
    SealContext { column: "app.callback_token", buin, app_id }
}

/// The stored secrets of all apps, sealed or not. Locks the rows until the transaction ends.
pub(in crate::repository) async fn lock_secrets(
    connection: &mut PgConnection,
) -> Result<Vec<AppSecrets>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select buin, app_id, aes_key, callback_token, previous_aes_key
        from app
        order by buin, app_id
        for update
        "#
    )
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| AppSecrets {
            buin: row.buin,
            app_id: row.app_id,
            aes_key: Zeroizing::new(row.aes_key),
            callback_token: row.callback_token.map(Zeroizing::new),
            previous_aes_key: row.previous_aes_key.map(Zeroizing::new),
        })
        .collect())
}

/// Stores the secrets of these apps.
pub(in crate::repository) async fn update_secrets(
    connection: &mut PgConnection,
    sealed: &[AppSecrets],
) -> Result<(), sqlx::Error> {
    let buins: Vec<i64> = sealed.iter().map(|app| app.buin).collect();
    let app_ids: Vec<&str> = sealed.iter().map(|app| app.app_id.as_str()).collect();
    let aes_keys: Vec<&[u8]> = sealed.iter().map(|app| app.aes_key.as_slice()).collect();
    let optional = |secret: fn(&AppSecrets) -> &Option<Zeroizing<Vec<u8>>>| {
        let secrets = sealed.iter().map(secret);
        secrets.map(|secret| secret.as_ref().map(|it| it.as_slice())).collect::<Vec<_>>()
    };
    let tokens = optional(|app| &app.callback_token);
    let previous = optional(|app| &app.previous_aes_key);
    sqlx::query!(
        r#"
        update app
        set aes_key = sealed.aes_key, callback_token = sealed.callback_token,
            previous_aes_key = sealed.previous_aes_key
        from unnest($1::bigint[], $2::text[], $3::bytea[], $4::bytea[], $5::bytea[])
            as sealed (buin, app_id, aes_key, callback_token, previous_aes_key)
        where app.buin = sealed.buin and app.app_id = sealed.app_id
        "#,
        &buins,
        &app_ids as &[&str],
        &aes_keys as &[&[u8]],
        &tokens as &[Option<&[u8]>],
        &previous as &[Option<&[u8]>],
    )
    .execute(connection)
    .await?;
    Ok(())
}
