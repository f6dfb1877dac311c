"""The sandbox Dotdigital: a simulator of Dotdigital's API.

It is held to Dotdigital's published OpenAPI files and to what is known of the API beyond them. Where the two are
silent, the choice made here is an option with a documented default, and the default is the stricter one.

`handler.DotdigitalSandbox` is a function from request to response over an account's state: `httpx.MockTransport` takes
it in tests, and `server.serve` puts it on a port.
"""
