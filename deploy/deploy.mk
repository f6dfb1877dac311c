# Images, manifests, alerts and dashboards; a part of the Makefile.
.PHONY: images alerts-test

images: .venv/.ready ## build the images and try each one with a Docker engine (BASE=image, TAG=dev)
	$(BIN)/python tools/images.py

alerts-test: .venv/.ready ## every alert fires and stays silent: promtool, then faults played in the sandbox (needs Prometheus)
	REQUIRE_PROMETHEUS=1 $(BIN)/pytest -m "kafka or not kafka" tests/unit/test_alerts.py tests/integration/monitoring/test_alerts_in_prometheus.py
