//! A standard OAuth client against the public endpoints, with nothing made for them.

use std::net::SocketAddr;

use oauth2::basic::{BasicClient, BasicErrorResponseType, BasicRevocationErrorResponse, BasicTokenResponse};
use oauth2::{
    AccessToken, ClientId, ClientSecret, EndpointNotSet, EndpointSet, HttpRequest, HttpResponse, RefreshToken,
    RequestTokenError, ResourceOwnerPassword, ResourceOwnerUsername, RevocationUrl, StandardRevocableToken,
    TokenResponse as _, TokenUrl,
};
use serde_json::Value;

use crate::support::{Backend, Client, Gateway, Toml, Workplace, get};

type OAuth = BasicClient<EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet, EndpointSet>;

/// Sends a request of the client, as any HTTP library would. Every host is at `address`.
fn exchange(place: &Workplace, address: SocketAddr, request: HttpRequest) -> Result<HttpResponse, std::io::Error> {
    assert_eq!(request.uri().scheme_str(), Some("https"));
    let mut text = format!(
        "{} {} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\nconnection: close\r\n",
        request.method(),
        request.uri().path_and_query().unwrap(),
        request.uri().authority().unwrap(),
        request.body().len()
    );
    for (name, value) in request.headers() {
        text += &format!("{name}: {}\r\n", value.to_str().unwrap());
    }
    let mut client: Client = place.client(address);
    let reply = client.ask([format!("{text}\r\n").as_bytes(), request.body()].concat());
    let mut response = http::Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(name, value);
    }
    Ok(response.body(reply.body).unwrap())
}

struct Party {
    backend: Backend,
    gateway: Gateway,
    metadata: Value,
}

impl Party {
    /// A gateway that a client knows only the URL of.
    fn start(public_url: Option<&str>) -> Self {
        let backend = Backend::start();
        let mut toml = Toml::default();
        if let Some(url) = public_url {
            toml.rest += &format!("[auth]\npublic_url = \"{url}\"\n");
        }
        let gateway = Gateway::with(&toml, &[backend.address]);
        // RFC 8414 §3: where the document of an issuer is.
        let base = public_url.map_or_else(|| format!("https://localhost:{}", gateway.address.port()), str::to_owned);
        let request = http::Request::get(format!("{base}/.well-known/oauth-authorization-server")).body(Vec::new());
        let answer = exchange(&gateway.place, gateway.address, request.unwrap()).unwrap();
        assert_eq!(answer.headers()["content-type"], "application/json");
        let metadata: Value = serde_json::from_slice(answer.body()).unwrap();
        for endpoint in ["token_endpoint", "revocation_endpoint", "jwks_uri"] {
            assert!(metadata[endpoint].as_str().unwrap().starts_with(&format!("{base}/")), "{metadata}");
        }
        assert!(metadata["grant_types_supported"].as_array().unwrap().contains(&"refresh_token".into()));
        Self { backend, gateway, metadata }
    }

    fn client(&self, secret: Option<&str>) -> OAuth {
        let url = |name: &str| self.metadata[name].as_str().unwrap().to_owned();
        let client = BasicClient::new(ClientId::new("web".into()))
            .set_token_uri(TokenUrl::new(url("token_endpoint")).unwrap())
            .set_revocation_url(RevocationUrl::new(url("revocation_endpoint")).unwrap());
        match secret {
            Some(secret) => client.set_client_secret(ClientSecret::new(secret.into())),
            None => client,
        }
    }

    fn http(&self) -> impl Fn(HttpRequest) -> Result<HttpResponse, std::io::Error> {
        let (place, address) = (self.gateway.place.clone(), self.gateway.address);
        move |request| exchange(&place, address, request)
    }

    fn refresh(&self, client: &OAuth, token: &str) -> Result<BasicTokenResponse, BasicErrorResponseType> {
        let answer = client.exchange_refresh_token(&RefreshToken::new(token.into())).request(&self.http());
        answer.map_err(|error| match error {
            RequestTokenError::ServerResponse(answer) => answer.error().clone(),
            other => panic!("{other:?}"),
        })
    }

    fn refused(&self, client: &OAuth, token: &str) -> BasicErrorResponseType {
        self.refresh(client, token).expect_err("refused")
    }

    fn revoke(
        &self,
        client: &OAuth,
        token: StandardRevocableToken,
    ) -> Result<(), RequestTokenError<std::io::Error, BasicRevocationErrorResponse>> {
        client.revoke_token(token).unwrap().request(&self.http())
    }

    fn status(&self, access: &AccessToken) -> u16 {
        self.gateway.connect().ask(get("/", Some(access.secret()))).status
    }
}

#[test]
fn a_standard_client_refreshes_and_revokes_by_what_it_discovers() {
    // The second is what RFC 8414 §3.3 asks of a client to check: the issuer is where its document is.
    for public_url in [None, Some("https://id.test")] {
        let party = Party::start(public_url);
        assert_eq!(party.metadata["issuer"], "https://id.test");
        // A public client, and one that has a secret, which nobody here asks for.
        for client in [party.client(None), party.client(Some("a secret"))] {
            let pair = party.gateway.sign_in("ann");
            let tokens = party.refresh(&client, &pair.refresh_token).unwrap();
            assert_eq!(tokens.token_type(), &oauth2::basic::BasicTokenType::Bearer);
            assert_eq!(tokens.expires_in().unwrap().as_secs(), 3600);
            assert_eq!(party.status(tokens.access_token()), 200);
            assert_eq!(party.backend.next().one("x-session-id"), pair.session.to_string());
            let next = tokens.refresh_token().unwrap();
            assert_ne!(next.secret(), &*pair.refresh_token);

            // RFC 7009: of the refresh token, which ends its access tokens too (§2.1).
            party.revoke(&client, next.clone().into()).unwrap();
            assert_eq!(party.status(tokens.access_token()), 401);
            assert_eq!(party.refused(&client, next.secret()), BasicErrorResponseType::InvalidGrant);
            // Once more is no error (§2.2).
            party.revoke(&client, next.clone().into()).unwrap();

            // And of the access token.
            let pair = party.gateway.sign_in("ann");
            let tokens = party.refresh(&client, &pair.refresh_token).unwrap();
            party.revoke(&client, tokens.access_token().clone().into()).unwrap();
            assert_eq!(party.status(tokens.access_token()), 401);
            let next = tokens.refresh_token().unwrap();
            assert_eq!(party.refused(&client, next.secret()), BasicErrorResponseType::InvalidGrant);
        }
    }
}

#[test]
fn a_standard_client_understands_what_is_refused() {
    let party = Party::start(None);
    let client = party.client(None);
    assert_eq!(party.refused(&client, "pcr_nonsense"), BasicErrorResponseType::InvalidGrant);
    let (user, password) = (ResourceOwnerUsername::new("ann".into()), ResourceOwnerPassword::new("secret".into()));
    let grant = client.exchange_password(&user, &password);
    let Err(RequestTokenError::ServerResponse(answer)) = grant.request(&party.http()) else { panic!("granted") };
    assert_eq!(answer.error(), &BasicErrorResponseType::UnsupportedGrantType);
    // Tokens that mean nothing here: nothing to revoke is revoked (RFC 7009 §2.2).
    for token in ["nonsense", "a.b.c", "pcr_"] {
        party.revoke(&client, AccessToken::new(token.into()).into()).unwrap();
        party.revoke(&client, RefreshToken::new(token.into()).into()).unwrap();
    }
    assert!(party.backend.saw_nothing());
}
