//! The HTTP API of one relay, as a client outside this project would call it.
//! JSON shapes are those of `protocol::api`; whatever has none goes through [`Api::send`].

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, Result, bail};
use protocol::api::{Mesh, Message, Posted, Problem, SharedFile, Stream, Uploaded};
use reqwest::{Client, Method, StatusCode, header::HeaderMap};
use serde::de::DeserializeOwned;

use crate::metrics::Metrics;

/// A file may have a long way.
const FILE: Duration = Duration::from_secs(90);

/// A relay's API.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    client: Client,
}

/// An answer that nothing was assumed of.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, as text.
    pub body: String,
}

impl Answer {
    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// The problem it tells; an error if it is not one in due form (RFC 9457).
    pub fn problem(&self) -> Result<Problem> {
        let kind = self.header("content-type");
        if !kind.starts_with("application/problem+json") {
            bail!("{} came as {kind:?}, not as a problem: {}", self.status, self.body);
        }
        let problem: Problem =
            serde_json::from_str(&self.body).with_context(|| format!("reading {}", self.body))?;
        if problem.status != self.status.as_u16() || problem.title.trim().len() < 8 {
            bail!("a problem that helps nobody: {} {problem:?}", self.status);
        }
        Ok(problem)
    }
}

impl Api {
    /// The API at that address.
    pub fn at(address: SocketAddr) -> Api {
        let client = Client::builder()
            .connect_timeout(Duration::from_secs(2))
            .timeout(Duration::from_secs(10))
            .build()
            .expect("a client without TLS has nothing to fail on");
        Api { base: format!("http://{address}"), client }
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// A request, whatever comes of it.
    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Result<Answer> {
        let mut request =
            self.client.request(Method::from_bytes(method.as_bytes())?, self.url(path)).body(body.into());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await?;
        let (status, headers) = (response.status(), response.headers().clone());
        Ok(Answer { status, headers, body: response.text().await? })
    }

    /// `GET`.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        self.send("GET", path, &[], "").await
    }

    /// `POST` of an SDP offer.
    pub async fn offer(&self, path: &str, sdp: &str) -> Result<Answer> {
        self.send("POST", path, &[("content-type", "application/sdp")], sdp).await
    }

    /// Whether it is ready.
    pub async fn ready(&self) -> Result<bool> {
        Ok(self.get("/readyz").await?.status.is_success())
    }

    /// Every live stream.
    pub async fn streams(&self) -> Result<Vec<Stream>> {
        self.json("/api/v1/streams").await
    }

    /// One live stream, if there is one of that name.
    pub async fn stream(&self, name: &str) -> Result<Option<Stream>> {
        Ok(self.streams().await?.into_iter().find(|stream| stream.name == name))
    }

    /// The mesh, as this relay knows it.
    pub async fn mesh(&self) -> Result<Mesh> {
        self.json("/api/v1/mesh").await
    }

    /// Says something in a room.
    pub async fn say(&self, room: &str, author: &str, text: &str) -> Result<String> {
        self.say_once(room, author, text, None).await
    }

    /// Says something under a nonce: a second time with the same one adds nothing.
    pub async fn say_once(
        &self,
        room: &str,
        author: &str,
        text: &str,
        nonce: Option<&str>,
    ) -> Result<String> {
        let mut body = serde_json::json!({ "author": author, "text": text });
        if let Some(nonce) = nonce {
            body["nonce"] = nonce.into();
        }
        let path = format!("/api/v1/rooms/{room}/messages");
        let answer =
            self.send("POST", &path, &[("content-type", "application/json")], body.to_string()).await?;
        if answer.status != StatusCode::CREATED {
            bail!("POST {path}: {} {}", answer.status, answer.body);
        }
        Ok(serde_json::from_str::<Posted>(&answer.body)?.id)
    }

    /// Says something in a room, or announces it (`path` decides), and gives the whole answer.
    pub async fn post(&self, path: &str, author: &str, text: &str) -> Result<Posted> {
        let body = serde_json::json!({ "author": author, "text": text }).to_string();
        let answer = self.send("POST", path, &[("content-type", "application/json")], body).await?;
        if answer.status != StatusCode::CREATED {
            bail!("POST {path}: {} {}", answer.status, answer.body);
        }
        Ok(serde_json::from_str(&answer.body)?)
    }

    /// What was said in a room, in display order.
    pub async fn history(&self, room: &str) -> Result<Vec<Message>> {
        self.json(&format!("/api/v1/rooms/{room}/messages")).await
    }

    /// What was said in a room after a message.
    pub async fn history_after(&self, room: &str, id: &str) -> Result<Vec<Message>> {
        self.json(&format!("/api/v1/rooms/{room}/messages?after={id}")).await
    }

    /// What was announced, in display order.
    pub async fn announcements(&self) -> Result<Vec<Message>> {
        self.json("/api/v1/announcements").await
    }

    /// Gives a room a file.
    pub async fn give(&self, room: &str, name: &str, body: impl Into<Vec<u8>>) -> Result<Uploaded> {
        let url = self.url(&format!("/api/v1/rooms/{room}/files"));
        let url = reqwest::Url::parse_with_params(&url, [("name", name), ("from", "Ada")])?;
        let request = self.client.post(url).header("content-type", "application/pdf");
        let response = request.timeout(FILE).body(body.into()).send().await?;
        let (status, location) = (response.status(), response.headers().get("location").cloned());
        if status != StatusCode::CREATED {
            bail!("giving {name}: {status} {}", response.text().await?);
        }
        let uploaded: Uploaded = response.json().await?;
        match location {
            Some(location) if location == format!("/api/v1/files/{}", uploaded.id) => Ok(uploaded),
            location => bail!("{name} is at {location:?}"),
        }
    }

    /// The files of a room.
    pub async fn files(&self, room: &str) -> Result<Vec<SharedFile>> {
        self.json(&format!("/api/v1/rooms/{room}/files")).await
    }

    /// The whole of a file.
    pub async fn file(&self, id: &str) -> Result<Vec<u8>> {
        let url = self.url(&format!("/api/v1/files/{id}"));
        let response = self.client.get(url).timeout(FILE).send().await?.error_for_status()?;
        Ok(response.bytes().await?.to_vec())
    }

    /// The relay's figures.
    pub async fn metrics(&self) -> Result<Metrics> {
        Metrics::parse(&self.get("/metrics").await?.body)
    }

    async fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let answer = self.get(path).await?;
        if !answer.status.is_success() {
            bail!("GET {path}: {} {}", answer.status, answer.body);
        }
        serde_json::from_str(&answer.body).with_context(|| format!("GET {path} gave {}", answer.body))
    }
}
