//! The admin listener.
use std::sync::Arc;

use tokio::sync::watch;

use crate::app::Readiness;
use crate::config::Secret;
use crate::gateway::Gateway;
use crate::telemetry::metrics::Metrics;
use crate::token::signing::SigningKeys;

/// What its handlers work on.
#[derive(Clone, Debug)]
pub struct AdminState {
    /// The gateway.
    pub gateway: Arc<Gateway>,
    /// Own signing keys.
    pub signing: Arc<SigningKeys>,
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// The admin token.
    pub token: Secret,
    /// Whether to send requests here.
    pub readiness: Readiness,
}

/// Serves until the gateway stops.
pub async fn serve(_listener: tokio::net::TcpListener, _state: AdminState, _stopping: watch::Receiver<bool>) {}
