"""`estarsync config`: a profile checked, and a record explained, from a file and from the shop."""

import json
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from typer.testing import CliRunner

from estarsync_cli.app import app
from estarsync_core.errors import ConfigurationError
from estarsync_core.profile_schema import profile_schema
from estarsync_runtime.testing import FakeClock
from sandbox.asgi import asgi, serving
from sandbox.estar import profile_path
from sandbox.estar.generate import generate
from sandbox.estar.soap import ShopSandbox

PROFILE = 'websites: {1: {currency: NZD, product_url: "https://x/{id}", image_base: "https://x"}}\n'
CUSTOMER = {
    "ID": "7",
    "Email": "aroha@shop.example",
    "FirstName": "Aroha",
    "Password": "secret",
    "LpmStatus": "1",
}


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "profile.yaml"
    path.write_text(PROFILE)
    monkeypatch.setenv("TENANT_PROFILE", str(path))
    return path


def run(*arguments: str, exit_code: int = 0) -> str:
    result = CliRunner().invoke(app, ["config", *arguments])
    assert result.exit_code == exit_code, result.output
    return result.output


def refused(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["config", *arguments])
    assert isinstance(result.exception, ConfigurationError), result.output
    return str(result.exception)


def test_a_good_profile_is_said_to_be(profile: Path) -> None:
    assert run("check") == f"ok: {profile} is a whole profile\n"
    assert json.loads(run("check", str(profile), "--json")) == {
        "ok": True,
        "profile": str(profile),
        "problems": [],
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (PROFILE + "surprise: 1\n", ":2: surprise: is an unknown key"),
        (
            PROFILE + "contacts:\n  fields:\n    DOB: {path: Account}\n",
            ":4: contacts.fields.DOB.path: 'Account' is",
        ),
        (PROFILE.replace("https://x/{id}", "x"), ":1: websites.1.product_url: 'x' must start with http"),
    ],
)
def test_each_problem_has_its_file_and_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    assert f"{path}{said}" in run("check", str(path), exit_code=2)
    document = json.loads(run("check", str(path), "--json", exit_code=2))
    assert not document["ok"]


def test_the_schema_is_printed() -> None:
    assert json.loads(run("schema")) == profile_schema()


def saved(folder: Path, content: Any) -> str:
    path = folder / "record"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


@pytest.mark.usefixtures("profile")
def test_a_record_in_a_file_is_explained_without_showing_a_person(tmp_path: Path) -> None:
    path = ""
    for content in ({"customers": [CUSTOMER]}, CUSTOMER, [CUSTOMER]):
        path = saved(tmp_path, content)
        masked = run("explain", "--record", path, "--entity", "contacts", "--json")
        assert "Aroha" not in masked
        assert "aroha" not in masked
        shown = run("explain", "--record", path, "--entity", "contacts", "--json", "--show-values")
        fields = {field["name"]: field for field in json.loads(shown)["records"][0]["fields"]}
        assert fields["FIRSTNAME"]["value"] == "Aroha"
        assert fields["FIRSTNAME"]["sources"] == [{"path": "customers[0].FirstName", "text": "Aroha"}]
        assert fields["NEWSLETTER_SUBSCRIBE"]["value"] is True
        assert "secret" not in shown
    assert "customers[0].FirstName" in run("explain", "--record", path, "--entity", "contacts")


@pytest.mark.usefixtures("profile")
def test_a_product_and_a_saved_answer_are_explained(tmp_path: Path) -> None:
    event = {"product": {"ID": "5", "Title": "Tee", "Price": "10"}, "item": {"Barcode": "A"}}
    document = json.loads(run("explain", "--record", saved(tmp_path, event), "--json"))
    assert {f["name"]: f["value"] for f in document["records"][0]["fields"]}["name"] == "Tee"
    answer = (
        '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><RetrieveResponse><RetrieveResult>'
        "<Data><Order><ID>45</ID><Email>nobody</Email><Status>Completed</Status></Order></Data></RetrieveResult>"
        "</RetrieveResponse></s:Body></s:Envelope>"
    )
    path = saved(tmp_path, answer)
    assert "orders 45: dead_letter: lines: missing" in run(
        "explain", "--record", path, "--entity", "orders", exit_code=1
    )
    assert "--entity" in refused("explain", "--record", path)
    path = saved(tmp_path, answer.replace("<Data>", "<Success>false</Success><Code>3</Code><Data>"))
    assert "Success=false, code 3" in refused("explain", "--record", path, "--entity", "orders")


@pytest.mark.usefixtures("profile")
def test_what_can_not_be_explained_says_what_to_do(tmp_path: Path) -> None:
    path = saved(tmp_path, [CUSTOMER])
    assert "either --record FILE or --id N" in refused("explain")
    assert "--entity" in refused("explain", "--id", "7")
    assert "--entity" in refused("explain", "--record", path)
    assert "cannot read" in refused("explain", "--record", str(tmp_path / "none"))
    assert "neither JSON nor XML" in refused(
        "explain", "--record", saved(tmp_path, "{"), "--entity", "orders"
    )
    assert "an ID of their own" in refused(
        "explain", "--record", saved(tmp_path, "[1]"), "--entity", "orders"
    )
    nobody = saved(tmp_path, {**CUSTOMER, "Email": ""})
    output = run("explain", "--record", nobody, "--entity", "contacts", exit_code=1)
    assert "contacts 7: a dead letter of the extractor: missing" in output


def test_a_record_is_fetched_from_the_shop_by_its_id(monkeypatch: pytest.MonkeyPatch) -> None:
    shop = generate(30, 1, ZoneInfo("Europe/London"))
    sandbox = ShopSandbox(shop, FakeClock())
    split = next(order for order in shop.orders.records.values() if order.parent is not None)
    product = next(
        product
        for product in shop.products.records.values()
        if product.rows("Items") and all(item.get("Barcode") for item in product.rows("Items"))
    )
    with serving(asgi(sandbox.handle)) as url:
        for name, value in {
            "TENANT_PROFILE": str(profile_path()),
            "ESTAR_BASE_URL": url,
            "ESTAR_USERNAME": "sandbox",
            "ESTAR_PASSWORD": "sandbox",
        }.items():
            monkeypatch.setenv(name, value)
        output = run("explain", "--id", str(split.id), "--entity", "orders", "--json", "--show-values")
        root = shop.tree(split)[0]
        assert json.loads(output)["records"][0]["key"] == str(root.id)
        products = json.loads(run("explain", "--id", str(product.id), "--entity", "products", "--json"))
        assert len(products["records"]) >= 1
        assert "the shop returns no contacts with id 99" in refused(
            "explain", "--id", "99", "--entity", "contacts"
        )
