"""Claim: bad input ends the demo with a clear line and exit code 2, with nothing half done."""

import gzip

import pytest

pytestmark = pytest.mark.e2e

HEADER = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b\n1,2\n", "column"),
        (HEADER + "536365,85123A,X,six,2010-12-01 08:26:00,2.55,17850.0,UK\n", "line 2"),
        (HEADER + "536365,85123A,X,6,yesterday,2.55,17850.0,UK\n", "line 2"),
        ("", "empty"),
    ],
)
def test_a_malformed_file_is_named(demo, tmp_path, text, said):
    path = tmp_path / "shop.csv"
    path.write_text(text)
    run = demo("--data", str(path), SANDBOX_BROKER="mock")
    assert run.wait(60) == 2, run.output
    assert said in run.output
    assert "Traceback" not in run.output
    assert not (run.folder / "demo-report.json").exists()


def test_a_file_that_is_not_there_is_named(demo, tmp_path):
    run = demo("--data", str(tmp_path / "none.csv.gz"))
    assert run.wait(60) == 2, run.output
    assert "none.csv.gz" in run.output


def test_an_unreachable_broker_is_named(demo):
    run = demo("--size", "5", KAFKA_BOOTSTRAP_SERVERS="127.0.0.1:1")
    assert run.wait(60) == 2, run.output
    assert "KAFKA_BOOTSTRAP_SERVERS" in run.output
    assert "Traceback" not in run.output


def test_the_broker_in_memory_refuses_a_real_shop(demo, tmp_path):
    path = tmp_path / "shop.csv.gz"
    path.write_bytes(gzip.compress((HEADER + "1,A,X,6,2010-12-01 08:26:00,2.55,1.0,UK\n").encode()))
    run = demo("--data", str(path), SANDBOX_BROKER="mock")
    assert run.wait(60) == 2, run.output
    assert "broker in memory" in run.output
