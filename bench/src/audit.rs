//! What the operator asked of the API server, from the API server's own audit log.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
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
    /// From the answer to a write of an HTTPRoute to the arrival of the next one to the same; the shortest time.
    pub between_weights: Option<Duration>,
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
        let Self { work, upkeep, refused, between_weights } = other;
        self.between_weights = self.between_weights.into_iter().chain(between_weights).min();
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
    /// When each HTTPRoute was written last.
    written: HashMap<String, Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    verb: String,
    #[serde(rename = "requestURI")]
    uri: String,
    object_ref: Option<Object>,
    response_status: Option<Status>,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
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

    /// Whether it has changed where an HTTPRoute leads.
    fn leads(&self) -> bool {
        self.what() == "patch httproutes" && self.response_status.as_ref().is_some_and(|status| status.code < 400)
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
        Ok(Self { reader: BufReader::new(file), line: String::new(), written: HashMap::new() })
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
            let entry: Entry =
                serde_json::from_str(&self.line).with_context(|| format!("not an audit entry: {}", self.line))?;
            requests.count(&entry);
            if entry.leads()
                && let Some(before) = self.written.insert(entry.uri, entry.stage_timestamp)
            {
                let since = Duration::try_from(entry.request_received_timestamp.duration_since(before));
                let shortest = requests.between_weights.into_iter().chain(since.ok()).min();
                requests.between_weights = shortest;
            }
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

    const ROUTE: &str = r#"{"requestURI":"/apis/gateway.networking.k8s.io/v1/namespaces/a/httproutes/b","verb":"patch","objectRef":{"resource":"httproutes"},"responseStatus":{"code":200}}"#;

    /// An entry of a request that took half a second.
    fn at(second: u8, entry: &str) -> String {
        let times = format!(
            r#"{{"requestReceivedTimestamp":"2026-01-01T00:00:{second:02}Z","stageTimestamp":"2026-01-01T00:00:{second:02}.5Z","#
        );
        entry.replacen('{', &times, 1)
    }

    #[test]
    fn the_time_between_two_weights_is_from_an_answer_to_the_next_request() {
        let path = std::env::temp_dir().join(format!("serin-bench-weights-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        let mut log = AuditLog::open(&path).unwrap();
        writeln!(file, "{}\n{}", at(1, ROUTE), at(11, PATCH)).unwrap();
        assert_eq!(log.since().unwrap().between_weights, None);
        let other = at(12, &ROUTE.replace("/b", "/c"));
        let refused = at(15, &ROUTE.replace("200", "409"));
        writeln!(file, "{other}\n{refused}\n{}\n{}", at(21, ROUTE), at(30, ROUTE)).unwrap();
        assert_eq!(log.since().unwrap().between_weights, Some(Duration::from_millis(8500)));
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn work_and_upkeep_are_counted_apart_and_half_a_line_is_left_for_later() {
        let path = std::env::temp_dir().join(format!("serin-bench-audit-{}", std::process::id()));
        let mut file = File::create(&path).unwrap();
        let [status, watch, lease, discovery, change] =
            [STATUS, WATCH, LEASE, DISCOVERY, PATCH].map(|entry| at(0, entry));
        writeln!(file, "{status}").unwrap();
        let mut log = AuditLog::open(&path).unwrap();
        assert_eq!(log.since().unwrap(), Requests::default(), "what was there before counts for nobody");

        let (begin, end) = change.split_at(40);
        write!(file, "{status}\n{watch}\n{lease}\n{discovery}\n{begin}").unwrap();
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
