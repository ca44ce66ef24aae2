//! Puts the rooms together: opens what the configuration names, starts the threads, and stops them in order.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::admin::{self, AdminState};
use crate::auth_api::AuthApi;
use crate::causes::chain;
use crate::clock::UnixTime;
use crate::config::{Access, Config, Secret, Session};
use crate::gateway::{Gateway, Worker};
use crate::revocation::Revocations;
use crate::route::RouteTable;
use crate::server::accept::{self, Admission, Claim};
use crate::server::listener::Terms;
use crate::server::tls::{self, TlsError};
use crate::server::worker::{self, Drained, WorkerSetup};
use crate::session::store::{SessionStore, StoreError};
use crate::session::{
    EmbeddedStore, OpenError, RedisOpenError, RedisStore, RefreshKeys, RefreshKeysError, SessionPolicy, Sessions,
};
use crate::tasks::Upkeep;
use crate::telemetry::access::AccessWriter;
use crate::telemetry::metrics::Metrics;
use crate::token::jwks;
use crate::token::signing::{SigningKeys, SigningKeysError};
use crate::token::verify::{IssuerPolicy, Verifier};
use crate::token::{IssuerIndex, OWN_ISSUER};
use crate::upstream::{self, Dialer, Names, SharedUpstream};

/// Threads for the store's callers, the admin listener and background work.
const CONTROL_THREADS: usize = 2;

/// The admin listener gives its own calls 5 s to end; this is for when it does not.
const ADMIN_DRAIN: Duration = Duration::from_secs(6);

