# Builds the image of the verifier, with Docker or Buildah: see docs/container.md.

# Pinned by version for builds at the desk. A release passes the digest that this tag has on that day
# (.github/workflows/release.yml), and writes it into the label org.opencontainers.image.base.digest.
ARG BASE=python:3.13.14-slim-bookworm

FROM ${BASE} AS build
WORKDIR /src
COPY requirements/build.txt requirements/runtime.txt requirements/
# Wheels alone, so that no compiler is needed. pip writes no bytecode; the last step does. An index of your own, and the
# authority that signs for it, come as secrets and leave no trace in the image.
RUN --mount=type=secret,id=pip-conf,target=/etc/pip.conf --mount=type=secret,id=pip-ca \
    python3 -m venv --without-pip /opt/verifier && python3 -m venv --without-pip /opt/build \
    && python3 -m pip --python /opt/verifier/bin/python install --no-cache-dir --no-compile --only-binary=:all: \
        --require-hashes -r requirements/runtime.txt \
    && python3 -m pip --python /opt/build/bin/python install --no-cache-dir --only-binary=:all: \
        --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md LICENSE ./
COPY verifier verifier
RUN /opt/build/bin/hatchling build -t wheel -d /dist \
    && python3 -m pip --python /opt/verifier/bin/python install --no-index --no-deps --no-compile /dist/*.whl \
    && find /opt/verifier/bin -type f ! -name verifier -delete
# Bytecode that is used without a look at its source: nothing in an image changes, starts are quicker, and the same sources
# give the same bytes, which time stamps would not.
RUN /opt/verifier/bin/python -m compileall -q -f -j 0 --invalidation-mode unchecked-hash /opt/verifier/lib

FROM ${BASE}
# Nothing is left that installs, raises rights or can be written to. The base has no bytecode of Python's own library, and
# on a read-only root none could ever be written.
RUN find / -xdev -depth \( -path '*-packages/pip' -o -path '*-packages/pip-*' -o -name ensurepip \
        -o -path '/usr/local/bin/pip*' \) -exec rm -rf {} + \
    && python3 -m compileall -q -f -j 0 --invalidation-mode unchecked-hash \
        "$(python3 -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt /var/cache/debconf /var/log/* ~/.cache \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} + \
    && find / -xdev ! -type l -perm /0002 -exec chmod o-w {} +
COPY --from=build /opt/verifier /opt/verifier

# VERIFIER_DEFAULT__… counts where neither the file nor VERIFIER__… says otherwise: from outside, loopback is unreachable.
ENV PATH=/opt/verifier/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1 \
    VERIFIER_CONFIG=/etc/verifier/verifier.yaml \
    VERIFIER_DEFAULT__LISTEN=0.0.0.0:8080 \
    VERIFIER_DEFAULT__OPS__LISTEN=0.0.0.0:9090

ARG BASE
ARG BASE_DIGEST=""
ARG VERSION=unreleased
ARG REVISION=""
ARG CREATED=""
ARG SOURCE=""
LABEL org.opencontainers.image.title="token-verifier" \
      org.opencontainers.image.description="One service that every gateway asks: may this bearer token do this?" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="${BASE}" \
      org.opencontainers.image.base.digest="${BASE_DIGEST}"

# Numeric, so that Kubernetes can see that it is not root. The user needs no entry in /etc/passwd, and owns nothing.
USER 65532:65532
EXPOSE 8080 9090 9191
STOPSIGNAL SIGTERM
# Each check starts a Python; more often than this would cost more than it tells.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["verifier", "health"]
ENTRYPOINT ["verifier"]
CMD ["serve"]
