//! Confluent's Schema Registry over its REST API, which others answer, too.

use std::collections::BTreeSet;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Certificate, Client, StatusCode, redirect};
use serde::Deserialize;

use super::Registry;
use crate::config::Secret;
use crate::sources::formats::avro::schema::Schema;
use crate::sources::formats::avro::{Learned, unknown};
use crate::sources::formats::text::shown;
use crate::sources::log::Fault;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// For one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const REDIRECTS_MAX: usize = 3;
/// A schema with its answer around it is no longer.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Schemas that one refers to, and those refer to.
const REFERENCES_MAX: usize = 100;
/// A registry of several servers may learn of a number later than who asks for it: so many times it must not know it.
const MISSING_ASKED: u32 = 3;
const MISSING_WAIT: Duration = Duration::from_secs(1);
/// Numbers are Java's.
const NUMBER_MAX: u32 = i32::MAX as u32;
/// The registry's own word for a subject, a version or a schema that it does not have: the API's `error_code`s.
const MISSING: [u32; 3] = [40401, 40402, 40403];

/// Where it is, and who we are to it.
#[derive(Clone, Debug)]
pub struct Options {
    pub url: String,
    pub user: Option<String>,
    pub password: Option<Secret>,
    /// Certificates to trust besides the system's, a PEM file.
    pub ca: Option<PathBuf>,
}

pub struct Confluent {
    client: Client,
    options: Options,
}

/// What the API says of a schema.
#[derive(Deserialize)]
struct Answer {
    schema: String,
    /// `None`: Avro.
    #[serde(default, rename = "schemaType")]
    language: Option<String>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
}

#[derive(Deserialize)]
struct Reference {
    subject: String,
    version: u32,
}

#[derive(Deserialize)]
struct Refusal {
    error_code: u32,
}

impl Confluent {
    pub fn new(options: Options) -> Result<Confluent, Fault> {
        const ACTION: &str = "set up the client of the schema registry";
        let mut client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT)
            .redirect(redirect::Policy::limited(REDIRECTS_MAX))
            // As the brokers are: what the environment says of proxies is for other programs.
            .no_proxy();
        if let Some(path) = &options.ca {
            for certificate in certificates(path).map_err(|reason| Fault::Lost { action: ACTION, reason })? {
                client = client.add_root_certificate(certificate);
            }
        }
        match client.build() {
            Ok(client) => Ok(Confluent { client, options }),
            Err(error) => Err(Fault::Lost { action: ACTION, reason: causes(&error) }),
        }
    }

    /// `None`: the registry does not have it.
    async fn ask(&self, path: &str) -> Result<Option<Answer>, Fault> {
        let url = format!("{}{path}", self.options.url.trim_end_matches('/'));
        let lost =
            |reason: String| Fault::Lost { action: "ask the schema registry", reason: format!("{url}: {reason}") };
        let mut request =
            self.client.get(&url).header("Accept", "application/vnd.schemaregistry.v1+json, application/json");
        if let Some(user) = &self.options.user {
            request = request.basic_auth(user, self.options.password.as_ref().map(Secret::reveal));
        }
        let mut response = request.send().await.map_err(|error| lost(causes(&error.without_url())))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| lost(causes(&error.without_url())))? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(lost(format!("the answer is longer than {} MiB", ANSWER_BYTES_MAX >> 20)));
            }
            body.extend_from_slice(&chunk);
        }
        if status == StatusCode::NOT_FOUND
            && serde_json::from_slice(&body).is_ok_and(|refusal: Refusal| MISSING.contains(&refusal.error_code))
        {
            return Ok(None);
        }
        let said = || shown(&String::from_utf8_lossy(&body));
        if !status.is_success() {
            return Err(lost(format!("it answers {status}: {}", said())));
        }
        match serde_json::from_slice(&body) {
            Ok(answer) => Ok(Some(answer)),
            Err(_) => Err(lost(format!("the answer is no schema: {}", said()))),
        }
    }

    /// With what it refers to; the inner error says why it cannot be read.
    async fn read(&self, answer: Answer) -> Result<Result<Arc<Schema>, String>, Fault> {
        if let Some(language) = answer.language.filter(|language| !language.eq_ignore_ascii_case("AVRO")) {
            return Ok(Err(format!("it is {}, not Avro", shown(&language))));
        }
        let mut before: Vec<String> = Vec::new();
        let mut seen = BTreeSet::new();
        // Schemas that wait for what they refer to, each with what of it is still to be asked for.
        let mut open = vec![(answer.schema, answer.references.unwrap_or_default())];
        while let Some((_, left)) = open.last_mut() {
            let Some(reference) = (!left.is_empty()).then(|| left.remove(0)) else {
                before.extend(open.pop().map(|(text, _)| text));
                continue;
            };
            let Reference { subject, version } = reference;
            if !seen.insert((subject.clone(), version)) {
                continue;
            }
            if seen.len() > REFERENCES_MAX {
                return Ok(Err(format!("it refers to more than {REFERENCES_MAX} schemas")));
            }
            match self.ask(&format!("/subjects/{}/versions/{version}", encoded(&subject))).await? {
                Some(answer) => open.push((answer.schema, answer.references.unwrap_or_default())),
                None => {
                    let subject = shown(&subject);
                    return Ok(Err(format!("it refers to version {version} of {subject}, which the registry has not")));
                }
            }
        }
        let text = before.pop().expect("the schema itself comes last");
        Ok(Schema::parse(&text, &before).map(Arc::new))
    }
}