/// Stands for a socket that does not know its address, which a bound one does.
const UNSPECIFIED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Why the gateway did not start. Nothing is left running.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A certificate.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The store.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The store, when several gateways share it.
    #[error(transparent)]
    SharedStore(#[from] RedisOpenError),
    /// Own signing keys.
    #[error(transparent)]
    SigningKeys(#[from] SigningKeysError),
    /// The keys of refresh tokens.
    #[error(transparent)]
    RefreshKeys(#[from] RefreshKeysError),
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// A thread or runtime cannot be made.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// The system gives no randomness.
    #[error("the system gives no randomness")]
    Random,
}

/// What the readiness endpoint says.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    stopping: Arc<AtomicBool>,
}

/// A running gateway.
#[derive(Debug)]
pub struct App {
    gateway: Arc<Gateway>,
    listening: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    control: Runtime,
    tasks: JoinSet<()>,
    admin_task: Option<tokio::task::JoinHandle<()>>,
    workers: Vec<JoinHandle<io::Result<Drained>>>,
    access: AccessWriter,
    stop: watch::Sender<bool>,
    stop_admin: watch::Sender<bool>,
    readiness: Readiness,
    #[expect(dead_code, reason = "held as long as there are workers that listen")]
    claims: Vec<Claim>,
}

impl App {
    /// Starts a gateway: everything that can fail does so before the first connection is accepted, and the revocations
    /// are complete by then.
    ///
    /// # Errors
    /// [`StartError`] says what to mend.
    pub fn start(config: Config) -> Result<Self, StartError> {
        // Before the store is opened: a start that fails on a taken port leaves nothing on the disk.
        let sockets = Sockets::bind(&config)?;
        Self::start_on(config, sockets)
    }

    /// As [`App::start`], on sockets that were bound before: the process may have given up its right to do so since.
    ///
    /// # Errors
    /// [`StartError`] says what to mend.
    pub fn start_on(config: Config, sockets: Sockets) -> Result<Self, StartError> {
        let control = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(CONTROL_THREADS)
            .thread_name("control")
            .enable_all()
            .build()
            .map_err(StartError::Thread)?;
        let foundation = Foundation::open(&config, &control, UnixTime::now())?;
        sockets.start_listening()?;
        let (listening, admin) = sockets.addresses();
        let access = AccessWriter::start(&config.log).map_err(StartError::Thread)?;

        let workers = config.server.workers.get();
        let upstreams = config.upstreams.iter().map(|upstream| Arc::new(SharedUpstream::new(upstream, workers)));
        let upstreams = upstreams.collect::<Vec<_>>();
        let mut metrics = foundation.metrics(&config);
        upstream::add_gauges(&mut metrics, &upstreams);
        let metrics = Arc::new(metrics);
        let Foundation { tls, dialers, names, signing, verifier, sessions, .. } = foundation;
        let (stop, stopping) = watch::channel(false);
        let (stop_admin, admin_stopping) = watch::channel(false);
        let readiness = Readiness::default();
        let gateway = Arc::new(Gateway {
            routes: RouteTable::new(&config, |name| verifier.issuer_named(name)),
            auth_api: AuthApi::new(&config, signing.clone(), metrics.shared.clone()),
            verifier: verifier.clone(),
            revocations: sessions.revocations().clone(),
            sessions,
            upstreams,
            dialers,
            metrics: metrics.clone(),
            control: control.handle().clone(),
            config,
        });

        let inside = control.enter();
        let mut tasks = background(&gateway, &signing, &stopping);
        names.keep_fresh(&mut tasks, &stopping);
        let admin_task = match sockets.admin {
            Some((listener, token)) => {
                let listener = tokio::net::TcpListener::from_std(listener).map_err(StartError::Thread)?;
                let state =
                    AdminState { gateway: gateway.clone(), signing, metrics, token, readiness: readiness.clone() };
                Some(tokio::spawn(admin::serve(listener, state, admin_stopping)))
            }
            None => None,
        };
        drop(inside);
        let workers = start_workers(&gateway, sockets.public, tls.as_ref(), &access, &stopping)?;
        let claims = sockets.claims;
        Ok(Self {
            gateway,
            listening,
            admin,
            control,
            tasks,
            admin_task,
            workers,
            access,
            stop,
            stop_admin,
            readiness,
            claims,
        })
    }

    /// Where clients connect, in the order of `config.server.listeners`; with the ports the system chose for port 0.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// Where the admin listener is.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// What the workers share.
    pub fn gateway(&self) -> &Arc<Gateway> {
        &self.gateway
    }

    /// Runs a future beside the gateway: what waits for a signal.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.control.block_on(future)
    }

    /// Stops: no new connections, requests in flight are answered until the drain deadline, then the store is closed.
    ///
    /// # Errors
    /// When the store cannot write what it still holds.
    pub fn stop(mut self) -> Result<Drained, StoreError> {
        self.readiness.stopping.store(true, Ordering::Relaxed);
        tracing::info!("stopping: no new connections, waiting for requests in flight");
        // Nobody listens any more only when all workers are gone already.
        let _ = self.stop.send(true);
        let mut drained = Drained::default();
        for worker in self.workers.drain(..) {
            match worker.join() {
                Ok(Ok(one)) => drained.cut += one.cut,
                Ok(Err(error)) => tracing::error!(error = %error, "a worker could not run"),
                Err(_) => tracing::error!("a worker panicked"),
            }
        }
        self.access.finish();
        // The admin listener stays until here: who watches the gateway sees it drain, and that it is not ready.
        let _ = self.stop_admin.send(true);
        let sessions = self.gateway.sessions.clone();
        let closed = self.control.block_on(async {
            if let Some(admin) = self.admin_task.take() {
                drop(tokio::time::timeout(ADMIN_DRAIN, admin).await);
            }
            self.tasks.shutdown().await;
            sessions.close(UnixTime::now()).await
        });
        self.control.shutdown_timeout(Duration::from_secs(1));
        if drained.cut > 0 {
            tracing::warn!(cut = drained.cut, "stopped; connections were cut at the drain deadline");
        } else {
            tracing::info!("stopped; every request was answered");
        }
        closed.map(|()| drained)
    }
}

/// What stands on the disk: certificates, authorities, store and keys, opened and checked.
struct Foundation {
    tls: Option<Arc<ServerConfig>>,
    /// Of each certificate: its file, and when it expires.
    expiry: Vec<(String, UnixTime)>,
    dialers: Vec<Arc<Dialer>>,
    names: Names,
    signing: Arc<SigningKeys>,
    verifier: Arc<Verifier>,
    sessions: Arc<Sessions>,
}

