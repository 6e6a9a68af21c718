//! Muster's statements, read from `.sqlx/` at run time. Their parameters are replaced by variables
//! of pgbench.
//!
//! The statement itself says which column a parameter fills (`unnest($1::uuid[], …) as item
//! (session_id, …)`), so the order of parameters may change. A column without a line in
//! [`expression`] is an error that names it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;

use crate::accounts::{self, DIGITS};

/// The session's id: the digits of the set or of the moment, then the number.
const ID: &str = "(:prefix::text || lpad(:n::text, {digits}, '0'))::uuid";
const A1: &str = "('u' || lpad(:a1::text, 5, '0'))";
const TITLE: &str = "'Session ' || :n::text";

/// The changes of a create with five members. Only their size matters.
const CREATED: &str = r#"'{"title":"Session 12345","owner":"u00001","member":["u00001","u00018","u00035","u00052","u00069"]}'"#;
const CHANGED: &str = r#"'{"addMember":["x00069"],"delMember":["u00069"]}'"#;

/// The expression for a parameter: first those of reads and creates, then of updates, then common
/// ones. A name is that of the list and the column, or `$` and a number without a list.
fn expression(kind: Kind, name: &str) -> Option<String> {
    let text = match (kind, name) {
        (Kind::Get, "$1") => format!("array[{ID}]"),

        (Kind::Create, "title.session_id") => format!("array[{ID}]"),
        (Kind::Create, "title.buin") => "array[:buin::bigint]".to_owned(),
        (Kind::Create, "title.folded") => format!("array[lower({TITLE})]"),
        (Kind::Create, "item.version") => "array[1]".to_owned(),
        (Kind::Create, "item.changes") => format!("array[{CREATED}]"),
        (Kind::Create, "member.session_id") => format!("array_fill({ID}, array[5])"),
        (Kind::Create, "member.buin") => "array_fill(:buin::bigint, array[5])".to_owned(),
        (Kind::Create, "member.account") => {
            let five = (1..=5).map(|k| format!("'u' || lpad(:a{k}::text, 5, '0')"));
            format!("array[{}]", five.collect::<Vec<_>>().join(", "))
        }
        (Kind::Create, "member.joined_version") => "array[1, 1, 1, 1, 1]".to_owned(),
        (Kind::Create, "member.position") => "array[0, 1, 2, 3, 4]".to_owned(),

        (Kind::Update, "item.expected_version") => "array[:v::bigint]".to_owned(),
        (Kind::Update, "item.state") => "array['active']".to_owned(),
        (Kind::Update, "item.version" | "event.version" | "added.joined_version") => {
            "array[:v::bigint + 1]".to_owned()
        }
        (Kind::Update, "event.kind") => "array['updated']".to_owned(),
        (Kind::Update, "event.session_id") => format!("array[{ID}]"),
        (Kind::Update, "event.title") => format!("array[{TITLE}]"),
        (Kind::Update, "event.operator" | "event.owner") => format!("array[{A1}]"),
        (Kind::Update, "event.app_id") => "array[:app::text]".to_owned(),
        (Kind::Update, "event.reason" | "event.patch" | "event.trace") => "array[null]".to_owned(),
        (Kind::Update, "event.decided_at") => "array[now()]".to_owned(),
        // The time of the database's clock.
        (Kind::Create, "$29") | (Kind::Update, "$8") => "null".to_owned(),
        (Kind::Update, "event.changes") => format!("array[{CHANGED}]"),
        (Kind::Update, "removed.session_id" | "added.session_id") => format!("array[{ID}]"),
        (Kind::Update, "removed.account") => substitute_if("= 0"),
        (Kind::Update, "added.account") => substitute_if("= 1"),
        (Kind::Update, "added.position") => "array[0]".to_owned(),
        (Kind::Update, "changed_role.session_id") => format!("array_fill({ID}, array[2])"),
        (Kind::Update, "changed_role.version") => "array_fill(:v::bigint + 1, array[2])".to_owned(),
        (Kind::Update, "changed_role.account") => {
            format!("{} || {}", substitute_if("= 1"), substitute_if("= 0"))
        }
        (Kind::Update, "changed_role.role") => "array['member', 'member']".to_owned(),
        (Kind::Update, "changed_role.gained") => "array[true, false]".to_owned(),

        (_, "item.session_id") => format!("array[{ID}]"),
        (_, "item.buin") => "array[:buin::bigint]".to_owned(),
        (_, "item.title") => format!("array[{TITLE}]"),
        (_, "item.owner" | "item.operator") => format!("array[{A1}]"),
        (_, "item.member_count") => "array[5]".to_owned(),
        (_, "item.decided_at") => "array[now()]".to_owned(),
        (_, "item.app_id") => "array[:app::text]".to_owned(),
        // These requests have no trace.
        (_, "item.reason" | "item.trace") => "array[null]".to_owned(),
        (_, "item.attributes") => "array[null]".to_owned(),
        // No title changes, no member moves, no request has an idempotency key.
        (Kind::Update, name) if name.starts_with("title.") || name.starts_with("moved.") => {
            "'{}'".to_owned()
        }
        (_, name) if name.starts_with("key.") => "'{}'".to_owned(),
        _ => return None,
    };
    Some(text.replace("{digits}", &DIGITS.to_string()))
}

