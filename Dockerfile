# Neon Dashboard without development parts. docs/operations.md#containers has the commands;
# compose.yaml runs the demo. `make image-check` runs these steps without Docker and checks the result.
FROM python:3.13-slim AS build
WORKDIR /app
COPY requirements.lock requirements-sentry.lock ./
RUN python -m venv --without-pip .venv \
    && pip --python .venv/bin/python install --no-cache-dir --no-compile --require-hashes \
        -r requirements.lock -r requirements-sentry.lock
COPY . .
RUN .venv/bin/python -m compileall -q .

FROM python:3.13-slim
RUN useradd --no-log-init --uid 10001 --no-create-home --home-dir /var/lib/neon-dashboard \
        --shell /usr/sbin/nologin neon \
    && install -d -o neon -g neon -m 0700 /var/lib/neon-dashboard /var/lib/neon-dashboard/identity
WORKDIR /app
COPY --from=build /app /app
# The root file system may be read-only: counters go to the volume, temporary files to memory.
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    TMPDIR=/dev/shm \
    INSTANCE_PATH=/var/lib/neon-dashboard \
    APP_ENV=production \
    PORT=8000
VOLUME /var/lib/neon-dashboard
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/healthz', timeout=4)"]
CMD ["gunicorn", "wsgi:app"]
