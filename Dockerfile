# One image for all services of ours; which one it is, the command says.
# The interpreter's image is a build argument so that its tag stands in .env with the others.
ARG PYTHON_IMAGE=python:3.13-slim-trixie

# --- dependencies: changes seldom ------------------------------------------------------------
FROM ${PYTHON_IMAGE} AS dependencies
RUN python -m venv /opt/venv
COPY requirements-services.txt ./
RUN /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check \
      -r requirements-services.txt

FROM dependencies AS load-dependencies
COPY requirements-load.txt ./
RUN /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check -r requirements-load.txt

# --- code: compiled here, since the containers cannot write ----------------------------------
FROM dependencies AS code
WORKDIR /app
COPY shared/postjournal postjournal
COPY services services
RUN python -m compileall -q /app

# --- what runs -------------------------------------------------------------------------------
FROM ${PYTHON_IMAGE} AS runtime
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
COPY --chmod=755 services/healthy.sh /usr/local/bin/healthy
# No name for it, and no home: nothing in here needs one.
USER 10001:10001

FROM runtime AS load
COPY --from=load-dependencies /opt/venv /opt/venv
COPY loadtest/__init__.py loadtest/
COPY loadtest/gateway loadtest/gateway
ENTRYPOINT ["locust", "-f", "/app/loadtest/gateway/locustfile.py"]

FROM runtime AS services
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=code /app /app
