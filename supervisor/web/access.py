"""Who may ask: a bearer token, compared in constant time. An application with its own login hands that in instead."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

_BEARER = HTTPBearer(auto_error=False, scheme_name="token", description="The token that the router was given.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]


def token_required(token: str) -> Callable[[HTTPAuthorizationCredentials | None], Awaitable[None]]:
    """Return the dependency that lets through who has this token: 401 without any, 403 with another one."""
    if not token:
        raise ValueError("token: is empty, must be a string of at least one character or None")
    expected = token.encode()

    async def check_token(given: Credentials) -> None:
        if given is None:
            raise HTTPException(
                HTTPStatus.UNAUTHORIZED, "a bearer token is needed", headers={"WWW-Authenticate": "Bearer"}
            )
        if not hmac.compare_digest(given.credentials.encode(errors="replace"), expected):
            raise HTTPException(HTTPStatus.FORBIDDEN, "this token does not give access")

    return check_token
