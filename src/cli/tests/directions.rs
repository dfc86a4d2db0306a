//! Holds what `ARCHITECTURE.md` says of crates against the manifests.
//!
//! The rules are read from the page itself: the table of crates with its columns "may use" and "never reaches", the
//! sentence that begins with "Nothing depends on", and the table under "Dependencies". A check that only agreed with a
//! copy of the page would let the two drift apart.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a word in "never reaches" means where it is not the name of a crate of the workspace: packages that may not be
/// declared, and texts that may not stand in the code. A word that is not listed here is a violation, so that the page
/// never promises what nothing holds.
const ABSENCES: &[(&str, &[&str], &[&str])] = &[
    ("any async runtime", RUNTIMES, &[]),
    ("runtimes", RUNTIMES, &[]),
    (
        "sockets",
        &["glommio", "mio", "socket2", "tokio"],
        &["std::net", "unix::net"],
    ),
    (
        "wall clock",
        &["chrono", "jiff", "time"],
        &["Instant::now", "SystemTime::now"],
    ),
];

const RUNTIMES: &[&str] = &["async-std", "compio", "futures", "glommio", "monoio", "smol", "tokio"];

/// The dependencies that are known to build without `std`, with the features that their entry asks for.
const WITHOUT_STD: &[&str] = &["hashbrown", "xxhash-rust"];

/// The word that stands for an empty cell.
const NOTHING: &str = "–";

#[test]
fn crates_depend_only_as_the_page_says() {
    assert_eq!(direction_violations(&page(), &Workspace::read()), NO_VIOLATIONS);
}

#[test]
fn the_domain_is_without_std() {
    let workspace = Workspace::read();
    let root = fs::read_to_string(workspace.root.join("src/domain/src/lib.rs")).expect("the domain has a lib.rs");
    assert_eq!(
        no_std_violations(&root, &workspace.members["src/domain"]),
        NO_VIOLATIONS
    );
}

#[test]
fn dependencies_are_declared_once() {
    let workspace = Workspace::read();
    for directory in workspace.members.keys() {
        let path = workspace.root.join(directory).join("Cargo.toml");
        let manifest = fs::read_to_string(&path).expect("a member has a manifest");
        assert_eq!(manifest_violations(&manifest), NO_VIOLATIONS, "{}", path.display());
    }
}

#[test]
fn each_dependency_has_its_line_on_the_page() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace has a manifest");
    assert_eq!(dependency_violations(&page(), &manifest), NO_VIOLATIONS);
}

/// The checks above pass on a sound project; these plant a fault in a copy of the page or of a manifest, and expect it to
/// be named.
mod canaries {
    use super::*;

    /// Replaces `from`, which must be there, so that a canary does not die of a rewording.
    fn doctored(text: &str, from: &str, to: &str) -> String {
        assert!(text.contains(from), "the canary looks for {from:?}");
        text.replacen(from, to, 1)
    }

    fn check(violations: &[String], expected: &str) {
        assert!(
            violations.iter().any(|found| found.contains(expected)),
            "no {expected:?} in {violations:#?}"
        );
    }

    /// The page with one cell of the table of crates replaced.
    fn with_cell(directory: &str, column: usize, cell: &str) -> String {
        let page = page();
        let start = format!("| `{directory}` |");
        let row = page
            .lines()
            .find(|line| line.starts_with(&start))
            .expect("the crate has a row");
        let mut cells: Vec<&str> = row.split('|').collect();
        cells[column] = cell;
        doctored(&page, row, &cells.join("|"))
    }

    const MAY_USE: usize = 3;
    const NEVER_REACHES: usize = 4;

    #[test]
    fn a_use_that_is_not_allowed() {
        let page = with_cell("src/engine", MAY_USE, " domain, record, protocol ");
        check(
            &direction_violations(&page, &Workspace::read()),
            "engine may not use journal",
        );
    }

