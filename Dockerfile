# One image for all services; the command selects the service.
# The Python image is a build argument so that .env has the tags of all images.
ARG PYTHON_IMAGE=python:3.13-slim-trixie

# --- dependencies: change rarely -------------------------------------------------------------
FROM ${PYTHON_IMAGE} AS dependencies
RUN python -m venv /opt/venv
COPY requirements-services.txt ./
RUN /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check \
      -r requirements-services.txt

FROM dependencies AS load-dependencies
COPY requirements-load.txt ./
RUN /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check -r requirements-load.txt

# --- code: compiled here, because the containers' file systems are read-only -----------------
FROM dependencies AS code
WORKDIR /app
COPY shared/postjournal postjournal
COPY services services
RUN python -m compileall -q /app

# --- runtime ---------------------------------------------------------------------------------
FROM ${PYTHON_IMAGE} AS runtime
ENV PATH=/opt/venv/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
COPY --chmod=755 services/healthy.sh /usr/local/bin/healthy
# The user needs no name and no home directory.
USER 10001:10001

FROM runtime AS load
COPY --from=load-dependencies /opt/venv /opt/venv
COPY loadtest/__init__.py loadtest/
COPY loadtest/gateway loadtest/gateway
ENTRYPOINT ["locust", "-f", "/app/loadtest/gateway/locustfile.py"]

FROM runtime AS services
COPY --from=dependencies /opt/venv /opt/venv
COPY --from=code /app /app
