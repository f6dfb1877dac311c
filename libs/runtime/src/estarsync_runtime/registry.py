"""A schema registry with Confluent's REST API: the two calls that we need."""

import base64
import json
from http import HTTPStatus
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit, urlunsplit
from urllib.request import Request, urlopen

from estarsync_core.errors import ConfigurationError, RetryLater

Schema = dict[str, Any]

_JSON = "application/vnd.schemaregistry.v1+json"
_PASSING = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}


class SchemaRegistry:
    """Registers schemas and looks them up; blocks for each call, ten seconds at most.

    Args:
        url: of the registry, such as `http://registry:8081`; a user and password in it are sent as basic
            authentication.
        timeout: seconds for a call.
    """

    def __init__(self, url: str, timeout: float = 10.0) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ConfigurationError(["SCHEMA_REGISTRY_URL: give a URL such as http://registry:8081"])
        host = parts.netloc.rpartition("@")[2]
        self._base = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        self._headers = {"Content-Type": _JSON, "Accept": _JSON}
        if parts.username:
            user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._headers["Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
        self._timeout = timeout

    def register(self, subject: str, schema: Schema) -> int:
        """The number of a schema, which becomes the subject's newest version unless it is one already.

        Raises:
            ConfigurationError: the registry refuses it: it is not compatible, or we may not.
            RetryLater: the registry does not answer.
        """
        body = json.dumps({"schemaType": "AVRO", "schema": json.dumps(schema)}).encode()
        path = f"/subjects/{quote(subject, safe='')}/versions"
        status, answer = self._call(Request(self._base + path, body, self._headers, method="POST"))  # noqa: S310 - the scheme is checked
        number = answer.get("id") if status == HTTPStatus.OK else None
        if not isinstance(number, int):
            said = f"{status} {answer.get('message', '')}".strip()
            problem = f"the schema registry refuses the schema of {subject} ({said}): "
            remedy = "let the transformer write there, or set the compatibility that the topic's readers need"
            raise ConfigurationError([problem + remedy])
        return number

    def schema(self, number: int) -> Schema | None:
        """The schema with this number; None where there is none, or where it is no record.

        Raises:
            ConfigurationError: the registry refuses to tell.
            RetryLater: the registry does not answer.
        """
        status, answer = self._call(Request(f"{self._base}/schemas/ids/{number}", headers=self._headers))  # noqa: S310 - as above
        if status == HTTPStatus.NOT_FOUND:
            return None
        if status != HTTPStatus.OK:
            raise ConfigurationError(
                [f"the schema registry refuses to show schema {number} ({status}): let this user read it"]
            )
        try:
            schema = json.loads(answer["schema"])
        except (KeyError, TypeError, ValueError):
            return None
        return schema if isinstance(schema, dict) else None

    def _call(self, request: Request) -> tuple[int, dict[str, Any]]:
        try:
            with urlopen(request, timeout=self._timeout) as response:  # noqa: S310 - as above
                status, text = response.status, response.read()
        except HTTPError as error:
            with error:
                status, text = error.code, error.read()
        except (OSError, HTTPException) as error:
            raise RetryLater(
                f"the schema registry at {self._base} does not answer ({type(error).__name__})"
            ) from error
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _PASSING:
            raise RetryLater(f"the schema registry answers {status}")
        try:
            answer = json.loads(text)
        except ValueError:
            answer = {}
        return status, answer if isinstance(answer, dict) else {}
