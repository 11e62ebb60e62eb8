# The operator. Dependencies come from locks/operator.txt with their hashes; nothing else is installed.
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
WORKDIR /app
RUN python -m venv /venv
COPY locks/operator.txt locks/operator.txt
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary=:all: -r locks/operator.txt \
 && /venv/bin/pip uninstall --yes pip setuptools
COPY api api
COPY membership membership
COPY runtime runtime
COPY controllers controllers
COPY manager.py manager.py
# The root file system is read-only at run time: compile now.
RUN python -m compileall -q /app /venv/lib

FROM ${PYTHON}
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
USER 65532:65532
EXPOSE 8080 8081
ENTRYPOINT ["/venv/bin/python", "/app/manager.py"]
