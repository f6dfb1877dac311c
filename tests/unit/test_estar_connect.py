"""Where the site and its credentials come from: the environment first, then where the profile points."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from estarsync_core.errors import ConfigurationError
from estarsync_core.profile import TenantProfile, load_profile
from estarsync_runtime.estar.connect import EstarSettings, located

WEBSITES = 'websites: {1: {currency: NZD, product_url: "https://x/{id}", image_base: "https://x"}}\n'


def profile(site: str = "{}") -> TenantProfile:
    return load_profile(WEBSITES + f"site: {site}", "test")


def settings(url: str = "", username: str = "", password: str = "") -> EstarSettings:
    return EstarSettings.model_construct(
        estar_base_url=url,
        estar_username=username,
        estar_password=SecretStr(password),
        tenant_profile=Path("profile.yaml"),
    )


def who(found: EstarSettings) -> tuple[str, str, str]:
    return found.estar_base_url, found.estar_username, found.estar_password.get_secret_value()


def test_the_environment_goes_before_the_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER", "someone else")
    mine = settings("https://mine.example", "me", "secret")
    other = profile("{base_url: 'https://other.example/', username: {env: OTHER}, password: {env: OTHER}}")
    assert who(located(mine, other)) == ("https://mine.example", "me", "secret")
    assert who(located(settings(), other)) == ("https://other.example", "someone else", "someone else")


def test_a_secret_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("a secret\n")
    found = located(settings("https://x", "me"), profile(f"{{password: {{file: {tmp_path}/password}}}}"))
    assert who(found) == ("https://x", "me", "a secret")
    assert "a secret" not in repr(found)


@pytest.mark.parametrize(
    "url", ["shop.example", "ftp://shop.example", "https://u:p@shop.example", "https://x/?a=b", "http://[x"]
)
def test_a_wrong_url_is_told_with_the_rest_and_without_its_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        located(settings(url), profile("{username: {env: NOBODY}, password: {env: NOBODY}}"))
    assert [problem.split(":")[0].split(" ")[0] for problem in caught.value.problems] == [
        "ESTAR_BASE_URL",
        "ESTAR_USERNAME",
        "ESTAR_PASSWORD",
    ]
    assert "u:p" not in str(caught.value)


def test_all_that_is_missing_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ESTAR_USERNAME", raising=False)
    with pytest.raises(ConfigurationError) as caught:
        located(settings(), profile(f"{{password: {{file: {tmp_path}/none}}}}"))
    base_url, username, password = caught.value.problems
    assert (
        base_url == "ESTAR_BASE_URL is not set: set this environment variable, or the profile's site.base_url"
    )
    assert username == "ESTAR_USERNAME is not set: set this environment variable"
    assert password.startswith("ESTAR_PASSWORD is not set, and the profile's file can't be read: ")
    with pytest.raises(ConfigurationError, match="nor is there anything in NOBODY, where the profile points"):
        located(settings("https://x", password="x"), profile("{username: {env: NOBODY}}"))
