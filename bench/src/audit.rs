//! What the operator asked of the API server, from the API server's own audit log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// Requests by what they did, as `verb resource/subresource`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Requests {
    /// For the canaries.
    pub work: BTreeMap<String, u64>,
    /// The Lease, and watches that are begun again because the API server ends each after some minutes.
    pub upkeep: BTreeMap<String, u64>,
    /// Of all, those that were answered with an error, by its status code.
    pub refused: BTreeMap<u16, u64>,
}

impl Requests {
    /// How many were for the canaries.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.work.values().sum()
    }

    /// The sum of two.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        let Self { work, upkeep, refused } = other;
        for (what, count) in work {
            *self.work.entry(what).or_default() += count;
        }
        for (what, count) in upkeep {
            *self.upkeep.entry(what).or_default() += count;
        }
        for (code, count) in refused {
            *self.refused.entry(code).or_default() += count;
        }
        self
    }

    fn count(&mut self, entry: &Entry) {
        let what = entry.what();
        let list = if entry.is_upkeep() { &mut self.upkeep } else { &mut self.work };
        *list.entry(what).or_default() += 1;
        if let Some(code) = entry.response_status.as_ref().map(|status| status.code).filter(|code| *code >= 400) {
            *self.refused.entry(code).or_default() += 1;
        }
    }
}

/// The log, read from where the last look ended.
#[derive(Debug)]
pub struct AuditLog {
    reader: BufReader<File>,
    /// A line whose end was not written yet.
    line: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    verb: String,
    #[serde(rename = "requestURI")]
    uri: String,
    object_ref: Option<Object>,
    response_status: Option<Status>,
}

#[derive(Deserialize)]
struct Object {
    resource: Option<String>,
    subresource: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

impl Entry {
    fn what(&self) -> String {
        let Self { verb, uri, object_ref, .. } = self;
        match object_ref {
            Some(Object { resource: Some(resource), subresource: Some(sub) }) => format!("{verb} {resource}/{sub}"),
            Some(Object { resource: Some(resource), subresource: None }) => format!("{verb} {resource}"),
            _ => format!("{verb} {}", uri.split('?').next().unwrap_or_default()),
        }
    }

    fn is_upkeep(&self) -> bool {
        let resource = self.object_ref.as_ref().and_then(|object| object.resource.as_deref());
        self.verb == "watch" || resource == Some("leases")
    }
}

impl AuditLog {
    /// Begins at the log's present end.
    ///
    /// # Errors
    /// When there is none.
    pub fn open(path: &Path) -> Result<Self> {
        let mut file = File::open(path).with_context(|| path.display().to_string())?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self { reader: BufReader::new(file), line: String::new() })
    }

    /// What was asked since the last look.
    ///
    /// # Errors
    /// When a line cannot be read.
    pub fn since(&mut self) -> Result<Requests> {
        let mut requests = Requests::default();
        while self.reader.read_line(&mut self.line)? > 0 {
            if !self.line.ends_with('\n') {
                break;
            }
            let entry =
                serde_json::from_str(&self.line).with_context(|| format!("not an audit entry: {}", self.line))?;
            requests.count(&entry);
            self.line.clear();
        }
        Ok(requests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    const PATCH: &str = r#"{"kind":"Event","level":"Metadata","stage":"ResponseComplete","requestURI":"/apis/apps/v1/namespaces/a/deployments/b?x=y","verb":"patch","user":{"username":"u"},"objectRef":{"resource":"deployments","namespace":"a","name":"b","apiGroup":"apps"},"responseStatus":{"metadata":{},"code":409}}"#;
    const STATUS: &str = r#"{"requestURI":"/apis/serin.dev/v1beta1/namespaces/a/canaries/b/status","verb":"update","objectRef":{"resource":"canaries","subresource":"status"},"responseStatus":{"code":200}}"#;
    const WATCH: &str =
        r#"{"requestURI":"/api/v1/services?watch=true","verb":"watch","objectRef":{"resource":"services"}}"#;
    const LEASE: &str = r#"{"requestURI":"/apis/coordination.k8s.io/v1/namespaces/a/leases/b","verb":"update","objectRef":{"resource":"leases"},"responseStatus":{"code":200}}"#;
    const DISCOVERY: &str = r#"{"requestURI":"/apis/apps/v1?timeout=3s","verb":"get","responseStatus":{"code":200}}"#;

    #[test]
    fn work_and_upkeep_are_counted_apart_and_half_a_line_is_left_for_later() {
        let path = std::env::temp_dir().join(format!("serin-bench-audit-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        writeln!(file, "{STATUS}").unwrap();
        let mut log = AuditLog::open(&path).unwrap();
        assert_eq!(log.since().unwrap(), Requests::default(), "what was there before counts for nobody");

        let (begin, end) = PATCH.split_at(40);
        write!(file, "{STATUS}\n{WATCH}\n{LEASE}\n{DISCOVERY}\n{begin}").unwrap();
        let first = log.since().unwrap();
        assert_eq!(first.work, BTreeMap::from([("get /apis/apps/v1".into(), 1), ("update canaries/status".into(), 1)]));
        assert_eq!(first.upkeep, BTreeMap::from([("update leases".into(), 1), ("watch services".into(), 1)]));

        writeln!(file, "{end}").unwrap();
        let second = log.since().unwrap();
        assert_eq!(second.work, BTreeMap::from([("patch deployments".into(), 1)]));
        assert_eq!(second.refused, BTreeMap::from([(409, 1)]));
        assert_eq!(first.and(second).total(), 3);
        std::fs::remove_file(path).unwrap();
    }
}
