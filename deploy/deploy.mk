# Images, manifests, alerts and dashboards; a part of the Makefile.
.PHONY: images alerts-test dashboards dashboards-test manifests k8s-check k8s-apiserver

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
