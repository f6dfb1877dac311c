"""Check the manifests: `make k8s-check`; build an API server to check them with: `make k8s-apiserver`.

Every overlay is rendered, held to Kubernetes' published schemas (unknown fields are refused), and, where
`kube-apiserver` and `etcd` can be had, offered to a real API server as a dry run, with the custom resources' own
definitions installed as far as their sources can be had. What could not be checked is said.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml

ROOT = Path(__file__).resolve().parent.parent
OVERLAYS = sorted((ROOT / "deploy/k8s/overlays").iterdir())
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "estarsync"
KUBERNETES = "1.33.4"
VALIDATE = "kubernetes-validate==1.37.0"
STRIMZI = "0.45.0"
MODULES = {
    "github.com/kedacore/keda/v2@v2.15.1": ["config/crd/bases/keda.sh_scaledobjects.yaml"],
    "github.com/external-secrets/external-secrets@v0.10.4": [
        "config/crds/bases/external-secrets.io_externalsecrets.yaml"
    ],
    "github.com/prometheus-operator/prometheus-operator@v0.76.2": [
        "example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml",
        "example/prometheus-operator-crd/monitoring.coreos.com_prometheusrules.yaml",
    ],
}
STAGING = [
    "api",
    "apiextensions-apiserver",
    "apimachinery",
    "apiserver",
    "cli-runtime",
    "client-go",
    "cloud-provider",
    "cluster-bootstrap",
    "code-generator",
    "component-base",
    "component-helpers",
    "controller-manager",
    "cri-api",
    "cri-client",
    "csi-translation-lib",
    "dynamic-resource-allocation",
    "endpointslice",
    "externaljwt",
    "kms",
    "kube-aggregator",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
    "metrics",
    "mount-utils",
    "pod-security-admission",
    "sample-apiserver",
]
_SECONDS = 60


class Failure(Exception):  # noqa: N818 - one line for people
    """Something is not as it must be."""


def run(*command: str, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a command; what it printed. Fails with its words where it fails."""
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd, env=env)  # noqa: S603 - our own commands
    if done.returncode:
        raise Failure(f"{' '.join(command[:4])} … failed:\n{(done.stdout + done.stderr).strip()}")
    return done.stdout


def render(overlay: Path, folder: Path) -> Path:
    """One overlay as one file."""
    tool = ["kubectl", "kustomize"] if shutil.which("kubectl") else ["kustomize", "build"]
    if shutil.which(tool[0]) is None:
        raise Failure("there is neither kubectl nor kustomize here: install one")
    path = folder / f"{overlay.name}.yaml"
    path.write_text(run(*tool, str(overlay)), encoding="utf-8")
    return path


def by_schema(path: Path, folder: Path) -> str:
    """Hold Kubernetes' own kinds to their published schemas; says how many, and what is left to the API server."""
    documents = [each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each]
    ours = [each for each in documents if "." not in each["apiVersion"] or ".k8s.io/" in each["apiVersion"]]
    plain = folder / f"plain-{path.name}"
    plain.write_text(yaml.safe_dump_all(ours), encoding="utf-8")
    uv = [sys.executable, "-m", "uv", "--quiet", "tool", "run", "--from", VALIDATE]
    run(*uv, "kubernetes-validate", "--strict", "-k", KUBERNETES.rpartition(".")[0], str(plain))
    return f"{len(ours)} objects hold to the schemas, {len(documents) - len(ours)} custom ones are left"


def definitions(folder: Path) -> list[Path]:
    """The definitions of the custom resources, from their projects' own releases; says what can't be had."""
    found: list[Path] = []
    for module, names in MODULES.items():
        try:
            said = run("go", "mod", "download", "-json", module, cwd=folder)
        except (Failure, FileNotFoundError):
            print(f"k8s-check: {module} can't be had: its resources stay unchecked")
            continue
        root = Path(json.loads(said)["Dir"])
        found += [root / name for name in names]
    try:
        found += strimzi(folder)
    except (Failure, FileNotFoundError):
        print(
            "k8s-check: Strimzi's definitions can't be had (Maven and a JDK make them): its resources stay unchecked"
        )
    return found


def strimzi(folder: Path) -> list[Path]:
    """Strimzi's definitions, made by its own generator."""
    lib = CACHE / f"strimzi-{STRIMZI}"
    if not (lib / ".ready").exists():
        wanted = "".join(
            f"<dependency><groupId>io.strimzi</groupId><artifactId>{name}</artifactId><version>{STRIMZI}</version></dependency>"
            for name in ("api", "crd-generator")
        )
        pom = folder / "pom.xml"
        pom.write_text(
            '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion><groupId>x</groupId>'
            f"<artifactId>x</artifactId><version>1</version><dependencies>{wanted}</dependencies></project>",
            encoding="utf-8",
        )
        plugin = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies"
        run("mvn", "-B", "-q", "-f", str(pom), plugin, f"-DoutputDirectory={lib}", "-DincludeScope=runtime")
        (lib / ".ready").touch()
    made = {"topic.KafkaTopic": folder / "topic.yaml", "user.KafkaUser": folder / "user.yaml"}
    arguments = [f"io.strimzi.api.kafka.model.{name}={path}" for name, path in made.items()]
    generator = ["io.strimzi.crdgenerator.CrdGenerator", "--yaml", "--target-kube", "1.25+"]
    run("java", "-cp", f"{lib}/*", *generator, *arguments)
    return list(made.values())


