//! Metrics: counted by each worker for itself, added up when scraped.
//!
//! A worker writes only its own cells, with a plain load and store instead of a locked instruction; the scrape reads
//! everybody's. A figure may be one event old, never torn.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use crate::reject::Reason;
use crate::revocation::EndCounts;

/// A number that one thread counts up.
#[derive(Debug, Default)]
pub struct Cell(AtomicU64);

impl Cell {
    /// One more. Only the owning worker may call it: two writers would lose counts.
    pub fn add(&self, by: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(by), Relaxed);
    }

    /// One more, from any thread.
    pub fn add_shared(&self, by: u64) {
        self.0.fetch_add(by, Relaxed);
    }

    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Sets it: for gauges.
    pub fn set(&self, to: u64) {
        self.0.store(to, Relaxed);
    }
}

/// Upper bounds of the duration buckets, in seconds.
const BOUNDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// Durations in buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Cell; BOUNDS.len() + 1],
    sum_micros: Cell,
}

impl Histogram {
    /// Counts one. Only the owning worker may call it.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        self.buckets[bucket].add(1);
        self.sum_micros.add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }
}

/// What one worker counts.
#[derive(Debug)]
pub struct WorkerMetrics {
    /// Finished requests: by route (the last is "none": no route, or ours), then by the first digit of the status.
    pub requests: Vec<[Cell; 6]>,
    /// Refusals by [`Reason::index`].
    pub refused: Vec<Cell>,
    /// Requests that went on although they would have been refused, by [`Reason::index`].
    pub would_refuse: Vec<Cell>,
    /// From the request's header to the end of the response.
    pub duration: Histogram,
    /// By upstream: from the request being handed over to the response header.
    pub upstream_duration: Vec<Histogram>,
    /// By upstream: connections opened.
    pub upstream_opened: Vec<Cell>,
    /// By upstream: requests given to one connection and sent again over another. Servers passed over because they
    /// cannot be connected to are none: nothing was sent.
    pub upstream_retried: Vec<Cell>,
    /// Client connections accepted.
    pub accepted: Cell,
    /// Client connections open: a gauge.
    pub open: Cell,
    /// TLS handshakes done.
    pub handshakes: Cell,
    /// TLS handshakes that failed or took too long.
    pub handshakes_failed: Cell,
    /// Client connections closed because a limit or a deadline was crossed.
    pub closed_by_limit: Vec<Cell>,
    /// Requests that took the fast lane.
    pub fast_lane: Cell,
    /// Requests whose token was found verified.
    pub cache_hits: Cell,
    /// Requests whose token was verified.
    pub cache_misses: Cell,
    /// Tokens kept: a gauge.
    pub cache_entries: Cell,
    /// Requests and streams with an identity that are under way: a gauge.
    pub streams: Cell,
    /// Access log lines dropped because the output did not keep up.
    pub log_dropped: Cell,
}

/// Why a connection was closed by us.
#[derive(Clone, Copy, Debug)]
pub enum ConnectionLimit {
    /// `limits.connections`
    Connections,
    /// `limits.connections_per_address`
    ConnectionsPerAddress,
    /// `limits.tls_handshake_timeout`
    HandshakeTimeout,
    /// `limits.header_timeout`
    HeaderTimeout,
    /// `limits.idle_timeout`
    IdleTimeout,
    /// `limits.body_idle_timeout`: the client did not take its response. Over HTTP/2 only its stream is closed.
    WriteTimeout,
    /// Not in `server.listener.proxy_protocol`.
    NoBalancer,
    /// A balancer sent no PROXY header, or a malformed one.
    ProxyHeader,
    /// `limits.http2_control_frames`
    ControlFrames,
    /// `limits.http2_resets`, of streams whose request was already being answered.
    Resets,
    /// The client of HTTP/2 asked too much: resets before we had looked at the stream, CONTINUATION without an end, many
    /// small pieces at once, a header far over its limit.
    Flood,
}

const CONNECTION_LIMITS: [&str; 11] = [
    "connections",
    "connections_per_address",
    "tls_handshake_timeout",
    "header_timeout",
    "idle_timeout",
    "write_timeout",
    "no_balancer",
    "proxy_header",
    "http2_control_frames",
    "http2_resets",
    "http2_flood",
];

