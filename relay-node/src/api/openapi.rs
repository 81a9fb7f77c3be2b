//! `GET /api/v1/openapi.json`: the API for machines, made from the handlers themselves. WHIP and WHEP
//! have their own standards; here are their paths, statuses and headers.

use std::sync::LazyLock;

use axum::{body::Bytes, http::header, response::IntoResponse};
use serde_json::{Value, json};
use utoipa::OpenApi;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "PeddleNet Relay",
        description = "One relay serves one zone of a festival. Any relay of the mesh answers for any stream. \
            Errors are application/problem+json (RFC 9457) with a title that says what to do."
    ),
    paths(
        super::streams::list,
        super::streams::session,
        super::mesh::show,
        super::rooms::history,
        super::rooms::post,
        super::announcements::list,
        super::announcements::post,
        super::files::list,
        super::files::upload,
        super::uploads::go_on,
        super::uploads::look,
        super::uploads::discard,
        super::files::download,
        super::health::live,
        super::health::ready,
        super::health::metrics,
        super::health::version,
    ),
    components(schemas(protocol::api::LayerWish, protocol::api::PictureLayers))
)]
struct Document;

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(whole().to_string()));

/// The OpenAPI document.
pub async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT.clone())
}

fn whole() -> Value {
    let mut document = serde_json::to_value(Document::openapi()).unwrap_or_default();
    document["components"]["securitySchemes"] = json!({
        "publish": { "type": "http", "scheme": "bearer",
            "description": "the relay's --publish-token; a relay with --dev asks for none" }
    });
    for protocol in ["whip", "whep"] {
        document["paths"][format!("/{protocol}/{{stream}}")] = endpoint(protocol);
        document["paths"][format!("/{protocol}/{{stream}}/{{session}}")] = session(protocol);
    }
    document["paths"]["/whep/{stream}/{session}/layer"] = layer();
    document["paths"]["/whep/{stream}/{session}/events"] = events();
    document["paths"]["/api/v1/openapi.json"] = json!({ "get": {
        "tags": ["operations"], "summary": "This document.",
        "responses": { "200": { "description": "OpenAPI", "content": { "application/json": {} } } }
    } });
    document["paths"]["/api/v1/rooms/{room}/ws"] = json!({ "get": {
        "tags": ["rooms"],
        "summary": "A WebSocket in a room: chat, presence, events; docs/signaling.md is its manual.",
        "parameters": [parameter("room", "1 to 64 of a-z, 0-9 and -")],
        "responses": {
            "101": { "description": "from here on JSON text messages" },
            "400": problem("no such room name, or not a WebSocket request"),
            "503": problem("busy: see Retry-After"),
        }
    } });
    for (_, path) in document["paths"].as_object_mut().into_iter().flatten() {
        path.as_object_mut().into_iter().flatten().for_each(|(_, operation)| without_errors(operation));
        meant_for_all(path);
    }
    document
}

/// What the comment of a handler says of errors is for those who read the code: here it is in the responses.
fn without_errors(operation: &mut Value) {
    let Some(text) = operation["description"].as_str() else { return };
    let kept = text.split("# Errors").next().unwrap_or_default().trim().to_owned();
    let Some(operation) = operation.as_object_mut() else { return };
    match kept.is_empty() {
        true => operation.remove("description"),
        false => operation.insert("description".to_owned(), kept.into()),
    };
}

/// What any request can be answered with, whatever its path.
fn meant_for_all(path: &mut Value) {
    for (method, operation) in path.as_object_mut().into_iter().flatten() {
        let has_body = operation["requestBody"].is_object();
        let Some(responses) = operation["responses"].as_object_mut() else { continue };
        let mut add = |status: &str, text| {
            responses.entry(status).or_insert_with(|| problem(text));
        };
        add("421", "the Host is none of this relay's: the title names the flag that allows it");
        if method != "get" {
            add("403", "a page of another origin: the title names the flag that allows it");
        }
        if has_body {
            add("408", "the body trickles");
        }
    }
}

fn parameter(name: &str, description: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "description": description,
        "schema": { "type": "string" } })
}

