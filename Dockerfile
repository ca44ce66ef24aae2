# The gateway alone on a base of glibc, libgcc and CA roots: no shell, no package manager, an unprivileged user.
#
# Why not `FROM scratch` with a static musl binary: musl's allocator costs throughput under many threads, and the crypto
# library would need a cross compiler for it. Builder and base are of the same Debian release, so the glibc fits.
FROM rust:1.95-slim-bookworm AS build
# The image has the C compiler that aws-lc-sys needs, and its bindings are ready made: neither cmake nor clang.
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin portcullis \
    && install -D target/release/portcullis /out/portcullis \
    && install -d -m 0700 /out/data

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/portcullis /usr/local/bin/portcullis
# For `[store] path = "/var/lib/portcullis"`: sessions and signing keys outlive the container only in a volume.
COPY --from=build --chown=65532:65532 /out/data /var/lib/portcullis
VOLUME /var/lib/portcullis
# Mount the configuration, its certificates and secrets here; relative paths in it start here, too.
WORKDIR /etc/portcullis
ENV PORTCULLIS_CONFIG=/etc/portcullis/portcullis.toml
USER 65532:65532
STOPSIGNAL SIGTERM
# Asks the admin listener at its default address; set PORTCULLIS_ADMIN=http://ADDRESS for another one.
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s CMD ["/usr/local/bin/portcullis", "health"]
ENTRYPOINT ["/usr/local/bin/portcullis"]
CMD ["run"]