impl WorkerMetrics {
    fn new(routes: usize, upstreams: usize) -> Self {
        fn many<T: Default>(count: usize) -> Vec<T> {
            std::iter::repeat_with(T::default).take(count).collect()
        }
        Self {
            requests: many(routes + 1),
            refused: many(Reason::ALL.len()),
            would_refuse: many(Reason::ALL.len()),
            duration: Histogram::default(),
            upstream_duration: many(upstreams),
            upstream_opened: many(upstreams),
            upstream_retried: many(upstreams),
            accepted: Cell::default(),
            open: Cell::default(),
            handshakes: Cell::default(),
            handshakes_failed: Cell::default(),
            closed_by_limit: many(CONNECTION_LIMITS.len()),
            fast_lane: Cell::default(),
            cache_hits: Cell::default(),
            cache_misses: Cell::default(),
            cache_entries: Cell::default(),
            streams: Cell::default(),
            log_dropped: Cell::default(),
        }
    }

    /// Counts a connection closed by `limit`.
    pub fn limit(&self, limit: ConnectionLimit) {
        self.closed_by_limit[limit as usize].add(1);
    }
}

/// What is counted for the whole process, from any thread.
#[derive(Debug, Default)]
pub struct SharedMetrics {
    /// Sign-ins.
    pub sign_ins: Cell,
    /// Refreshes that rotated.
    pub refreshes_rotated: Cell,
    /// Refreshes answered again within the grace.
    pub refreshes_repeated: Cell,
    /// Refreshes refused.
    pub refreshes_refused: Cell,
    /// Refreshes that failed because the store did.
    pub refreshes_failed: Cell,
}

/// A gauge that is read when scraped.
struct Gauge {
    name: &'static str,
    help: &'static str,
    labels: Vec<(&'static str, String)>,
    read: Box<dyn Fn() -> f64 + Send + Sync>,
}

/// All metrics of the process.
pub struct Metrics {
    workers: Vec<Arc<WorkerMetrics>>,
    /// Counted from any thread.
    pub shared: Arc<SharedMetrics>,
    ended: Arc<EndCounts>,
    routes: Vec<Arc<str>>,
    upstreams: Vec<Arc<str>>,
    gauges: Vec<Gauge>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("workers", &self.workers.len()).finish_non_exhaustive()
    }
}

impl Metrics {
    /// For so many workers and these routes and upstreams; `ended` is what the sessions count.
    pub fn new(workers: usize, routes: Vec<Arc<str>>, upstreams: Vec<Arc<str>>, ended: Arc<EndCounts>) -> Self {
        let worker = || Arc::new(WorkerMetrics::new(routes.len(), upstreams.len()));
        Self {
            workers: std::iter::repeat_with(worker).take(workers).collect(),
            shared: Arc::default(),
            ended,
            routes,
            upstreams,
            gauges: Vec::new(),
        }
    }

