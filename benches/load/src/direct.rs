//! One statement after the other on one connection, through sqlx: what a request would take if
//! there were nothing but the database.

use std::time::{Duration, Instant};

use sqlx::{AssertSqlSafe, Row as _};

use crate::database::Database;
use crate::generator::float;
use crate::latency::Latencies;

/// What was seen.
#[derive(Debug)]
pub struct Seen {
    /// Statements a second.
    pub rate: f64,
    /// Of each statement.
    pub latencies: Latencies,
}

/// Runs `statement` for `time`. `values` gives the values of its variables, other ones each time.
/// With `must_give` each must give a row.
///
/// # Errors
/// When one fails, or gives nothing.
pub fn alone(
    database: &mut Database,
    statement: &str,
    must_give: bool,
    time: Duration,
    mut values: impl FnMut() -> Vec<(&'static str, String)>,
) -> anyhow::Result<Seen> {
    let (sql, variables) = numbered(statement);
    let Database { runtime, connection, .. } = database;
    let mut latencies = Latencies::default();
    let mut done = 0;
    runtime.block_on(async {
        let began = Instant::now();
        while began.elapsed() < time {
            let values = values();
            let began = Instant::now();
            let mut query = sqlx::query(AssertSqlSafe(sql.clone()));
            for variable in &variables {
                let value = values.iter().find(|(name, _)| name == variable);
                let (_, value) =
                    value.ok_or_else(|| anyhow::anyhow!("no value for :{variable}"))?;
                query = query.bind(value.clone());
            }
            let rows = query.fetch_all(&mut *connection).await?;
            if must_give {
                anyhow::ensure!(rows.len() == 1, "{} rows instead of one", rows.len());
                // Looks into the row, as who reads it would.
                let _ = rows[0].try_get_raw(0)?;
            }
            latencies.push(began.elapsed());
            done += 1;
        }
        anyhow::Ok(())
    })?;
    Ok(Seen { rate: float(done) / time.as_secs_f64(), latencies })
}

/// Turns `:name` into `$1`, `$2` …, and gives the names in that order.
fn numbered(statement: &str) -> (String, Vec<String>) {
    let mut sql = String::new();
    let mut names: Vec<String> = Vec::new();
    let mut rest = statement;
    while let Some((before, after)) = rest.split_once(':') {
        sql.push_str(before);
        let end =
            after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
        if let Some(cast) = after.strip_prefix(':') {
            sql.push_str("::");
            rest = cast;
        } else if end == 0 {
            sql.push(':');
            rest = after;
        } else {
            let name = &after[..end];
            let at = names.iter().position(|known| known == name).unwrap_or_else(|| {
                names.push(name.to_owned());
                names.len() - 1
            });
            sql.push_str(&format!("${}", at + 1));
            rest = &after[end..];
        }
    }
    sql.push_str(rest);
    (sql, names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_become_parameters_and_casts_stay() {
        let (sql, names) = numbered(r#"select :n::text, '{"a":"b"}', :v, :n"#);
        assert_eq!(sql, r#"select $1::text, '{"a":"b"}', $2, $1"#);
        assert_eq!(names, ["n", "v"]);
    }
}