impl Foundation {
    fn open(config: &Config, control: &Runtime, now: UnixTime) -> Result<Self, StartError> {
        let files = &config.server.certificates;
        let certificates = files.iter().map(|one| tls::load(one, now)).collect::<Result<Vec<_>, _>>()?;
        let expiry = certificates
            .iter()
            .zip(files)
            .map(|(loaded, file)| (file.chain.display().to_string(), loaded.expires))
            .collect();
        let tls = tls::server_config(certificates)?;
        let (dialers, names) = Dialer::all(&config.upstreams, now)?;

        let policy = session_policy(config);
        // The embedded store first: it makes the directory that its keys are in, with a lock against a second process.
        let revocations = Arc::new(Revocations::default());
        let store: Arc<dyn SessionStore> = match &config.store.redis {
            None => Arc::new(EmbeddedStore::open(&config.store.path, revocations.clone())?),
            Some(redis) => Arc::new(control.block_on(RedisStore::open(redis, &policy, revocations.clone()))?),
        };
        let keys = keys_directory(config);
        let (signing, refresh_keys) = match &config.session {
            None => (SigningKeys::unused(now)?, RefreshKeys::unused()?),
            Some(own) => (
                match own.signing_keys.as_slice() {
                    [] => SigningKeys::open_managed(&keys, now)?,
                    files => SigningKeys::from_files(files)?,
                },
                match own.refresh_keys.as_slice() {
                    [] => RefreshKeys::open_managed(&keys, now)?,
                    files => RefreshKeys::from_files(files)?,
                },
            ),
        };
        let (signing, refresh_keys) = (Arc::new(signing), Arc::new(refresh_keys));
        let verifier = Arc::new(verifier(config));
        if config.session.is_some() {
            signing.publish_to(&verifier);
        }
        let sessions = Arc::new(Sessions::new(policy, store, signing.clone(), refresh_keys, revocations));
        Ok(Self { tls, expiry, dialers, names, signing, verifier, sessions })
    }

    fn metrics(&self, config: &Config) -> Metrics {
        let mut metrics = Metrics::new(
            config.server.workers.get(),
            config.routes.iter().map(|route| route.name.clone()).collect(),
            config.upstreams.iter().map(|upstream| upstream.name.clone()).collect(),
            self.sessions.ended().clone(),
        );
        add_gauges(&mut metrics, &self.verifier, self.sessions.revocations(), &self.expiry);
        add_store_gauges(&mut metrics, &self.sessions);
        metrics
    }
}

/// All sockets that are listened on, bound before any thread is started.
#[derive(Debug)]
pub struct Sockets {
    /// For each listener, one socket for each worker.
    public: Vec<Vec<TcpListener>>,
    /// The admin listener's, with its token.
    admin: Option<(TcpListener, Secret)>,
    /// On each of their addresses.
    claims: Vec<Claim>,
}

impl Sockets {
    /// Binds what `config` says; nobody is let in before [`App::start_on`].
    ///
    /// # Errors
    /// [`StartError::Listen`]
    pub fn bind(config: &Config) -> Result<Self, StartError> {
        let mut claims = Vec::new();
        let mut bind = |address: SocketAddr, count| {
            let bound = accept::bind(address, count).map_err(|cause| StartError::Listen { address, cause });
            bound.map(|(sockets, claim)| {
                claims.push(claim);
                sockets
            })
        };
        let workers = config.server.workers.get();
        let listeners = config.server.listeners.iter();
        let public = listeners.map(|listener| bind(listener.address, workers)).collect::<Result<_, _>>()?;
        let admin = match &config.admin {
            Some(admin) => bind(admin.listen, 1)?.pop().map(|listener| (listener, admin.token.clone())),
            None => None,
        };
        Ok(Self { public, admin, claims })
    }

    fn start_listening(&self) -> Result<(), StartError> {
        let admin = self.admin.as_ref().map(|(listener, _)| std::slice::from_ref(listener));
        for sockets in self.public.iter().map(Vec::as_slice).chain(admin) {
            accept::start_listening(sockets).map_err(|cause| {
                let address = sockets.first().and_then(|socket| socket.local_addr().ok());
                StartError::Listen { address: address.unwrap_or(UNSPECIFIED), cause }
            })?;
        }
        Ok(())
    }

    fn addresses(&self) -> (Vec<SocketAddr>, Option<SocketAddr>) {
        let address_of = |listener: &TcpListener| listener.local_addr().ok();
        let public = self.public.iter().filter_map(|sockets| sockets.first().and_then(address_of)).collect();
        (public, self.admin.as_ref().and_then(|(listener, _)| address_of(listener)))
    }
}

