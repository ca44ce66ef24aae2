//! The gateway's condition: alive, ready, metrics, configuration; and the document of the whole API.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::{Value, json};

use super::Admin;
use super::refusal::{AdminReason, Refusal};
use crate::config::Config;
use crate::telemetry::metrics;

/// OpenAPI 3.1, of the admin and the public endpoints.
pub(super) const OPENAPI: &str = include_str!("../../docs/openapi.json");

/// `GET /healthz`: that it is answered is the answer.
pub(super) async fn health() -> Response {
    Json(json!({ "status": "ok" })).into_response()
}

/// `GET /readyz`: whether to send requests here.
pub(super) async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    let faults = admin.state.readiness.faults(&admin.state.gateway);
    let warnings = admin.state.readiness.warnings(&admin.state.gateway);
    let lag = admin.state.gateway.sessions.freshness().map(|fresh| fresh.lag().as_secs_f64());
    let answer = |status: &str| {
        let mut body = json!({ "status": status, "faults": &faults, "warnings": &warnings });
        if let Some(lag) = lag {
            body["revocation_lag_seconds"] = json!(lag);
        }
        Json(body)
    };
    if faults.is_empty() {
        return answer(if warnings.is_empty() { "ready" } else { "degraded" }).into_response();
    }
    let body = answer("not_ready");
    (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")], body).into_response()
}

/// `GET /metrics`: the OpenMetrics text.
pub(super) async fn metrics(State(admin): State<Arc<Admin>>) -> Result<Response, Refusal> {
    let text = metrics::encode(&admin.state.metrics).map_err(|error| {
        tracing::error!(error = %error, "cannot write the metrics");
        AdminReason::Internal
    })?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, kind)], text).into_response())
}

/// `GET /openapi.json`
pub(super) async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

/// `GET /v1/config`: what is in effect, without secrets.
pub(super) async fn config(State(admin): State<Arc<Admin>>) -> Json<Value> {
    Json(effective_config(&admin.state.gateway.config))
}

fn effective_config(config: &Config) -> Value {
    config.to_redacted_json()
}
