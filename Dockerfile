# A relay in a small image. docker build -t relay-node .
# docker run --network host -v relay:/data relay-node --zone stage
# (host networking, because browsers are told the addresses of the machine's interfaces;
#  with published ports instead, give --public-ip the address that browsers reach)

FROM node:22-bookworm-slim AS web
WORKDIR /src/web
COPY web/package.json web/package-lock.json web/.npmrc* ./
RUN npm ci --no-fund --no-audit
COPY web ./
# The pages' types are made to fit the relay's; nothing outside web/ is needed to build them.
RUN npm run build

FROM rust:1.95-slim-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends build-essential cmake \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
COPY --from=web /src/web/dist web/dist
RUN --mount=type=cache,target=/src/target --mount=type=cache,target=/usr/local/cargo/registry \
    cargo build --locked --release -p relay-node -p signaling-client \
    && install -D -s -t /out target/release/relay-node target/release/signaling-client

FROM debian:bookworm-slim
RUN useradd --system --uid 8080 --home-dir /data --shell /usr/sbin/nologin relay \
    && install -d -o relay -g relay /data
COPY --from=build /out/ /usr/local/bin/
COPY LICENSE-MIT LICENSE-APACHE /usr/share/doc/relay-node/
USER relay
VOLUME /data
ENV RELAY_DATA=/data
# 8080/tcp pages, API, WHIP, WHEP; 8080/udp WebRTC; 8081/udp bridges
EXPOSE 8080/tcp 8080/udp 8081/udp
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["relay-node"]