/// Starts upkeep and the fetching of keys on the current runtime.
fn background(gateway: &Gateway, signing: &Arc<SigningKeys>, stopping: &watch::Receiver<bool>) -> JoinSet<()> {
    let own = gateway.config.session.as_ref();
    let mut tasks = Upkeep {
        sessions: gateway.sessions.clone(),
        signing: signing.clone(),
        access_token_ttl: own.map_or(Session::unused().access_token_ttl, |session| session.access_token_ttl),
    }
    .spawn(stopping);
    for (index, issuer) in trusted(&gateway.config) {
        let mut stopping = stopping.clone();
        let stopped = async move { drop(stopping.wait_for(|stop| *stop).await) };
        tasks.spawn(jwks::keep_fresh(index, issuer.clone(), gateway.verifier.clone(), stopped));
    }
    for ((upstream, shared), dialer) in gateway.config.upstreams.iter().zip(&gateway.upstreams).zip(&gateway.dialers) {
        upstream::spawn_checks(upstream, shared, dialer, &mut tasks, stopping);
    }
    tasks
}

fn start_workers(
    gateway: &Arc<Gateway>,
    mut sockets: Vec<Vec<TcpListener>>,
    tls: Option<&Arc<ServerConfig>>,
    access: &AccessWriter,
    stopping: &watch::Receiver<bool>,
) -> Result<Vec<JoinHandle<io::Result<Drained>>>, StartError> {
    let limits = &gateway.config.limits;
    let admission = Admission::new(limits.connections.get(), limits.connections_per_address.get());
    let terms = gateway.config.server.listeners.iter().map(|listener| Arc::new(Terms::new(listener, tls)));
    let terms: Vec<_> = terms.collect();
    let start = |index: usize| {
        let own = sockets.iter_mut().zip(&terms);
        let setup = WorkerSetup {
            listeners: own.filter_map(|(sockets, terms)| Some((sockets.pop()?, terms.clone()))).collect(),
            admission: admission.clone(),
            stopping: stopping.clone(),
            drain_timeout: gateway.config.server.drain_timeout,
        };
        let mut seed = [0; 16];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_opaque| StartError::Random)?;
        let (gateway, metrics, sender) = (gateway.clone(), gateway.metrics.worker(index), access.sender());
        let work = move || {
            worker::run(setup, || {
                let names = gateway.routes.routes().iter().map(|route| route.name.clone()).collect();
                let log = sender.worker(metrics.clone(), names);
                Worker::new(gateway, metrics, log, seed)
            })
        };
        std::thread::Builder::new().name(format!("worker-{index}")).spawn(work).map_err(StartError::Thread)
    };
    (0..gateway.config.server.workers.get()).map(start).collect()
}

impl Readiness {
    /// What keeps the gateway from being ready; empty when nothing does.
    ///
    /// A shared store that is away is none of these, or all gateways would be taken out of service at once while most
    /// of them could go on: it is among the [`warnings`](Self::warnings), until every route that judges tokens refuses.
    pub fn faults(&self, gateway: &Gateway) -> Vec<String> {
        let mut faults = Vec::new();
        if self.stopping.load(Ordering::Relaxed) {
            faults.push("stopping".to_owned());
        }
        let fresh = gateway.sessions.freshness();
        if fresh.is_none() || self.refuses_everything(gateway) {
            faults.extend(store_fault(gateway));
        }
        for (index, issuer) in trusted(&gateway.config) {
            if gateway.verifier.keys(index).is_empty() {
                faults.push(format!("keys of {} were never loaded", issuer.issuer));
            }
        }
        faults
    }

    /// What is wrong although most requests are served.
    pub fn warnings(&self, gateway: &Gateway) -> Vec<String> {
        let mut warnings = Vec::new();
        let Some(fresh) = gateway.sessions.freshness() else { return warnings };
        if !self.refuses_everything(gateway) {
            warnings.extend(store_fault(gateway));
        }
        if fresh.is_stale() {
            let (lag, most) = (fresh.lag().as_secs(), fresh.max_lag().as_secs());
            warnings.push(format!(
                "revocations: ends made by other gateways are known up to {lag} s ago, expected {most} s"
            ));
        }
        warnings
    }

    /// Whether no route that looks at tokens answers: each refuses when stale, and it is.
    fn refuses_everything(&self, gateway: &Gateway) -> bool {
        let mut judging = gateway.routes.routes().iter().filter(|route| route.access != Access::Public).peekable();
        judging.peek().is_some()
            && judging.all(|route| route.refuses_stale && !route.observes)
            && gateway.sessions.freshness().is_some_and(|fresh| fresh.is_stale())
    }
}