    #[test]
    fn what_it_uses_is_read_from_the_table() {
        let page = with_cell("src/engine", MAY_USE, " domain, record, journal ");
        check(
            &direction_violations(&page, &Workspace::read()),
            "server may not use protocol",
        );
    }

    #[test]
    fn a_crate_out_of_reach() {
        let page = with_cell("src/server", NEVER_REACHES, " client, record ");
        check(
            &direction_violations(&page, &Workspace::read()),
            "server reaches record",
        );
    }

    #[test]
    fn a_package_out_of_reach() {
        let page = with_cell("src/server", NEVER_REACHES, " runtimes ");
        check(
            &direction_violations(&page, &Workspace::read()),
            "server reaches runtimes: it declares glommio",
        );
    }

    #[test]
    fn a_promise_that_nothing_holds() {
        let page = with_cell("src/server", NEVER_REACHES, " the moon ");
        check(
            &direction_violations(&page, &Workspace::read()),
            "nothing holds \"the moon\"",
        );
    }

    #[test]
    fn a_missing_row_and_a_row_too_many() {
        let page = doctored(&page(), "| `src/record` |", "| `src/parchment` |");
        let violations = direction_violations(&page, &Workspace::read());
        check(&violations, "src/record has no row");
        check(&violations, "src/parchment is no crate");
    }

    #[test]
    fn a_dependency_on_what_nothing_depends_on() {
        let page = doctored(&page(), "Nothing depends on `simulator`", "Nothing depends on `engine`");
        check(
            &direction_violations(&page, &Workspace::read()),
            "simulator depends on engine",
        );
    }

    #[test]
    fn a_clock_in_the_code() {
        assert!(mentions("let now = Instant::now();", "Instant::now"));
        assert!(!mentions("    // Instant::now would differ at replay.", "Instant::now"));
    }

    #[test]
    fn a_version_in_a_member() {
        check(
            &manifest_violations("[dependencies]\nserde = '1'\n[lints]\nworkspace = true"),
            "serde",
        );
        check(
            &manifest_violations("[dev-dependencies.serde]\nversion = '1'\n[lints]\nworkspace = true"),
            "serde",
        );
        check(
            &manifest_violations("[target.'cfg(unix)'.dependencies]\nlibc = '0.2'\n[lints]\nworkspace = true"),
            "libc",
        );
        check(&manifest_violations("[dependencies]\nserde.workspace = true"), "lints");
    }

    #[test]
    fn std_in_the_domain() {
        let workspace = Workspace::read();
        check(
            &no_std_violations("extern crate alloc;", &workspace.members["src/domain"]),
            "#![no_std]",
        );
        check(
            &no_std_violations("#![no_std]\nextern crate std;", &workspace.members["src/domain"]),
            "extern crate std",
        );
        check(
            &no_std_violations("#![no_std]", &workspace.members["src/server"]),
            "glommio",
        );
    }

    #[test]
    fn a_dependency_without_a_line() {
        let manifest = "[workspace.dependencies]\nleft-pad = '1'";
        let violations = dependency_violations(&page(), manifest);
        check(&violations, "left-pad has no line");
        check(&violations, "crc32c is no dependency");
    }
}

const NO_VIOLATIONS: [String; 0] = [];

/// A member of the workspace, as its manifest declares it.
#[derive(Default)]
struct Member {
    /// Directories of the members that it depends on: for its code, and for its tests or build as well.
    uses: BTreeSet<String>,
    uses_in_any_kind: BTreeSet<String>,
    /// Packages from outside that its code depends on, each with the features asked for.
    packages: BTreeMap<String, Vec<String>>,
}

/// The members by their directory, such as `src/engine`.
struct Workspace {
    root: PathBuf,
    members: BTreeMap<String, Member>,
}