fn problem(description: &str) -> Value {
    json!({ "description": description, "content": {
        "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } } })
}

fn sdp(description: &str) -> Value {
    json!({ "description": description, "content": {
        "application/sdp": { "schema": { "type": "string" } } } })
}

fn stream() -> Value {
    parameter("stream", "one to three segments of [a-z0-9-]{1,64} joined by /")
}

fn header_of(description: &str) -> Value {
    json!({ "description": description, "schema": { "type": "string" } })
}

fn endpoint(protocol: &str) -> Value {
    let (summary, security) = match protocol {
        "whip" => ("Publish a stream (RFC 9725).", json!([{ "publish": [] }])),
        _ => ("Play a stream (WHEP draft).", json!([])),
    };
    let mut created = sdp("the answer, with all candidates");
    created["headers"] = json!({
        "Location": header_of("absolute path of the session: who knows it may end the session"),
        "ETag": header_of("of the ICE session, strong"),
        "Link": header_of("rel=\"status\": /api/v1/sessions/{session}, what the session gets of its stream; of a \
            listener with a picture also where it wishes and reads events"),
    });
    let mut responses = json!({
        "201": created,
        "400": problem("not an SDP offer, or no such stream name"),
        "413": problem("the offer is too large"),
        "415": problem("not application/sdp, or packed"),
        "422": problem("an offer that cannot be served: the title says what to change"),
        "503": problem("overloaded: see Retry-After"),
    });
    if protocol == "whip" {
        responses["401"] = problem("no token");
        responses["403"] = problem("a token that does not allow publishing");
    } else {
        responses["406"] =
            problem("the offer has no codec that the stream carries now: the title names those");
        responses["409"] = problem("nobody publishes it anywhere in the mesh: see Retry-After");
    }
    json!({ "post": {
        "tags": ["media"], "summary": summary, "security": security,
        "parameters": [stream()],
        "requestBody": sdp("the offer"),
        "responses": responses,
    } })
}

fn layer() -> Value {
    json!({ "post": {
        "tags": ["media"],
        "summary": "Wish another quality of the picture, or sound only. It is a bound: the relay may send less.",
        "parameters": [stream(), parameter("session", "as in Location")],
        "requestBody": { "content": { "application/json": {
            "schema": { "$ref": "#/components/schemas/LayerWish" } } } },
        "responses": {
            "200": { "description": "wished" },
            "400": problem("no wish"),
            "404": problem("no such session or encoding: the title names those there are"),
            "413": problem("over 4 KiB"),
            "415": problem("not application/json"),
            "429": problem("more than 20 wishes a second: see Retry-After"),
        }
    } })
}

fn events() -> Value {
    let parameters = json!([stream(), parameter("session", "as in Location")]);
    let unknown = problem("no such event: the title names those there are");
    json!({
        "get": {
            "tags": ["media"],
            "summary": "What the listener sees, as server-sent events: layers and quality.",
            "parameters": [stream(), parameter("session", "as in Location"),
                { "name": "only", "in": "query", "description": "names of events, joined by commas",
                    "schema": { "type": "string" } }],
            "responses": {
                "200": { "description": "events, until the session ends; quality has a Picture, layers PictureLayers by mid",
                    "content": { "text/event-stream": { "schema": { "type": "string" } } } },
                "404": problem("no such session"),
                "422": unknown,
                "503": problem("too many are read: see Retry-After"),
            }
        },
        "post": {
            "tags": ["media"],
            "summary": "Say which events will be read.",
            "parameters": parameters,
            "requestBody": { "content": { "application/json": {
                "schema": { "type": "array", "items": { "type": "string" } } } } },
            "responses": {
                "201": { "description": "read them at Location" },
                "400": problem("no list of names"),
                "404": problem("no such session"),
                "413": problem("over 4 KiB"),
                "415": problem("not application/json"),
                "422": unknown,
            }
        }
    })
}

fn session(protocol: &str) -> Value {
    let parameters = json!([stream(), parameter("session", "as in Location")]);
    let fragment = json!({ "content": {
        "application/trickle-ice-sdpfrag": { "schema": { "type": "string" } } } });
    json!({
        "patch": {
            "tags": ["media"], "summary": format!("Trickle ICE or ICE restart of a {protocol} session."),
            "parameters": parameters, "requestBody": fragment,
            "responses": {
                "200": { "description": "restarted: the relay's new credentials", "content": {
                    "application/trickle-ice-sdpfrag": { "schema": { "type": "string" } } } },
                "204": { "description": "candidates taken" },
                "404": problem("no such session"),
                "412": problem("If-Match names other ICE sessions only"),
                "415": problem("not application/trickle-ice-sdpfrag"),
                "422": problem("neither candidates nor a restart"),
                "428": problem("If-Match is missing"),
            }
        },
        "delete": {
            "tags": ["media"], "summary": format!("End a {protocol} session."),
            "parameters": parameters,
            "responses": {
                "200": { "description": "ended" },
                "404": problem("no such session"),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_documented_and_every_reference_leads_somewhere() {
        let document = whole();
        for path in [
            "/whip/{stream}",
            "/whep/{stream}/{session}",
            "/whep/{stream}/{session}/layer",
            "/whep/{stream}/{session}/events",
            "/api/v1/streams",
            "/api/v1/sessions/{session}",
            "/api/v1/mesh",
            "/api/v1/rooms/{room}/messages",
            "/api/v1/rooms/{room}/ws",
            "/api/v1/rooms/{room}/files",
            "/api/v1/files/{id}",
            "/api/v1/openapi.json",
            "/livez",
            "/readyz",
            "/metrics",
            "/version",
        ] {
            assert!(document["paths"][path].is_object(), "{path}");
        }
        let message = &document["paths"]["/api/v1/rooms/{room}/messages"]["post"]["responses"];
        assert!(["403", "408", "421", "429"].iter().all(|status| message[status].is_object()), "{message}");
        let mesh = &document["components"]["schemas"]["Mesh"]["properties"];
        assert!(mesh["cut_links"].is_object(), "{mesh}");
        assert_eq!(mesh["bridges"]["deprecated"], true, "the old name of it");
        let text = document.to_string();
        assert!(!text.contains("# Errors"), "the responses say it");
        let references: Vec<_> = text.split("#/components/schemas/").skip(1).collect();
        assert!(!references.is_empty());
        for reference in references {
            let name = reference.split('"').next().expect("a name");
            assert!(document["components"]["schemas"][name].is_object(), "{name}");
        }
    }
}