def server() -> str | None:
    """The API server's program, where there is one."""
    built = CACHE / f"kube-apiserver-{KUBERNETES}"
    return str(built) if built.exists() else shutil.which("kube-apiserver")


@contextmanager
def api(program: str, folder: Path) -> Iterator[dict[str, str]]:
    """A real API server with nothing behind it; gives the environment for kubectl."""
    store, peer, port = "http://127.0.0.1:23790", "http://127.0.0.1:23800", "26443"
    key = str(folder / "sa.key")
    run("openssl", "genrsa", "-out", key, "2048")
    (folder / "tokens.csv").write_text("only-here,admin,1,system:masters\n", encoding="utf-8")
    etcd = ["etcd", "--data-dir", str(folder / "etcd"), "--initial-cluster", f"default={peer}"]
    etcd += ["--listen-client-urls", store, "--advertise-client-urls", store]
    etcd += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
    apiserver = [program, f"--etcd-servers={store}", f"--secure-port={port}", "--bind-address=127.0.0.1"]
    apiserver += [
        f"--cert-dir={folder}/certs",
        f"--token-auth-file={folder}/tokens.csv",
        "--authorization-mode=RBAC",
    ]
    apiserver += ["--service-account-issuer=https://localhost", f"--service-account-key-file={key}"]
    apiserver += [f"--service-account-signing-key-file={key}", "--service-cluster-ip-range=10.96.0.0/16"]
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "clusters": [
            {
                "name": "c",
                "cluster": {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True},
            }
        ],
        "users": [{"name": "u", "user": {"token": "only-here"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    (folder / "config").write_text(yaml.safe_dump(config), encoding="utf-8")
    env = {**os.environ, "KUBECONFIG": str(folder / "config")}
    with ExitStack() as stack:
        log = stack.enter_context((folder / "log").open("wb"))
        for command in (etcd, apiserver):
            process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - our own commands
            stack.callback(process.wait, 30)
            stack.callback(process.terminate)
        deadline = time.monotonic() + _SECONDS  # noqa: TID251 - a script has no clock handed in
        while True:
            try:
                run("kubectl", "get", "--raw", "/readyz", env=env)
                break
            except Failure as failure:
                if time.monotonic() > deadline:  # noqa: TID251 - as above
                    raise Failure(f"the API server does not start: {failure}") from failure
                time.sleep(0.5)  # noqa: TID251 - as above
        yield env


def by_server(rendered: Sequence[Path], program: str, folder: Path) -> None:
    """Offer everything to a real API server; unknown fields and pods that are not restricted are refused."""
    with api(program, folder) as env:
        crds = definitions(folder)
        if crds:
            files = [argument for path in crds for argument in ("-f", str(path))]
            run("kubectl", "apply", "--server-side", *files, env=env)
            names = [yaml.safe_load(path.read_text(encoding="utf-8"))["metadata"]["name"] for path in crds]
            run("kubectl", "wait", "--for=condition=Established", *[f"crd/{name}" for name in names], env=env)
        for path in rendered:
            documents = [each for each in yaml.safe_load_all(path.read_text(encoding="utf-8")) if each]
            namespace = next(each for each in documents if each["kind"] == "Namespace")
            namespace["metadata"]["labels"]["pod-security.kubernetes.io/warn"] = "restricted"
            (folder / "namespace.yaml").write_text(yaml.safe_dump(namespace), encoding="utf-8")
            run("kubectl", "apply", "--server-side", "-f", str(folder / "namespace.yaml"), env=env)
            dry = ["--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict"]
            said = run("kubectl", "--warnings-as-errors", "apply", *dry, "-f", str(path), env=env)
            print(f"k8s-check: {path.stem}: the API server takes all {len(said.splitlines())} objects")


def build_server() -> None:
    """Build kube-apiserver from its published Go module; 10 to 20 minutes."""
    target = CACHE / f"kube-apiserver-{KUBERNETES}"
    minor = KUBERNETES.partition(".")[2]
    with TemporaryDirectory(prefix="estarsync-apiserver-") as name:
        lines = ["module local/apiserver", "go 1.24", f"require k8s.io/kubernetes v{KUBERNETES}"]
        lines += [f"replace k8s.io/{part} => k8s.io/{part} v0.{minor}" for part in STAGING]
        Path(name, "go.mod").write_text("\n".join(lines) + "\n", encoding="utf-8")
        package = "k8s.io/kubernetes/cmd/kube-apiserver"
        run("go", "get", f"{package}@v{KUBERNETES}", cwd=Path(name))
        flags = f"-s -w -X k8s.io/component-base/version.gitVersion=v{KUBERNETES}"
        run("go", "build", "-mod=mod", "-ldflags", flags, "-o", str(target), package, cwd=Path(name))
    print(target)


def main() -> int:
    """Check everything, or build the API server."""
    try:
        if sys.argv[1:] == ["build-apiserver"]:
            build_server()
            return 0
        run(sys.executable, str(ROOT / "tools/manifests.py"), "--check")
        with TemporaryDirectory(prefix="estarsync-k8s-") as name:
            folder = Path(name)
            rendered = [render(overlay, folder) for overlay in OVERLAYS]
            for path in rendered:
                print(f"k8s-check: {path.stem}: {by_schema(path, folder)}")
            program = server()
            if program is None or shutil.which("etcd") is None or shutil.which("kubectl") is None:
                print(
                    "k8s-check: no API server asked: `make k8s-apiserver` builds one; it needs etcd and kubectl too"
                )
            else:
                by_server(rendered, program, folder)
    except Failure as failure:
        print(f"k8s-check: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
