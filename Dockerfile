# One image that serves the API and the built page, and runs every other command of `tributary`.
#   docker build -t tributary .
# PyTorch comes from pip's default index, with CUDA where the platform has it. A much smaller image for
# machines without a GPU: pass the address of PyTorch's CPU wheels (see its install page) as TORCH_INDEX.

FROM node:22-bookworm-slim AS page
WORKDIR /app/frontend
COPY frontend/package.json frontend/package-lock.json frontend/.npmrc ./
RUN npm ci
COPY frontend ./
RUN npm run build

FROM python:3.11-slim-bookworm AS packages
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
# Empty packages stand in for the code, so that a change of the code does not install PyTorch again.
RUN mkdir backend compute storage \
    && touch backend/__init__.py compute/__init__.py storage/__init__.py \
    && python -m venv .venv
ARG TORCH_INDEX=""
RUN if [ -n "$TORCH_INDEX" ]; then \
        .venv/bin/pip install --no-cache-dir -c constraints.txt --index-url "$TORCH_INDEX" torch; \
    fi \
    && .venv/bin/pip install --no-cache-dir -c constraints.txt -e .

FROM python:3.11-slim-bookworm
RUN useradd --uid 10001 --create-home tributary \
    && mkdir -p /data/runs && chown -R tributary /data
WORKDIR /app
COPY --from=packages /app /app
COPY backend backend
COPY compute compute
COPY storage storage
COPY demo demo
COPY --from=page /app/frontend/dist frontend/dist
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    TRIBUTARY_RUNS=/data/runs \
    TRIBUTARY_DATABASE=/data/tributary.sqlite3
USER tributary
WORKDIR /data
VOLUME /data
EXPOSE 8642
HEALTHCHECK --interval=30s --timeout=5s --start-period=30s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8642/api/health', timeout=4)"]
ENTRYPOINT ["tributary"]
# Inside a container every address is foreign, so a token is asked for: TRIBUTARY_TOKEN, or the one that
# the server makes up and prints at its start.
CMD ["serve", "--host", "0.0.0.0", "--port", "8642"]
