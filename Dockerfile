# The image of Muster: the one program, for a PostgreSQL elsewhere. docker-compose.yml runs both.
#
#     docker build -t muster:0.1.0 .
#
# Any builder can do it. With BuildKit and `--build-context program=DIR` nothing is compiled and no Rust is
# fetched: DIR has `muster`, and `ca-certificates.crt`, which is what it trusts.

# Both of one release of Debian, because the program is linked to its C library.
ARG RUST_IMAGE=rust:1.95-slim-bookworm
ARG BASE_IMAGE=debian:bookworm-slim

FROM ${RUST_IMAGE} AS compiled
WORKDIR /build
# The crates that it uses are a layer of their own, which stays while only Muster changes.
COPY Cargo.toml Cargo.lock build.rs ./
RUN mkdir src \
    && echo 'fn main() {}' >src/main.rs \
    && touch src/lib.rs \
    && cargo build --profile dist --locked --bin muster
COPY . .
# Told at /metrics.
ARG MUSTER_COMMIT=""
# They may be older than what stood in their place.
RUN touch src/main.rs src/lib.rs \
    && cargo build --profile dist --locked --bin muster \
    && install -D -t /out target/dist/muster \
    && install -m 0644 -t /out /etc/ssl/certs/ca-certificates.crt

FROM scratch AS program
COPY --from=compiled /out /

FROM ${BASE_IMAGE} AS runtime
ARG VERSION=0.1.0
ARG MUSTER_COMMIT=""
LABEL org.opencontainers.image.title="muster" \
      org.opencontainers.image.description="A persistent session service for internal apps" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${MUSTER_COMMIT}"

# The number is fixed, because files in volumes belong to it. Volumes that are new take over owner and
# mode of these directories: the first is data_dir, the second for secrets that are made for others.
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /var/lib/muster \
        --shell /usr/sbin/nologin muster \
    && install -d -o muster -g muster -m 0700 /var/lib/muster \
    && install -d -o muster -g muster -m 0755 /run/muster

# Callbacks go to https addresses too. From the first stage, because no package need be fetched then.
COPY --from=program /ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=program /muster /usr/local/bin/muster
COPY LICENSE /usr/share/doc/muster/LICENSE

# A container is reached through its address. Data in it would go with it, so no PostgreSQL is started
# here: without MUSTER__DATABASE__URL or MUSTER__DATABASE__URL_FILE the start is refused.
ENV MUSTER__DATA_DIR=/var/lib/muster \
    MUSTER__SERVER__BIND=0.0.0.0:7080 \
    MUSTER__METRICS__BIND=0.0.0.0:7081 \
    MUSTER__DATABASE__EMBEDDED=false

USER 10001:10001
WORKDIR /var/lib/muster
EXPOSE 7080 7081
STOPSIGNAL SIGTERM
# Whether the database answers as well: migrations of the first start are over then.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["muster", "health"]
ENTRYPOINT ["muster"]
CMD ["serve"]
