"""The errors that a server answers with: each knows its status and what clients look for."""

from __future__ import annotations

from emokernel.errors import EmokernelError


class RefusedError(EmokernelError):
    """A request that is not served; ``reason`` is the label under which it is counted."""

    status = 400
    reason = "body"
    code: str | None = None

    @property
    def headers(self) -> dict[str, str]:
        """What the answer's head says beside the status."""
        return {}


class BodyError(RefusedError):
    """A body that is wrong; ``param`` names the field."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


class HeadError(RefusedError):
    """A request line or header that cannot be."""

    reason = "head"


class NoKeyError(RefusedError):
    """No key, or none that is known."""

    status, reason, code = 401, "key", "invalid_api_key"

    @property
    def headers(self) -> dict[str, str]:
        """The scheme in which a key is given."""
        return {"www-authenticate": "Bearer"}


class NotAllowedError(RefusedError):
    """A web page, or a name of this machine, that was not allowed."""

    status, reason, code = 403, "not_allowed", "not_allowed"


class NotFoundError(RefusedError):
    """Something that is not here, or no longer."""

    status, reason, code = 404, "not_found", "not_found"


class ConflictError(RefusedError):
    """Something that is here, but cannot be done with it now."""

    status, reason, code = 409, "conflict", "conflict"


class _ClosingError(RefusedError):
    """What is still to come of the body is not read: the connection ends with the answer."""

    @property
    def headers(self) -> dict[str, str]:
        """The end of the connection."""
        return {"connection": "close"}


class SlowError(_ClosingError):
    """A body that does not arrive."""

    status, reason, code = 408, "slow", "request_timeout"


class TooLargeError(_ClosingError):
    """A body of more bytes than are taken."""

    status, reason, code = 413, "too_large", "request_too_large"


class NotJSONError(RefusedError):
    """A body that is not declared as JSON."""

    status, reason, code = 415, "content_type", "unsupported_media_type"


class _LaterError(RefusedError):
    """Something that can be later; ``retry_after``: in how many seconds, None for unknown."""

    def __init__(self, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    @property
    def headers(self) -> dict[str, str]:
        """When to ask again."""
        return {} if self.retry_after is None else {"retry-after": str(self.retry_after)}


class BusyError(_LaterError):
    """More requests wait already than may."""

    status, reason, code = 429, "busy", "rate_limit_exceeded"


class DrainingError(_LaterError):
    """The server is about to end."""

    status, reason, code = 503, "draining", "shutting_down"


class UnavailableError(_LaterError):
    """A part of the server that is not there, or not yet."""

    status, reason, code = 503, "unavailable", "unavailable"