    /// Adds a gauge that is read when scraped.
    pub fn gauge(
        &mut self,
        name: &'static str,
        help: &'static str,
        labels: Vec<(&'static str, String)>,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        self.gauges.push(Gauge { name, help, labels, read: Box::new(read) });
    }

    /// The cells of one worker.
    pub fn worker(&self, index: usize) -> Arc<WorkerMetrics> {
        self.workers[index].clone()
    }

    /// Open client connections.
    pub fn open_connections(&self) -> u64 {
        self.sum(|worker| &worker.open)
    }

    /// Requests and streams with an identity that are under way.
    pub fn open_streams(&self) -> u64 {
        self.sum(|worker| &worker.streams)
    }

    fn sum(&self, cell: impl Fn(&WorkerMetrics) -> &Cell) -> u64 {
        self.workers.iter().map(|worker| cell(worker).get()).sum()
    }

    fn encode_by_reason(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        name: &str,
        help: &str,
        cells: impl Fn(&WorkerMetrics) -> &[Cell],
    ) -> fmt::Result {
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for reason in Reason::ALL {
            let count = self.sum(|worker| &cells(worker)[reason.index()]);
            if count > 0 {
                family
                    .encode_family(&[("reason", reason.as_str())])?
                    .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
            }
        }
        Ok(())
    }

    fn histogram(&self, of: impl Fn(&WorkerMetrics) -> &Histogram) -> (f64, u64, Vec<(f64, u64)>) {
        let bounds = BOUNDS.into_iter().chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> =
            bounds.enumerate().map(|(at, bound)| (bound, self.sum(|worker| &of(worker).buckets[at]))).collect();
        let sum = self.sum(|worker| &of(worker).sum_micros);
        #[expect(clippy::cast_precision_loss, reason = "a sum of durations is read as an approximation")]
        let seconds = sum as f64 / 1e6;
        (seconds, buckets.iter().map(|(_, count)| count).sum(), buckets)
    }
}

const STATUS_CLASSES: [&str; 6] = ["other", "1xx", "2xx", "3xx", "4xx", "5xx"];

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let counter = MetricType::Counter;
        let mut family = encoder.encode_descriptor(
            "portcullis_requests",
            "Finished requests by route and status.",
            None,
            counter,
        )?;
        let names = self.routes.iter().map(|name| &**name).chain(["-"]);
        for (route, name) in names.enumerate() {
            for (class, status) in STATUS_CLASSES.iter().enumerate() {
                let count = self.sum(|worker| &worker.requests[route][class]);
                if count > 0 {
                    family
                        .encode_family(&[("route", name), ("status", *status)])?
                        .encode_counter::<NoLabelSet, _, u64>(&count, None)?;
                }
            }
        }
        self.encode_by_reason(
            &mut encoder,
            "portcullis_refused",
            "Requests not answered by an upstream, by reason.",
            |worker| &worker.refused,
        )?;
        self.encode_by_reason(
            &mut encoder,
            "portcullis_would_refuse",
            "Requests let through in mode \"observe\" that would have been refused, by reason.",
            |worker| &worker.would_refuse,
        )?;
        let (sum, count, buckets) = self.histogram(|worker| &worker.duration);
        encoder
            .encode_descriptor(
                "portcullis_request_duration_seconds",
                "From the request's header to the end of the response.",
                None,
                MetricType::Histogram,
            )?
            .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        let mut family = encoder.encode_descriptor(
            "portcullis_upstream_duration_seconds",
            "From handing a request over to the response header.",
            None,
            MetricType::Histogram,
        )?;
        for (at, name) in self.upstreams.iter().enumerate() {
            let (sum, count, buckets) = self.histogram(|worker| &worker.upstream_duration[at]);
            family
                .encode_family(&[("upstream", &**name)])?
                .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        }
        let mut family = encoder.encode_descriptor(
            "portcullis_upstream_connections_opened",
            "Connections opened to upstreams.",
            None,
            counter,
        )?;
        for (at, name) in self.upstreams.iter().enumerate() {
            let count = self.sum(|worker| &worker.upstream_opened[at]);
            family.encode_family(&[("upstream", &**name)])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let mut family = encoder.encode_descriptor(
            "portcullis_upstream_retries",
            "Requests given to one connection and sent again over another: it was closed, or the server did not process them.",
            None,
            counter,
        )?;
        for (at, name) in self.upstreams.iter().enumerate() {
            let count = self.sum(|worker| &worker.upstream_retried[at]);
            family.encode_family(&[("upstream", &**name)])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let mut family = encoder.encode_descriptor(
            "portcullis_connections_closed",
            "Client connections closed or refused because of a limit.",
            None,
            counter,
        )?;
        for (at, limit) in CONNECTION_LIMITS.iter().enumerate() {
            let count = self.sum(|worker| &worker.closed_by_limit[at]);
            family.encode_family(&[("limit", *limit)])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        for (name, help, count) in [
            ("portcullis_connections_accepted", "Client connections accepted.", self.sum(|w| &w.accepted)),
            ("portcullis_tls_handshakes", "TLS handshakes done.", self.sum(|w| &w.handshakes)),
            ("portcullis_tls_handshakes_failed", "TLS handshakes that failed.", self.sum(|w| &w.handshakes_failed)),
            ("portcullis_fast_lane_requests", "Requests that took the fast lane.", self.sum(|w| &w.fast_lane)),
            ("portcullis_token_cache_hits", "Requests whose token was known to be good.", self.sum(|w| &w.cache_hits)),
            ("portcullis_token_cache_misses", "Requests whose token was verified.", self.sum(|w| &w.cache_misses)),
            ("portcullis_access_log_dropped", "Access log lines dropped.", self.sum(|w| &w.log_dropped)),
            ("portcullis_sign_ins", "Sessions created.", self.shared.sign_ins.get()),
        ] {
            encoder.encode_descriptor(name, help, None, counter)?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        let mut family = encoder.encode_descriptor("portcullis_refreshes", "Refreshes by result.", None, counter)?;
        for (result, cell) in [
            ("rotated", &self.shared.refreshes_rotated),
            ("repeated", &self.shared.refreshes_repeated),
            ("refused", &self.shared.refreshes_refused),
            ("failed", &self.shared.refreshes_failed),
        ] {
            family.encode_family(&[("result", result)])?.encode_counter::<NoLabelSet, _, u64>(&cell.get(), None)?;
        }
        let mut family =
            encoder.encode_descriptor("portcullis_sessions_ended", "Sessions ended by reason.", None, counter)?;
        for (reason, count) in self.ended.all() {
            family.encode_family(&[("reason", reason.as_str())])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        for (name, help, value) in [
            ("portcullis_connections_open", "Client connections open.", self.open_connections()),
            ("portcullis_streams_open", "Requests and streams with an identity under way.", self.open_streams()),
            ("portcullis_token_cache_entries", "Verified tokens kept.", self.sum(|w| &w.cache_entries)),
        ] {
            encoder
                .encode_descriptor(name, help, None, MetricType::Gauge)?
                .encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX))?;
        }
        // Gauges of one name stand together under one description.
        for group in self.gauges.chunk_by(|one, next| one.name == next.name) {
            let Some(first) = group.first() else { continue };
            let mut family = encoder.encode_descriptor(first.name, first.help, None, MetricType::Gauge)?;
            for gauge in group {
                let value = (gauge.read)();
                match gauge.labels.as_slice() {
                    [] => family.encode_gauge(&value)?,
                    labels => family.encode_family(&labels)?.encode_gauge(&value)?,
                }
            }
        }
        Ok(())
    }
}

/// The text form for `GET /metrics`.
///
/// # Errors
/// When a metric cannot be written, which no value does.
pub fn encode(metrics: &Arc<Metrics>) -> Result<String, fmt::Error> {
    #[derive(Debug)]
    struct Shared(Arc<Metrics>);
    impl Collector for Shared {
        fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
            self.0.encode(encoder)
        }
    }
    let mut registry = prometheus_client::registry::Registry::default();
    registry.register_collector(Box::new(Shared(metrics.clone())));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_added_up() {
        let mut metrics = Metrics::new(2, vec!["a".into()], vec!["u".into()], Arc::default());
        metrics.gauge("portcullis_g", "A gauge.", vec![("x", "1".to_owned())], || 3.0);
        metrics.gauge("portcullis_g", "A gauge.", vec![("x", "2".to_owned())], || 4.5);
        let metrics = Arc::new(metrics);
        for worker in [0, 1] {
            metrics.worker(worker).requests[0][2].add(2);
            metrics.worker(worker).refused[Reason::SignedOut.index()].add(1);
            metrics.worker(worker).duration.observe(Duration::from_millis(2));
        }
        let text = encode(&metrics).unwrap();
        for line in [
            "portcullis_requests_total{route=\"a\",status=\"2xx\"} 4",
            "portcullis_refused_total{reason=\"signed_out\"} 2",
            "portcullis_request_duration_seconds_count 2",
            "portcullis_request_duration_seconds_bucket{le=\"0.0025\"} 2",
            "portcullis_g{x=\"1\"} 3.0",
            "portcullis_g{x=\"2\"} 4.5",
            "# EOF",
        ] {
            assert!(text.contains(line), "{line}\n{text}");
        }
    }
}
