//! What shells and `man` know of the commands: all of them, in a form that those programs take.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::process::Home;

/// Every command, as `["app", "create"]`, read from the help.
fn commands(home: &Home, above: &[String]) -> Vec<Vec<String>> {
    let mut asked: Vec<&str> = above.iter().map(String::as_str).collect();
    asked.push("--help");
    let help = home.run(&asked).ok().stdout;
    let Some((_, listed)) = help.split_once("Commands:\n") else {
        return Vec::new();
    };
    let names = listed
        .lines()
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help");
    let mut found = Vec::new();
    for name in names {
        let command = [above, &[name.to_owned()]].concat();
        found.push(command.clone());
        found.extend(commands(home, &command));
    }
    found
}

/// Whether a program that reads files finds nothing wrong with these; `None` where it is missing.
fn accepted(program: &str, arguments: &[&str], files: &[&Path]) -> Option<String> {
    let done = Command::new(program).args(arguments).args(files).stdin(Stdio::null()).output();
    let done = done.ok()?;
    let said = [done.stdout, done.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    Some(if done.status.success() { said } else { format!("{}: {said}", done.status) })
}

#[test]
fn shells_complete_every_command() {
    let home = Home::new();
    let commands = commands(&home, &[]);
    assert!(commands.len() > 30 && commands.contains(&vec!["app".into(), "create".into()]));
    for (shell, check) in [
        ("bash", &["-n"][..]),
        ("zsh", &["-n"]),
        ("fish", &["--no-execute"]),
        ("powershell", &[]),
        ("elvish", &[]),
    ] {
        let script = home.run(&["completions", shell]).ok().stdout;
        for name in commands.iter().flatten() {
            assert!(script.contains(name.as_str()), "no {name} for {shell}");
        }
        for option in ["--app-id", "--callback-token", "--json", "--live", "--config"] {
            let option = if shell == "fish" { &option[2..] } else { option };
            assert!(script.contains(option), "no {option} for {shell}");
        }
        let file = home.parent.join(shell);
        std::fs::write(&file, script).unwrap();
        if !check.is_empty()
            && let Some(said) = accepted(shell, check, &[&file])
        {
            assert_eq!(said, "", "{shell}");
        }
    }
    home.run(&["completions", "dos"]).fails(2, &["bash, elvish, fish, powershell, zsh"]);
    assert!(!home.data_dir.exists(), "none of this needs a database");
}

#[test]
fn every_command_has_a_manual_page() {
    let mut home = Home::new();
    // What is wrong with the configuration is no concern of theirs.
    home.set("MUSTER__SERVER__BIND", "nowhere");
    let directory = home.parent.join("share/man/man1");
    home.run(&["man", directory.to_str().unwrap()]).ok();
    let mut expected: BTreeSet<String> = ["muster.1".to_owned()].into();
    expected.extend(commands(&home, &[]).iter().map(|one| format!("muster-{}.1", one.join("-"))));
    let mut found = BTreeSet::new();
    for page in std::fs::read_dir(&directory).unwrap() {
        let page = page.unwrap().path();
        let text = std::fs::read_to_string(&page).unwrap();
        assert!(text.contains(".SH NAME") && text.contains(".SH SYNOPSIS"), "{text}");
        if let Some(said) = accepted("mandoc", &["-T", "lint", "-W", "error"], &[&page]) {
            assert_eq!(said, "", "{}", page.display());
        }
        found.insert(page.file_name().unwrap().to_str().unwrap().to_owned());
    }
    assert_eq!(found, expected);
    let page = std::fs::read_to_string(directory.join("muster-app-create.1")).unwrap();
    assert!(page.contains("callback"), "{page}");
    home.run(&["man", "/dev/null/man"]).fails(1, &["cannot write manual pages into /dev/null/man"]);
}