impl Workspace {
    /// Asks cargo, which reads manifests only: no network, no build.
    fn read() -> Self {
        let root = root();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into());
        let output = Command::new(cargo)
            .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
            .current_dir(&root)
            .output()
            .expect("cargo runs");
        assert!(
            output.status.success(),
            "cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON");

        let directory_of = |path: &str| {
            let relative = Path::new(path)
                .strip_prefix(&root)
                .expect("members lie in the workspace");
            relative.to_str().expect("paths of members are text").to_owned()
        };
        let mut members = BTreeMap::new();
        for package in array(&metadata["packages"]) {
            let manifest = text(&package["manifest_path"]);
            let directory = directory_of(manifest.strip_suffix("/Cargo.toml").expect("a manifest's path"));
            let mut member = Member::default();
            for dependency in array(&package["dependencies"]) {
                let for_code = text(&dependency["kind"]) != "dev";
                if let Some(path) = dependency["path"].as_str() {
                    let used = directory_of(path);
                    member.uses_in_any_kind.insert(used.clone());
                    if for_code {
                        member.uses.insert(used);
                    }
                } else if for_code {
                    let features = array(&dependency["features"])
                        .iter()
                        .map(|feature| text(feature).to_owned());
                    member
                        .packages
                        .insert(text(&dependency["name"]).to_owned(), features.collect());
                }
            }
            members.insert(directory, member);
        }
        assert!(members.len() > 1, "cargo metadata names the members");
        Self { root, members }
    }

    /// The member itself and all that its code reaches within the workspace.
    fn reached_from(&self, directory: &str) -> BTreeSet<String> {
        let mut reached = BTreeSet::from([directory.to_owned()]);
        let mut open = vec![directory.to_owned()];
        while let Some(next) = open.pop() {
            for used in &self.members[&next].uses {
                if reached.insert(used.clone()) {
                    open.push(used.clone());
                }
            }
        }
        reached
    }
}

fn root() -> PathBuf {
    let cli = Path::new(env!("CARGO_MANIFEST_DIR"));
    cli.ancestors()
        .nth(2)
        .expect("src/cli lies two levels below the root")
        .to_owned()
}

fn page() -> String {
    fs::read_to_string(root().join("ARCHITECTURE.md")).expect("the project has an ARCHITECTURE.md")
}

fn array(value: &serde_json::Value) -> &[serde_json::Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The cells of the rows of the table whose head begins with `head`.
fn table(page: &str, head: &str) -> Vec<Vec<String>> {
    let rows: Vec<Vec<String>> = page
        .lines()
        .skip_while(|line| !line.starts_with(head))
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            line.trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().to_owned())
                .collect()
        })
        .collect();
    assert!(!rows.is_empty(), "ARCHITECTURE.md has no table {head:?}");
    rows
}

/// The texts between backticks.
fn quoted(line: &str) -> Vec<&str> {
    line.split('`').skip(1).step_by(2).collect()
}

/// The name that the page uses for the crate in a directory: the last part.
fn short(directory: &str) -> &str {
    directory.rsplit('/').next().expect("a split has a part")
}

/// One row of the table of crates.
struct Rule {
    may_use: String,
    never_reaches: String,
}

/// The table of crates, by short name, and the crates that nothing may depend on.
struct Rules {
    directories: Vec<String>,
    by_name: BTreeMap<String, Rule>,
    leaves: Vec<String>,
}

impl Rules {
    fn read(page: &str) -> Self {
        let mut directories = Vec::new();
        let mut by_name = BTreeMap::new();
        for row in table(page, "| crate | holds | may use | never reaches |") {
            let [directory, _, may_use, never_reaches] = &row[..] else {
                panic!("a row of the table of crates has four cells: {row:?}")
            };
            let directory = directory.trim_matches('`').to_owned();
            let rule = Rule {
                may_use: may_use.clone(),
                never_reaches: never_reaches.clone(),
            };
            by_name.insert(short(&directory).to_owned(), rule);
            directories.push(directory);
        }
        let sentence = page
            .lines()
            .find_map(|line| line.strip_prefix("Nothing depends on "))
            .expect("the sentence");
        let sentence = sentence.split('.').next().expect("a split has a part");
        let leaves: Vec<String> = quoted(sentence).into_iter().map(str::to_owned).collect();
        assert!(!leaves.is_empty(), "the sentence names crates");
        Self {
            directories,
            by_name,
            leaves,
        }
    }

