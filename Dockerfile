# The image of the operator: one binary on a base without a shell.
#
#   docker build --tag serin:dev .
#
# The cache mounts keep crates and build output between builds on one machine; a
# build without them is the same, only slower.

FROM rust:1.95-slim-bookworm AS builder
# For the allocator, which is built from its C source.
RUN apt-get update && apt-get install -y --no-install-recommends make && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The target directory is a cache mount and not part of the layer, so the binary is
# copied out of it in the same step. --locked: what is built is what was tested.
RUN --mount=type=cache,target=/usr/local/cargo/registry,sharing=locked \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --package serin --bin serin \
    && install -D -m 0755 target/release/serin /out/serin

# glibc, libgcc and the certificates of the public authorities; user 65532. The Debian
# release is the builder's, so that the C library is the same.
FROM gcr.io/distroless/cc-debian12:nonroot
ARG VERSION=dev
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Serin" \
      org.opencontainers.image.description="Progressive delivery for Kubernetes that cannot leave a wrong weight behind" \
      org.opencontainers.image.source="https://github.com/serin-dev/serin" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=builder /out/serin /usr/bin/serin
# As a number: the kubelet can tell that this is not root only by a number.
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/usr/bin/serin"]
CMD ["run"]