/// The fifth member, or its substitute, depending on the parity of the version.
fn substitute_if(parity: &str) -> String {
    format!(
        "array[(case when :v::bigint % 2 {parity} then 'x' else 'u' end) || lpad(:a5::text, 5, '0')]"
    )
}

/// The purpose of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Creates a session of five members.
    Create,
    /// Adds one member and removes another, guarded by the version.
    Update,
    /// Reads a session.
    Get,
}

impl Kind {
    fn matches(self, query: &str) -> bool {
        let has = |text| query.contains(text);
        match self {
            Self::Create => {
                query.starts_with("with item as") && has("insert into session (") && has("unnest(")
            }
            Self::Update => {
                query.starts_with("with item as") && has("update session ") && has("unnest(")
            }
            Self::Get => {
                query.starts_with("select")
                    && has("from session ")
                    && has("= any($1)")
                    && !has("for update")
            }
        }
    }
}

/// The three statements, with variables.
#[derive(Debug)]
pub struct Statements {
    create: String,
    update: String,
    get: String,
}

#[derive(Deserialize)]
struct Prepared {
    query: String,
    describe: Describe,
}

#[derive(Deserialize)]
struct Describe {
    parameters: Parameters,
}

#[derive(Deserialize)]
struct Parameters {
    #[serde(rename = "Left")]
    types: Vec<serde_json::Value>,
}

impl Statements {
    /// Reads the statements from the directory `.sqlx`.
    ///
    /// # Errors
    /// If a statement is missing, or has an unknown parameter.
    pub fn read(directory: &Path) -> anyhow::Result<Self> {
        let mut all = Vec::new();
        for entry in std::fs::read_dir(directory)? {
            let text = std::fs::read(entry?.path())?;
            // Queries without parameters have another form and are not needed.
            if let Ok(mut prepared) = serde_json::from_slice::<Prepared>(&text) {
                prepared.query = one_line(&prepared.query);
                all.push(prepared);
            }
        }
        let read = |kind: Kind| {
            let mut found = all.iter().filter(|prepared| kind.matches(&prepared.query));
            match (found.next(), found.next()) {
                (Some(prepared), None) => {
                    let count = prepared.describe.parameters.types.len();
                    with_variables(kind, &prepared.query, count)
                        .with_context(|| format!("the statement of {kind:?}"))
                }
                (None, _) => bail!("found no statement of {kind:?} in .sqlx"),
                _ => bail!("found several statements of {kind:?} in .sqlx"),
            }
        };
        Ok(Self { create: read(Kind::Create)?, update: read(Kind::Update)?, get: read(Kind::Get)? })
    }

    /// Creates sessions with random members. Clients take turns, so that ids grow as Muster's do.
    pub fn create_script(&self) -> String {
        self.create_script_from(&accounts::pgbench_random_first())
    }

    /// Creates the sessions of a set.
    pub fn seed_script(&self) -> String {
        self.create_script_from(&accounts::pgbench_first())
    }

    fn create_script_from(&self, first: &str) -> String {
        let members = accounts::pgbench_members();
        format!(
            "\\set n :i * :clients + :client_id\n{first}{members}{};\n\\set i :i + 1\n",
            self.create
        )
    }

    /// Reads random sessions of a set.
    pub fn get_script(&self) -> String {
        format!("\\set n random(0, :count - 1)\n{};\n", self.get)
    }

