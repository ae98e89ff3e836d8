//! The layering of `DESIGN.md`, section 2: which of our modules each of our modules may use, and the words that it may
//! not contain.
//!
//! It reads the text of `src/`, line by line. Comments do not count. Test code counts too, but for the rules where it
//! has to wait or to look at the time.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What one module may and may not do.
struct Layer {
    name: &'static str,
    /// Our modules that it may use besides itself.
    uses: &'static [&'static str],
    /// Words that none of its lines may contain.
    never: &'static [&'static str],
    /// Words that only its test code may contain.
    only_in_tests: &'static [&'static str],
}

/// Anything that reads the time of day.
const CLOCK: [&str; 4] = ["Timestamp::now", "SystemTime", "Zoned::now", "Instant::now"];

/// The only file that reads the clock.
const CLOCK_FILE: &str = "src/controller/clock.rs";

/// Reading the time of day, which [`CLOCK_FILE`] does for all. Counting from an `Instant` is not that.
const TIME_OF_DAY: [&str; 3] = ["Timestamp::now", "SystemTime::now", "Zoned::now"];

/// A way to the API server, and the only files that may take it.
struct Door {
    words: &'static [&'static str],
    files: &'static [&'static str],
    why: &'static str,
}

/// Where writes are made: after each of these functions has asked whether this instance leads.
const WRITER: &str = "src/controller/context.rs";

/// The Lease itself, by which is found out who leads.
const LEASE: &str = "src/controller/lease/store.rs";

/// Words without which kube makes no write.
const PARAMETERS: [&str; 3] = ["PostParams", "PatchParams", "DeleteParams"];

const DOORS: [Door; 4] = [
    Door { words: &PARAMETERS, files: &[WRITER, LEASE], why: "write" },
    Door {
        words: &[
            "&Default::default()",
            ".patch_status(",
            ".patch_metadata(",
            ".delete_collection(",
            ".create_subresource(",
            ".evict(",
        ],
        files: &[WRITER],
        why: "write",
    },
    Door { words: &["Api<", "Api::"], files: &[WRITER, LEASE, "src/controller/watch.rs"], why: "hold what can write" },
    Door {
        words: &[
            ".request_text(",
            ".request_status(",
            ".request_events(",
            "client.request",
            "client.send",
            "core::Request",
        ],
        files: &[WRITER, "src/controller/secrets.rs"],
        why: "make requests of its own",
    },
];

const SANS_IO: [&str; 8] =
    ["async ", ".await", "tokio::", "kube::Client", "Api<", "Timestamp::now", "SystemTime", "Instant::now"];

const LAYERS: [Layer; 11] = [
    Layer {
        name: "domain",
        uses: &[],
        never: &[
            "kube::",
            "serde::",
            "serde_json",
            "tokio::",
            "http::",
            "reqwest",
            "async",
            ".await",
            "Timestamp::now",
            "SystemTime",
            "Instant::now",
        ],
        only_in_tests: &[],
    },
    Layer { name: "object", uses: &[], never: &SANS_IO, only_in_tests: &["kube::"] },
    Layer { name: "mesh", uses: &["domain", "object"], never: &SANS_IO, only_in_tests: &[] },
    Layer { name: "workload", uses: &["domain", "object"], never: &SANS_IO, only_in_tests: &[] },
    Layer { name: "metrics", uses: &["domain"], never: &SANS_IO, only_in_tests: &["kube::"] },
    Layer { name: "notify", uses: &["domain"], never: &SANS_IO, only_in_tests: &["kube::"] },
    Layer { name: "api", uses: &["domain"], never: &SANS_IO, only_in_tests: &[] },
    Layer { name: "telemetry", uses: &[], never: &["Api<"], only_in_tests: &["kube::Client", "SystemTime", "tokio::"] },
    Layer { name: "server", uses: &["telemetry"], never: &["kube::"], only_in_tests: &CLOCK },
    Layer {
        name: "controller",
        uses: &["api", "domain", "mesh", "metrics", "notify", "object", "server", "telemetry", "workload"],
        never: &[],
        only_in_tests: &["SystemTime"],
    },
    Layer {
        name: "cli",
        uses: &["api", "controller", "server", "telemetry"],
        never: &["serde_json"],
        only_in_tests: &CLOCK,
    },
];

/// What the binary may use: it parses its arguments and hands over.
const MAIN: Layer = Layer { name: "main", uses: &["cli", "telemetry"], never: &["kube::"], only_in_tests: &CLOCK };

/// One source file.
struct Source {
    path: String,
    /// The top-level module that it belongs to.
    module: String,
    text: String,
    /// The whole file is test code.
    is_test: bool,
}