fn store_fault(gateway: &Gateway) -> Option<String> {
    gateway.sessions.store_health().err().map(|error| format!("store: {}", chain(&error)))
}

/// The rules of sessions that a configuration asks for.
pub fn session_policy(config: &Config) -> SessionPolicy {
    let own = config.session.as_ref().map_or_else(|| (&Session::unused()).into(), SessionPolicy::from);
    SessionPolicy { longest_token: config.longest_token_lifetime(), shared: config.store.redis.is_some(), ..own }
}

/// Where keys that were not given as files are kept.
pub fn keys_directory(config: &Config) -> PathBuf {
    let given = config.session.as_ref().and_then(|session| session.keys.clone());
    given.unwrap_or_else(|| config.store.path.join("keys"))
}

/// The verifier of a configuration, without keys yet.
pub fn verifier(config: &Config) -> Verifier {
    let own = config.session.as_ref().map(|session| IssuerPolicy {
        issuer: session.issuer.clone(),
        audience: vec![session.audience.clone()],
        algorithms: vec![jsonwebtoken::Algorithm::ES256],
        session_claim: "sid".to_owned(),
        max_token_lifetime: None,
    });
    let trusted = config.trusted_issuers.iter().map(|issuer| IssuerPolicy {
        issuer: issuer.issuer.clone(),
        audience: issuer.audience.clone(),
        algorithms: issuer.algorithms.clone(),
        session_claim: issuer.session_claim.clone(),
        max_token_lifetime: Some(issuer.max_token_lifetime),
    });
    Verifier::new(own, trusted.collect(), config.limits.token_bytes.get())
}

/// The trusted issuers with their places in the verifier, which [`OWN_ISSUER`] comes before.
pub fn trusted(config: &Config) -> impl Iterator<Item = (IssuerIndex, &crate::config::TrustedIssuer)> {
    (1..).map(IssuerIndex).zip(&config.trusted_issuers)
}

/// How the store is, and how current what it tells of other gateways.
fn add_store_gauges(metrics: &mut Metrics, sessions: &Arc<Sessions>) {
    let store = sessions.clone();
    metrics.gauge("portcullis_store_reachable", "1 while the session store answers, else 0.", Vec::new(), move || {
        if store.store_health().is_ok() { 1.0 } else { 0.0 }
    });
    if let Some(fresh) = sessions.freshness().cloned() {
        metrics.gauge(
            "portcullis_revocation_lag_seconds",
            "Ends of sessions acknowledged by other gateways longer ago than this are known here.",
            Vec::new(),
            move || fresh.lag().as_secs_f64(),
        );
    }
}

fn add_gauges(
    metrics: &mut Metrics,
    verifier: &Arc<Verifier>,
    revocations: &Arc<Revocations>,
    certificates: &[(String, UnixTime)],
) {
    #[expect(clippy::cast_precision_loss, reason = "gauges are read as approximations")]
    fn float(number: u64) -> f64 {
        number as f64
    }
    let entries = revocations.clone();
    metrics.gauge("portcullis_revocations", "Entries of the revocation list.", Vec::new(), move || {
        float(u64::try_from(entries.len()).unwrap_or(u64::MAX))
    });
    for (file, expires) in certificates {
        let seconds = float(expires.as_secs());
        let labels = vec![("file", file.clone())];
        metrics.gauge(
            "portcullis_certificate_expiry_seconds",
            "When a served certificate expires (Unix time).",
            labels,
            move || seconds,
        );
    }
    for index in verifier.issuers() {
        let (keys, labels) = (verifier.clone(), vec![("issuer", verifier.issuer_name(index).to_owned())]);
        metrics.gauge("portcullis_issuer_keys", "Usable keys of an issuer.", labels, move || {
            float(u64::try_from(keys.keys(index).len()).unwrap_or(u64::MAX))
        });
    }
    for index in verifier.issuers().filter(|index| *index != OWN_ISSUER) {
        let (keys, labels) = (verifier.clone(), vec![("issuer", verifier.issuer_name(index).to_owned())]);
        metrics.gauge(
            "portcullis_jwks_failures",
            "Fetches of an issuer's keys that failed since the last success.",
            labels,
            move || float(keys.jwks_status(index).consecutive_failures.into()),
        );
    }
}