    /// What a crate may use, by the words of its row: nothing, names, `NAME and what it uses`, `all but NAME`.
    fn allowed(&self, name: &str) -> Result<BTreeSet<String>, String> {
        let mut allowed = BTreeSet::new();
        for word in self.by_name[name].may_use.split(',').map(str::trim) {
            if word == NOTHING {
                continue;
            }
            if let Some(except) = word.strip_prefix("all but ") {
                let others = self.by_name.keys().filter(|other| *other != except && *other != name);
                allowed.extend(others.filter(|other| !self.leaves.contains(other)).cloned());
                continue;
            }
            let (named, and_below) = word
                .strip_suffix(" and what it uses")
                .map_or((word, false), |named| (named, true));
            if !self.by_name.contains_key(named) {
                return Err(format!("{name} may use {word:?}, which is no crate of the table"));
            }
            if and_below {
                allowed.extend(self.allowed(named)?);
            }
            allowed.insert(named.to_owned());
        }
        Ok(allowed)
    }
}

fn direction_violations(page: &str, workspace: &Workspace) -> Vec<String> {
    let rules = Rules::read(page);
    let mut violations = Vec::new();
    for directory in &rules.directories {
        if !workspace.members.contains_key(directory) {
            violations.push(format!("{directory} is no crate of the workspace"));
        }
    }
    for (directory, member) in &workspace.members {
        let name = short(directory);
        let used: Vec<&str> = member.uses_in_any_kind.iter().map(|used| short(used)).collect();
        for leaf in used.iter().filter(|used| rules.leaves.iter().any(|leaf| leaf == *used)) {
            violations.push(format!("{name} depends on {leaf}, on which nothing may depend"));
        }
        if !rules.directories.contains(directory) {
            violations.push(format!("{directory} has no row in the table of crates"));
            continue;
        }
        match rules.allowed(name) {
            Ok(allowed) => {
                for used in used.iter().filter(|used| !allowed.contains(**used)) {
                    violations.push(format!("{name} may not use {used}"));
                }
            }
            Err(unknown) => violations.push(unknown),
        }
        let never_reaches = &rules.by_name[name].never_reaches;
        for word in never_reaches.split(',').map(str::trim).filter(|word| *word != NOTHING) {
            violations.extend(reach_violations(word, directory, &rules, workspace));
        }
    }
    violations
}

/// Where a crate reaches what one word of "never reaches" keeps it from.
fn reach_violations(word: &str, directory: &str, rules: &Rules, workspace: &Workspace) -> Vec<String> {
    let name = short(directory);
    let reached = workspace.reached_from(directory);
    let others = reached
        .iter()
        .filter(|other| *other != directory)
        .map(|other| short(other));
    if word == "everything else" {
        return others.map(|other| format!("{name} reaches {other}")).collect();
    }
    if rules.by_name.contains_key(word) {
        return others
            .filter(|other| *other == word)
            .map(|other| format!("{name} reaches {other}"))
            .collect();
    }
    let Some((_, packages, texts)) = ABSENCES.iter().find(|(absence, ..)| *absence == word) else {
        return vec![format!("{name} never reaches {word}: nothing holds {word:?}")];
    };
    let mut violations = Vec::new();
    for reached in &reached {
        let via = short(reached);
        for package in workspace.members[reached]
            .packages
            .keys()
            .filter(|used| packages.contains(&used.as_str()))
        {
            let who = if via == name { "it" } else { via };
            violations.push(format!("{name} reaches {word}: {who} declares {package}"));
        }
    }
    for file in sources(&workspace.root.join(directory).join("src")) {
        let code = fs::read_to_string(&file).expect("source files are text");
        for text in texts.iter().filter(|text| mentions(&code, text)) {
            violations.push(format!("{name} reaches {word}: {text} in {}", file.display()));
        }
    }
    violations
}