/// A line of code, as the rules see it.
struct Line<'a> {
    code: &'a str,
    is_test: bool,
    /// How deep the module is that it stands in: the top-level ones are 1.
    depth: usize,
}

#[test]
fn modules_use_only_the_layers_below_them() {
    let broken: Vec<_> = sources().iter().flat_map(violations).collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn every_module_has_its_place() {
    let known: BTreeSet<_> =
        LAYERS.iter().map(|layer| layer.name.to_owned()).chain(["main".into(), "lib".into()]).collect();
    let found: BTreeSet<_> = sources().into_iter().map(|source| source.module).collect();
    let unknown: Vec<_> = found.difference(&known).collect();
    assert!(unknown.is_empty(), "say in tests/layers.rs what these modules may use: {unknown:?}");
}

#[test]
fn only_one_file_reads_the_clock() {
    let clock = sources().into_iter().find(|source| source.path == CLOCK_FILE);
    assert!(
        clock.is_some_and(|clock| clock.text.contains("Timestamp::now")),
        "{CLOCK_FILE} is where the time comes from"
    );
}

/// No write leaves an instance that is not sure that it leads: there is one door, and it looks at everybody.
#[test]
fn every_write_goes_through_the_door() {
    let sources = sources();
    let kube = |source: &&Source| matches!(source.module.as_str(), "controller" | "cli");
    let broken: Vec<_> = sources.iter().filter(kube).flat_map(detours).collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
    let writer = sources.iter().find(|source| source.path == WRITER).expect("the door is there");
    assert!(writers(writer).len() >= 5, "it makes, changes, records, deletes and publishes: {:?}", writers(writer));
}

#[test]
fn a_planted_detour_is_found() {
    let planted = [
        (
            "src/controller/tell.rs",
            "let api: Api<Event> = Api::namespaced(client, name);",
            "may not hold what can write",
        ),
        ("src/controller/watch.rs", "api.create(&PostParams::default(), &event).await", "may not write"),
        ("src/controller/watch.rs", "api.delete(name, &Default::default()).await", "may not write"),
        ("src/controller/secrets.rs", "request.patch(name, &PatchParams::default(), &patch)", "may not write"),
        ("src/controller/alerts.rs", "client.request_text(request)", "may not make requests of its own"),
        ("src/cli/run.rs", "use kube::Api;\nlet leases = Api::<Lease>::all(client);", "may not hold what can write"),
        (
            WRITER,
            "    pub async fn publish(&self) {\n        let made = api.create(&PostParams::default(), event);\n        self.call(made)",
            "publish writes without a look at who leads",
        ),
        (
            WRITER,
            "    pub async fn both(&self) {\n        self.write(api.patch(&PatchParams::default()));\n        self.call(api.get())",
            "both writes without a look at who leads",
        ),
    ];
    for (path, text, expected) in planted {
        let found = detours(&Source::new(path, text.to_owned(), false));
        assert!(found.iter().any(|found| found.contains(expected)), "{path}: {text}: {found:?}");
    }
}

/// Ways around the door, a sentence each.
fn detours(source: &Source) -> Vec<String> {
    let path = &source.path;
    let code: Vec<_> = lines(source).into_iter().filter(|line| !line.is_test).collect();
    let doors = DOORS.iter().filter(|door| !door.files.contains(&path.as_str()));
    let taken = doors.flat_map(|Door { words, why, .. }| {
        let passes = |line: &&Line<'_>| words.iter().any(|word| line.code.contains(word));
        code.iter().filter(passes).map(move |line| format!("{path} may not {why}: {}", line.code.trim()))
    });
    let mut found: Vec<_> = taken.collect();
    if path == WRITER {
        let unasked = writers(source)
            .into_iter()
            .filter(|(_, body)| !body.contains("self.write(") || body.contains("self.call("));
        found.extend(unasked.map(|(name, _)| format!("{path}: {name} writes without a look at who leads")));
    }
    found
}

/// The functions of a file that write, by name, and what they do.
fn writers(source: &Source) -> Vec<(String, String)> {
    let code: Vec<_> = lines(source).into_iter().filter(|line| !line.is_test).map(|line| line.code).collect();
    let code = code.join("\n");
    let functions = code.split("fn ").skip(1).filter_map(|function| {
        let (name, body) = function.split_once('(')?;
        Some((name.to_owned(), body.to_owned()))
    });
    functions.filter(|(_, body)| PARAMETERS.iter().any(|word| body.contains(word))).collect()
}

#[test]
fn a_planted_fault_is_found() {
    let planted = [
        ("src/domain/plan.rs", "use crate::api::Canary;", "domain must not use api"),
        ("src/domain/plan.rs", "use serde::Deserialize;", "domain must not say \"serde::\""),
        ("src/domain/plan.rs", "async fn wait() {}", "domain must not say \"async\""),
        ("src/domain/plan.rs", "let now = jiff::Timestamp::now();", "domain must not say \"Timestamp::now\""),
        ("src/mesh/istio.rs", "use crate::{domain::Weight, workload};", "mesh must not use workload"),
        (
            "src/mesh/istio.rs",
            "use crate::{\n    domain::Weight,\n    metrics::Query,\n};",
            "mesh must not use metrics",
        ),
        ("src/mesh/istio.rs", "let route = client.get().await;", "mesh must not say \".await\""),
        ("src/mesh/istio.rs", "let api: Api<Route> = todo!();", "mesh must not say \"Api<\""),
        ("src/mesh/mod.rs", "use super::workload::App;", "mesh reaches over the root"),
        ("src/mesh/gateway_api/acceptance.rs", "use super::super::super::api;", "mesh reaches over the root"),
        ("src/mesh/mod.rs", "mod tests {\n    use super::super::api;\n}", "mesh reaches over the root"),
        ("src/metrics/query.rs", "use crate::mesh::App;", "metrics must not use mesh"),
        ("src/workload/job.rs", "let client: kube::Client = todo!();", "workload must not say \"kube::Client\""),
        ("src/object.rs", "use crate::domain::Weight;", "object must not use domain"),
        ("src/api/canary.rs", "use crate::controller::Context;", "api must not use controller"),
        ("src/controller/apply.rs", "use crate::cli::Cli;", "controller must not use cli"),
        ("src/controller/apply.rs", "let now = Timestamp::now();", "only src/controller/clock.rs may say"),
        ("src/server.rs", "use crate::controller::Context;", "server must not use controller"),
        ("src/telemetry/registry.rs", "use kube::Client;", "telemetry must not say \"kube::Client\""),
        ("src/cli/run.rs", "use crate::domain::Plan;", "cli must not use domain"),
        ("src/main.rs", "use serin::controller::run;", "main must not use controller"),
        ("src/surprise.rs", "", "surprise has no place"),
    ];
    for (path, text, expected) in planted {
        let found = violations(&Source::new(path, text.to_owned(), false));
        assert!(found.iter().any(|found| found.contains(expected)), "{path}: {text}: {found:?}");
    }
}

#[test]
fn what_is_allowed_is_not_a_fault() {
    let allowed = [
        ("src/domain/plan.rs", "use super::Weight; // not crate::api"),
        ("src/domain/plan.rs", "/// Never `async`."),
        ("src/mesh/mod.rs", "#[cfg(test)]\nmod tests {\n    use super::App;\n}"),
        ("src/mesh/gateway_api/acceptance.rs", "use super::super::App;"),
        ("src/telemetry/registry.rs", "#[cfg(test)]\nmod tests {\n    use kube::Client;\n}"),
        ("src/controller/watch.rs", "use crate::{mesh, workload};\nlet started = Instant::now();"),
        (CLOCK_FILE, "let now = Timestamp::now();"),
    ];
    for (path, text) in allowed {
        let found = violations(&Source::new(path, text.to_owned(), false));
        assert!(found.is_empty(), "{path}: {text}: {found:?}");
    }
}

/// What is wrong with a file, a sentence each.
fn violations(source: &Source) -> Vec<String> {
    let Source { path, module, .. } = source;
    let layer = match module.as_str() {
        "lib" => return vec![],
        "main" => &MAIN,
        name => match LAYERS.iter().find(|layer| layer.name == name) {
            Some(layer) => layer,
            None => return vec![format!("{path}: {name} has no place; say in tests/layers.rs what it may use")],
        },
    };
    let is_ours = |used: &str| used == layer.name || layer.uses.contains(&used);
    let mut found: Vec<_> = used(source)
        .into_iter()
        .filter(|used| !is_ours(used))
        .map(|used| format!("{path}: {module} must not use {used}"))
        .collect();
    for (number, line) in lines(source).into_iter().enumerate() {
        let Line { code, is_test, depth } = line;
        let place = format!("{path}:{}: {}", number + 1, code.trim());
        let exempt: &[_] = if is_test { &[] } else { layer.only_in_tests };
        let forbidden = layer.never.iter().chain(exempt).filter(|word| code.contains(**word));
        found.extend(forbidden.map(|word| format!("{place}: {module} must not say {word:?}")));
        if supers(code) >= depth {
            found.push(format!("{place}: {module} reaches over the root; write crate::"));
        }
        if path != CLOCK_FILE && TIME_OF_DAY.iter().any(|word| code.contains(word)) {
            found.push(format!("{place}: only {CLOCK_FILE} may say what time it is"));
        }
    }
    found
}

/// Our top-level modules that a file names.
fn used(source: &Source) -> BTreeSet<String> {
    let code: Vec<_> = lines(source).iter().map(|line| line.code.trim()).collect();
    let code = code.join(" ");
    let root = if source.module == "main" { "serin::" } else { "crate::" };
    code.split(root).skip(1).flat_map(roots).collect()
}

/// The first names of a path, or of the paths in a group.
fn roots(path: &str) -> Vec<String> {
    let name =
        |text: &str| text.trim().chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
    let Some(group) = path.strip_prefix('{') else { return vec![name(path)] };
    let mut nested = 0_usize;
    let mut names = vec![];
    let mut begin = 0;
    for (place, letter) in group.char_indices() {
        match letter {
            '{' => nested += 1,
            '}' if nested == 0 => {
                names.push(name(&group[begin..place]));
                break;
            }
            '}' => nested -= 1,
            ',' if nested == 0 => {
                names.push(name(&group[begin..place]));
                begin = place + 1;
            }
            _ => {}
        }
    }
    names.into_iter().filter(|name: &String| !name.is_empty()).collect()
}

/// How many `super::` follow each other in a line, at most.
fn supers(code: &str) -> usize {
    let mut most = 0;
    let mut rest = code;
    while let Some(at) = rest.find("super::") {
        let begin = &rest[at..];
        let end = begin.trim_start_matches("super::");
        most = most.max((begin.len() - end.len()) / "super::".len());
        rest = end;
    }
    most
}

/// The lines of a file without their comments, and where each stands.
fn lines(source: &Source) -> Vec<Line<'_>> {
    let depth = depth(&source.path);
    let mut is_test = source.is_test;
    let mut attribute = false;
    let mut inside = false;
    let mut lines = vec![];
    for line in source.text.lines() {
        let code = without_comment(line);
        if code.starts_with("mod ") && code.trim_end().ends_with('{') {
            inside = true;
            is_test |= attribute;
        }
        attribute = code.trim() == "#[cfg(test)]" || (attribute && code.starts_with("#["));
        lines.push(Line { code, is_test, depth: depth + usize::from(inside) });
        if code.starts_with('}') {
            inside = false;
            is_test = source.is_test;
        }
    }
    lines
}

