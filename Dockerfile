FROM python:3.13-slim AS build
WORKDIR /src
COPY . .
RUN pip wheel --no-cache-dir --wheel-dir /wheels .

FROM python:3.13-slim
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --no-index --find-links /wheels sidebus && rm -rf /wheels \
    && useradd --create-home --uid 10001 sidebus && install -d -o sidebus /data
USER sidebus
# In a container the port is published by whoever starts it, so all addresses are right here.
ENV SIDEBUS_HOST=0.0.0.0 SIDEBUS_PORT=4566 SIDEBUS_DATA=/data
VOLUME /data
EXPOSE 4566
HEALTHCHECK --interval=10s --timeout=2s CMD ["python", "-c", \
    "import urllib.request; urllib.request.urlopen('http://127.0.0.1:4566/_sidebus/health', timeout=1)"]
ENTRYPOINT ["sidebus"]
CMD ["serve"]