#[async_trait]
impl Registry for Confluent {
    async fn by_number(&self, number: u32) -> Result<Learned, Fault> {
        if number > NUMBER_MAX {
            // The API takes it for a wrong address, which may be mended.
            return Ok(Err(unknown(number, "no registry gives such a number")));
        }
        for asked in 1.. {
            if let Some(answer) = self.ask(&format!("/schemas/ids/{number}")).await? {
                return Ok(self.read(answer).await?.map_err(|why| unknown(number, &why)));
            }
            if asked == MISSING_ASKED {
                break;
            }
            tokio::time::sleep(MISSING_WAIT).await;
        }
        Ok(Err(unknown(number, &format!("the registry at {} does not have it", self.options.url))))
    }

    async fn latest(&self, subject: &str) -> Result<Option<Result<Arc<Schema>, String>>, Fault> {
        match self.ask(&format!("/subjects/{}/versions/latest", encoded(subject))).await? {
            Some(answer) => self.read(answer).await.map(Some),
            None => Ok(None),
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, String> {
    let pem = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Certificate::from_pem_bundle(&pem).map_err(|error| format!("{}: {}", path.display(), causes(&error)))
}

/// As a part of a path.
fn encoded(text: &str) -> String {
    form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// An error says that a request failed, and its causes why.
fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    type Asked = Arc<Mutex<Vec<String>>>;

    /// A server that answers paths so, and all else as a registry answers for what it has not; what it was asked.
    async fn server(answers: &'static [(&'static str, &'static str, &'static str)]) -> (Confluent, Asked) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/base/", listener.local_addr().expect("it is bound"));
        let asked = Asked::default();
        let heard = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (mut request, mut buffer) = (String::new(), [0; 4096]);
                while !request.contains("\r\n\r\n") {
                    let read = socket.read(&mut buffer).await.expect("a request");
                    request += std::str::from_utf8(&buffer[..read]).expect("a request");
                }
                let path = request.split(' ').nth(1).expect("a path").trim_start_matches("/base").to_string();
                let missing = ("404 Not Found", r#"{"error_code":40403,"message":"Schema not found"}"#);
                let (status, body) =
                    answers.iter().find(|(of, ..)| *of == path).map_or(missing, |(_, status, body)| (*status, *body));
                // A number instead of a body: so many bytes.
                let body = body.parse().map_or_else(|_| body.to_string(), |length| "x".repeat(length));
                let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
                heard.lock().expect("no panic").push(request);
                // The client may have gone before all of it was written.
                let _ = socket.write_all((head + &body).as_bytes()).await;
            }
        });
        let password = Some(Secret::new("p:w"));
        let options = Options { url, user: Some("u".to_string()), password, ca: None };
        (Confluent::new(options).expect("a client"), asked)
    }

    #[tokio::test]
    async fn schemas_come_with_what_they_refer_to() {
        let (registry, asked) = server(&[
            (
                "/schemas/ids/7",
                "200 OK",
                r#"{"schema":"[\"a.B\",\"C\"]","references":[
                {"name":"a.B","subject":"b/x y","version":2},{"name":"C","subject":"c","version":1}]}"#,
            ),
            (
                "/subjects/b%2Fx%20y/versions/2",
                "200 OK",
                r#"{"references":[{"subject":"c","version":1}],
                "schema":"{\"type\":\"record\",\"name\":\"a.B\",\"fields\":[{\"name\":\"c\",\"type\":\"C\"}]}"}"#,
            ),
            (
                "/subjects/c/versions/1",
                "200 OK",
                r#"{"schemaType":"AVRO","references":[{"subject":"c","version":1}],
                "schema":"{\"type\":\"enum\",\"name\":\"C\",\"symbols\":[\"x\"]}"}"#,
            ),
            ("/subjects/t-value/versions/latest", "200 OK", r#"{"schema":"\"long\"","id":1,"version":3}"#),
        ])
        .await;
        assert!(registry.by_number(7).await.expect("it answers").is_ok());
        assert_eq!(asked.lock().unwrap().len(), 3, "each is asked for once");
        assert!(asked.lock().unwrap()[0].to_ascii_lowercase().contains("authorization: basic dtpwonc="), "{asked:?}");
        assert!(registry.latest("t-value").await.expect("it answers").expect("it is there").is_ok());
        assert!(registry.latest("t-key").await.expect("it answers").is_none());
    }

    #[tokio::test]
    async fn what_is_definite_is_told_from_what_may_pass() {
        let (registry, asked) = server(&[
            ("/schemas/ids/1", "200 OK", r#"{"schema":"syntax = \"proto3\"","schemaType":"PROTOBUF"}"#),
            ("/schemas/ids/2", "200 OK", r#"{"schema":"{"}"#),
            ("/schemas/ids/3", "200 OK", r#"{"schema":"\"int\"","references":[{"subject":"gone","version":1}]}"#),
            ("/schemas/ids/4", "200 OK", "<html>"),
            ("/schemas/ids/5", "401 Unauthorized", r#"{"error_code":401,"message":"who?"}"#),
            ("/schemas/ids/6", "404 Not Found", "<html>no such page</html>"),
            ("/schemas/ids/7", "200 OK", "5000000"),
        ])
        .await;
        for (number, why) in [(1, "it is 'PROTOBUF', not Avro"), (2, "it is no JSON"), (3, "version 1 of 'gone'")] {
            let bad = registry.by_number(number).await.expect("it answers").unwrap_err();
            assert!(bad.code == "SCHEMA_UNKNOWN" && bad.reason.contains(why), "{bad:?}");
        }
        for (number, why) in [
            (4, "the answer is no schema: '<html>'"),
            (5, "it answers 401 Unauthorized: '{\"error_code\":401,\"message\":\"who?\"}'"),
            (6, "it answers 404 Not Found: '<html>no such page</html>'"),
            (7, "the answer is longer than 4 MiB"),
        ] {
            let fault = registry.by_number(number).await.expect_err("it may pass").to_string();
            assert!(fault.contains(why) && fault.starts_with("cannot ask the schema registry: http://"), "{fault}");
        }
        asked.lock().unwrap().clear();
        let bad = registry.by_number(1 << 31).await.expect("nobody is asked").unwrap_err();
        assert!(bad.reason.contains("no registry gives such a number"), "{bad:?}");
        let bad = registry.by_number(99).await.expect("it answers").unwrap_err();
        assert!(bad.reason.contains("written by schema 99: the registry at http://"), "{bad:?}");
        assert_eq!(asked.lock().unwrap().len(), MISSING_ASKED as usize);
        let options = Options { url: "http://127.0.0.1:1".into(), user: None, password: None, ca: None };
        let fault = Confluent::new(options).expect("a client").by_number(1).await.expect_err("nobody is there");
        assert!(fault.to_string().contains("refused"), "{fault}");
        assert!(!format!("{:?}", registry.options).contains("p:w"));
    }
}
