# Images, manifests, alerts and dashboards; a part of the Makefile.
.PHONY: images alerts-test dashboards dashboards-test up down audit manifests k8s-check k8s-apiserver

images: .venv/.ready ## build the images and try each one with a Docker engine (BASE=image, TAG=dev)
	$(BIN)/python tools/images.py

alerts-test: .venv/.ready ## every alert fires and stays silent: promtool, then faults played in the sandbox (needs Prometheus)
	REQUIRE_PROMETHEUS=1 $(BIN)/pytest -m "kafka or not kafka" tests/unit/test_alerts.py tests/integration/monitoring/test_alerts_in_prometheus.py

manifests: .venv/.ready ## render topics, users and rules for Kubernetes anew
	$(BIN)/python tools/manifests.py

k8s-check: .venv/.ready ## render every overlay and hold it to the schemas, and to a real API server where there is one
	$(BIN)/python tools/k8s.py

k8s-apiserver: .venv/.ready ## build a Kubernetes API server for `make k8s-check`; 10 to 20 minutes, needs Go
	$(BIN)/python tools/k8s.py build-apiserver

dashboards: .venv/.ready ## write the Grafana dashboards anew
	$(BIN)/python tools/dashboards.py

dashboards-test: .venv/.ready ## every query of every dashboard, on a real Prometheus that scrapes the real services
	REQUIRE_PROMETHEUS=1 $(BIN)/pytest -m "kafka or not kafka" tests/unit/test_dashboards.py tests/integration/monitoring/test_dashboards_in_prometheus.py

COMPOSE := $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose) -f deploy/compose/compose.yaml

up: ## start everything in containers: Kafka, the services, Prometheus, Grafana, and the sandbox twins (PROFILE=none: without)
	$(COMPOSE) $(if $(filter none,$(PROFILE)),,--profile sandbox) up --build --detach
	@echo "Grafana: http://localhost:3000   Prometheus: http://localhost:9090   alerts: http://localhost:9093"
	@echo "Is it all there?  $(COMPOSE) run --rm estarsync reconcile"

down: ## stop what `make up` has started, and forget its data
	$(COMPOSE) --profile sandbox --profile cli down --volumes

audit: .venv/.ready ## ask for known weaknesses of what is locked, and write a bill of materials for each image (build/sbom)
	@mkdir -p build/sbom
	@for name in extractor transformer loader cli; do \
	    $(BIN)/uv --quiet tool run --from cyclonedx-bom==7.1.0 cyclonedx-py requirements requirements/$$name.txt --of JSON -o build/sbom/$$name.json || exit 1; \
	    echo "build/sbom/$$name.json"; \
	    $(BIN)/uv --quiet tool run --from pip-audit==2.9.0 pip-audit --strict --require-hashes --disable-pip -r requirements/$$name.txt || exit 1; \
	done
