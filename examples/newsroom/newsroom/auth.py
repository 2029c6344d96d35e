"""The secret that workers and producers share, as a bearer token."""

import hmac


def header(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def allows(authorization: str | None, *tokens: str) -> bool:
    """Any of the tokens opens; while the token changes there are two. An empty one opens nothing."""
    scheme, _, given = (authorization or "").partition(" ")
    # compare_digest takes as long for a near miss as for a wild guess.
    matches = [hmac.compare_digest(given.encode(), token.encode()) for token in tokens if token]
    return scheme.lower() == "bearer" and any(matches)