fn without_comment(line: &str) -> &str {
    let text = line.trim_start();
    if text.starts_with("//") {
        return "";
    }
    line.split(" // ").next().unwrap_or_default()
}

/// How many modules there are between the root and a file, its own included.
fn depth(path: &str) -> usize {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/').count()
}

impl Source {
    fn new(path: &str, text: String, is_test: bool) -> Self {
        let module = path.trim_start_matches("src/").trim_end_matches(".rs").split('/').next().unwrap_or_default();
        Self { path: path.to_owned(), module: module.to_owned(), text, is_test }
    }
}

/// All files of `src/`, and which of them are test code as a whole.
fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files: Vec<(PathBuf, String)> = files(&root.join("src"));
    let tests: Vec<PathBuf> = files.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    let source = |(path, text): (PathBuf, String)| {
        let is_test = tests.iter().any(|test| path.starts_with(test) || path == test.with_extension("rs"));
        let path = path.strip_prefix(root).expect("it was found below the root").display().to_string();
        Source::new(&path, text, is_test)
    };
    files.into_iter().map(source).collect()
}

/// The modules that a file declares for tests only, as paths without an extension.
fn test_modules(path: &Path, text: &str) -> Vec<PathBuf> {
    let is_root = matches!(path.file_name().and_then(|name| name.to_str()), Some("mod.rs" | "lib.rs" | "main.rs"));
    let directory =
        if is_root { path.parent().expect("a file has a directory").to_owned() } else { path.with_extension("") };
    let declared = text.split("#[cfg(test)]").skip(1).filter_map(|after| {
        let name = after.trim_start().strip_prefix("mod ")?.split_once(';')?.0;
        (!name.contains(['{', ' '])).then(|| directory.join(name))
    });
    declared.collect()
}

fn files(directory: &Path) -> Vec<(PathBuf, String)> {
    let mut found = vec![];
    for entry in fs::read_dir(directory).expect("the directory is there") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file is text");
            found.push((path, text));
        }
    }
    found.sort();
    found
}
