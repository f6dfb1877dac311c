"""Claim: what the how-to pages say can be typed as it stands, and does what they say."""

import re
import subprocess
from pathlib import Path

import pytest

pytestmark = [pytest.mark.e2e, pytest.mark.long]
HOW_TO = Path(__file__).parents[2] / "docs" / "how-to"
PAGES = (  # in this order: an erasure comes last
    "see-how-it-goes",
    "trace-a-record",
    "reconcile",
    "fly-a-canary",
    "dead-letters",
    "replay",
    "release-what-stopped",
    "erase-a-shopper",
)
_BLOCK = re.compile(r"^```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_EXIT_CODE = re.compile(r"# exit code (\d+)$", re.MULTILINE)


def test_the_how_to_pages_work(installation, tmp_path):
    installation.load()
    installation.wait_until("agreement", lambda: installation.command("reconcile")[0] == 0)
    truth = installation.truth()
    environment = {
        **installation.environment,
        "EMAIL": truth["orders"]["expected"][0]["email"],
        "ORDER": truth["orders"]["expected"][0]["id"],
        "SKU": truth["products"]["expected"][0],
        "LOADER_URL": f"http://127.0.0.1:{installation.ports['loader']}",
        "EXTRACTOR_URL": f"http://127.0.0.1:{installation.ports['extractor']}",
    }
    for page in PAGES:
        blocks = _BLOCK.findall((HOW_TO / f"{page}.md").read_text(encoding="utf-8"))
        assert blocks, page
        for block in blocks:
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block],  # noqa: S607 - the user's own shell
                cwd=tmp_path,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=240,
                check=False,
            )
            print(f"{page}: {block.splitlines()[0]}")  # noqa: T201 - a slow page is named by the test's output
            expected = _EXIT_CODE.search(block)
            wanted = int(expected[1]) if expected else 0
            said = f"{page}:\n{block}\n{done.stdout}\n{done.stderr}\n{installation.logs()}"
            assert done.returncode == wanted, said
            assert "Traceback" not in done.stderr, said
    index = (HOW_TO / "README.md").read_text(encoding="utf-8")
    assert all(f"({page}.md)" in index for page in PAGES)
