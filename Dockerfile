# channeld as an image: runs as an unprivileged user, with a read-only root file system.
#
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges \
#     -v ./config:/etc/channeld:ro -v channeld-data:/var/lib/channeld -v ./secrets:/run/secrets:ro -p 127.0.0.1:9464:9464 channeld
#
# A secret that /etc/channeld does not hold is looked up by its last name in /run/secrets; the container guards that
# folder, so the mode of its files is not looked at, but user 10001 must be able to read them.
#
# `docker build --build-arg LOCK=fast` adds what signs claims eight at a time, on processors that can.

ARG PYTHON=3.11-slim-bookworm
ARG LOCK=run

FROM python:${PYTHON} AS build
ARG LOCK
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
RUN python -m venv /opt/channeld
COPY scripts/requirements/run.txt scripts/requirements/fast.txt ./
RUN /opt/channeld/bin/python -m pip install --require-hashes --no-deps -r ${LOCK}.txt
COPY pyproject.toml README.md LICENSE ./
COPY channeld ./channeld
RUN /opt/channeld/bin/python -m pip install --no-index --no-deps --no-build-isolation . \
    && /opt/channeld/bin/python -m pip uninstall --yes hatchling editables trove-classifiers pathspec pluggy pip \
    && /opt/channeld/bin/python -m compileall -q -j 0 /opt/channeld/lib

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="channeld" \
      org.opencontainers.image.description="Pools of XRP Ledger payment channels, and signed claims over MQTT" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN groupadd --gid 10001 channeld \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/channeld --shell /usr/sbin/nologin channeld \
    && install -d -o 10001 -g 10001 -m 0700 /var/lib/channeld
COPY --from=build /opt/channeld /opt/channeld
ENV PATH=/opt/channeld/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CHANNELD_CONFIG=/etc/channeld/channeld.toml \
    CHANNELD_DAEMON__DATA_DIR=/var/lib/channeld \
    CHANNELD_STORE__URL=sqlite:////var/lib/channeld/channeld.db \
    CHANNELD_HTTP__LISTEN=0.0.0.0:9464 \
    CREDENTIALS_DIRECTORY=/run/secrets \
    SQLITE_TMPDIR=/var/lib/channeld
USER 10001:10001
WORKDIR /var/lib/channeld
VOLUME ["/var/lib/channeld"]
EXPOSE 9464
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:9464/healthz', timeout=4).read()"]
ENTRYPOINT ["channeld"]
CMD ["run"]