/// Whether a text stands in the code, comments aside.
fn mentions(code: &str, text: &str) -> bool {
    code.lines()
        .any(|line| !line.trim_start().starts_with("//") && line.contains(text))
}

/// The Rust files below a directory.
fn sources(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a crate has a src directory") {
        let path = entry.expect("a directory can be listed").path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// What would bring `std` into a crate: a root without the attribute, or a dependency not known to do without.
fn no_std_violations(lib: &str, member: &Member) -> Vec<String> {
    let mut violations = Vec::new();
    if !lib.lines().any(|line| line.trim() == "#![no_std]") {
        violations.push("lib.rs lacks #![no_std]".to_owned());
    }
    let lines: Vec<&str> = lib.lines().map(str::trim).collect();
    for (index, line) in lines.iter().enumerate() {
        let for_tests = index > 0 && lines[index - 1] == "#[cfg(test)]";
        if line.starts_with("extern crate std") && !for_tests {
            violations.push(format!("lib.rs:{}: extern crate std outside of tests", index + 1));
        }
    }
    for (package, features) in &member.packages {
        if !WITHOUT_STD.contains(&package.as_str()) {
            violations.push(format!("{package} is not known to build without std"));
        }
        if features.iter().any(|feature| feature == "std") {
            violations.push(format!("{package} is asked for with its feature std"));
        }
    }
    violations
}

/// Where a member's manifest says for itself what the workspace says for all.
fn manifest_violations(manifest: &str) -> Vec<String> {
    let manifest: toml::Table = manifest.parse().expect("a manifest is TOML");
    let inherits = |value: &toml::Value| value.get("workspace").and_then(toml::Value::as_bool) == Some(true);
    let mut violations = Vec::new();

    let mut tables = vec![&manifest];
    let targets = manifest.get("target").and_then(toml::Value::as_table);
    tables.extend(
        targets
            .into_iter()
            .flat_map(toml::Table::values)
            .filter_map(toml::Value::as_table),
    );
    for table in tables {
        for kind in ["dependencies", "dev-dependencies", "build-dependencies"] {
            let entries = table.get(kind).and_then(toml::Value::as_table);
            for (name, entry) in entries.into_iter().flatten() {
                if !inherits(entry) {
                    violations.push(format!("{kind}: {name} is not declared by `workspace = true`"));
                }
            }
        }
    }
    if !manifest.get("lints").is_some_and(inherits) {
        violations.push("lints: the workspace's lints are not taken over".to_owned());
    }
    violations
}

/// Where the table under "Dependencies" and the workspace's dependencies differ.
fn dependency_violations(page: &str, manifest: &str) -> Vec<String> {
    let manifest: toml::Table = manifest.parse().expect("the workspace's manifest is TOML");
    let declared = manifest["workspace"]["dependencies"]
        .as_table()
        .expect("dependencies are a table");
    let declared: BTreeSet<&str> = declared
        .iter()
        .filter(|(_, entry)| entry.get("path").is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    let rows = table(page, "| crate | why | considered | licence |");
    let described: BTreeSet<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();

    let mut violations = Vec::new();
    for missing in declared.difference(&described) {
        violations.push(format!("{missing} has no line under Dependencies"));
    }
    for stale in described.difference(&declared) {
        violations.push(format!("{stale} is no dependency of the workspace"));
    }
    for row in rows
        .iter()
        .filter(|row| row.len() != 4 || row.iter().any(String::is_empty))
    {
        violations.push(format!("a line under Dependencies has four cells, none empty: {row:?}"));
    }
    violations
}
