"""The secret that workers and producers share, as a bearer token."""

import hmac


def header(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def allows(authorization: str | None, *tokens: str) -> bool:
    """Whether the header has one of the tokens; while the token changes there are two. An empty token never matches."""
    scheme, _, given = (authorization or "").partition(" ")
    # Constant time, so the answer's delay does not reveal how much of a guess is right.
    matches = [hmac.compare_digest(given.encode(), token.encode()) for token in tokens if token]
    return scheme.lower() == "bearer" and any(matches)