    /// Updates the sessions of a set. Each client has `:slots` sessions and visits them in turn, so
    /// it knows their versions. It reads once from the database where its last run stopped.
    pub fn update_script(&self) -> String {
        let (first, members) = (accounts::pgbench_first(), accounts::pgbench_members());
        let id = |n: &str| ID.replace(":n::text", n).replace("{digits}", &DIGITS.to_string());
        let from = id("(:client_id::bigint * :slots::bigint)::text");
        let to = id("((:client_id::bigint + 1) * :slots::bigint - 1)::text");
        format!(
            "\\if :i < 0\n\
             select coalesce(sum(version - 1), 0)::bigint as i from session \
             where session_id between {from} and {to} \\gset\n\
             \\endif\n\
             \\set n :client_id * :slots + (:i * {stride}) % :slots\n\
             \\set v :i / :slots + 1\n\
             {first}{members}{update};\n\
             \\set i :i + 1\n",
            stride = accounts::VISIT_STRIDE,
            update = self.update,
        )
    }
}

/// The query in one line, without comments: a comment would end only at the end of the line.
fn one_line(query: &str) -> String {
    let code = query.lines().filter_map(|line| line.split("--").next());
    code.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ")
}

fn with_variables(kind: Kind, query: &str, count: usize) -> anyhow::Result<String> {
    let names = names(query)?;
    let mut out = String::new();
    let mut rest = query;
    let mut used = std::collections::BTreeSet::new();
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let end = after.find(|c: char| !c.is_ascii_digit()).unwrap_or(after.len());
        let number: usize = after[..end].parse().context("a $ that is not a parameter")?;
        let name = names.get(&number).cloned().unwrap_or_else(|| format!("${number}"));
        let expression = expression(kind, &name).with_context(|| {
            format!(
                "parameter ${number} is {name}, which benches/load/src/statement.rs does not know"
            )
        })?;
        out.push_str(&format!("({expression})"));
        used.insert(number);
        rest = &after[end..];
    }
    out.push_str(rest);
    ensure!(
        used.len() == count && used.last() == Some(&count),
        "it has {count} parameters, {} were found in its text",
        used.len()
    );
    Ok(out)
}

/// The list and the column that each parameter fills.
fn names(query: &str) -> anyhow::Result<BTreeMap<usize, String>> {
    let mut names = BTreeMap::new();
    for part in query.split("unnest(").skip(1) {
        let (arguments, rest) = part.split_once(')').context("unnest without an end")?;
        let (_, alias) = rest.split_once(" as ").context("unnest without a name")?;
        let (list, columns) = alias.split_once('(').context("unnest without columns")?;
        let (columns, _) = columns.split_once(')').context("columns without an end")?;
        let columns: Vec<&str> = columns.split(',').map(str::trim).collect();
        let arguments: Vec<&str> = arguments.split(',').map(str::trim).collect();
        ensure!(arguments.len() <= columns.len(), "{list}: fewer columns than arrays");
        for (argument, column) in arguments.iter().zip(columns) {
            let digits = argument.trim_start_matches('$').split("::").next().unwrap_or_default();
            let number =
                digits.parse().with_context(|| format!("{list}: {argument} is not a parameter"))?;
            names.insert(number, format!("{}.{column}", list.trim()));
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn current_statements_are_recognized() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let statements = Statements::read(&root.join(".sqlx")).unwrap();
        let Statements { create, update, get } = statements;
        for (kind, statement) in [(Kind::Create, create), (Kind::Update, update), (Kind::Get, get)]
        {
            assert!(!statement.contains('$'), "{kind:?}");
        }
    }

    #[test]
    fn comments_do_not_swallow_the_rest_of_a_statement() {
        let query = "\n    select 1 -- the first\n    -- all rows\n    from item\n";
        assert_eq!(one_line(query), "select 1 from item");
    }

    #[test]
    fn unknown_column_is_named_in_the_error() {
        let query = "select * from unnest($1::text[]) as item (colour)";
        let error = with_variables(Kind::Create, query, 1).unwrap_err().to_string();
        assert!(error.contains("item.colour"), "{error}");
    }

    #[test]
    fn unused_parameter_is_an_error() {
        let query = "select * from unnest($1::text[]) as item (title)";
        with_variables(Kind::Create, query, 1).unwrap();
        with_variables(Kind::Create, query, 2).unwrap_err();
    }
}
