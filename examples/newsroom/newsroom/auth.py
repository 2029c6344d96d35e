"""The secret that workers and producers share, as a bearer token."""

import hmac


def header(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def allows(authorization: str | None, token: str) -> bool:
    scheme, _, given = (authorization or "").partition(" ")
    # compare_digest takes as long for a near miss as for a wild guess.
    return scheme.lower() == "bearer" and hmac.compare_digest(given.encode(), token.encode())
