# The image of Muster, for an external PostgreSQL, and the image for its backups, which has PostgreSQL's
# client programs too. docker-compose.yml runs both.
#
#     docker build -t muster:0.1.0 .
#     docker build -t muster-backup:0.1.0 --target backup .
#
# Any builder works. BuildKit with `--build-context program=DIR` compiles nothing and fetches no Rust: DIR
# contains `muster` and `ca-certificates.crt`, the certificates that it trusts.

# Both images use the same Debian release, because the program is linked to its C library.
ARG RUST_IMAGE=rust:1.95-slim-bookworm
ARG BASE_IMAGE=debian:bookworm-slim
# Any image with PostgreSQL's client programs. The major version must be at least that of the server.
ARG POSTGRES_IMAGE=postgres:15

FROM ${RUST_IMAGE} AS compiled
WORKDIR /build
# The dependencies have their own layer, which stays cached while only Muster changes.
COPY Cargo.toml Cargo.lock build.rs ./
RUN mkdir src \
    && echo 'fn main() {}' >src/main.rs \
    && touch src/lib.rs \
    && cargo build --profile dist --locked --bin muster
COPY . .
# The label `commit` in /metrics.
ARG MUSTER_COMMIT=""
# The copied files may be older than the placeholders, so cargo would not rebuild them.
RUN touch src/main.rs src/lib.rs \
    && cargo build --profile dist --locked --bin muster \
    && install -D -t /out target/dist/muster \
    && install -m 0644 -t /out /etc/ssl/certs/ca-certificates.crt

FROM scratch AS program
COPY --from=compiled /out /

# Runs `muster backup` and `muster restore`. The programs come with the image of PostgreSQL, so no
# package is fetched.
FROM ${POSTGRES_IMAGE} AS backup
ARG VERSION=0.1.0
ARG MUSTER_COMMIT=""
LABEL org.opencontainers.image.title="muster-backup" \
      org.opencontainers.image.description="Backup and restore of the session service Muster" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${MUSTER_COMMIT}"
# The same user as that of the service. A new volume at /backups belongs to this user.
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /var/lib/muster \
        --shell /usr/sbin/nologin muster \
    && install -d -o muster -g muster -m 0700 /var/lib/muster /backups
COPY --from=program /ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=program /muster /usr/local/bin/muster
COPY LICENSE /usr/share/doc/muster/LICENSE
ENV MUSTER__DATA_DIR=/var/lib/muster \
    MUSTER__DATABASE__EMBEDDED=false
USER 10001:10001
WORKDIR /backups
ENTRYPOINT ["muster"]
CMD ["backup", "--help"]

FROM ${BASE_IMAGE} AS runtime
ARG VERSION=0.1.0
ARG MUSTER_COMMIT=""
LABEL org.opencontainers.image.title="muster" \
      org.opencontainers.image.description="A persistent session service for internal apps" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${MUSTER_COMMIT}"

# The user id is fixed, because files in volumes belong to it. A new volume inherits owner and mode of
# its directory: the first is data_dir, the second holds secrets for other containers.
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /var/lib/muster \
        --shell /usr/sbin/nologin muster \
    && install -d -o muster -g muster -m 0700 /var/lib/muster \
    && install -d -o muster -g muster -m 0755 /run/muster

# Callbacks to https URLs need certificates. The first stage has them, so no package is fetched.
COPY --from=program /ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=program /muster /usr/local/bin/muster
COPY LICENSE /usr/share/doc/muster/LICENSE

# The server listens on all addresses of the container. When it must stop, proxies have 5 s to notice:
# give it more than the 10 s that Docker waits by default, such as `docker stop --time 30`. Data in a container is lost with it, so no
# PostgreSQL is started here: the start fails without MUSTER__DATABASE__URL or
# MUSTER__DATABASE__URL_FILE.
ENV MUSTER__DATA_DIR=/var/lib/muster \
    MUSTER__SERVER__BIND=0.0.0.0:7080 \
    MUSTER__METRICS__BIND=0.0.0.0:17080 \
    MUSTER__SERVER__DRAIN_TIMEOUT=5s \
    MUSTER__DATABASE__EMBEDDED=false

USER 10001:10001
WORKDIR /var/lib/muster
EXPOSE 7080 17080
STOPSIGNAL SIGTERM
# Checks the database too, so a healthy container has finished the migrations of its first start.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["muster", "health"]
ENTRYPOINT ["muster"]
CMD ["serve"]
